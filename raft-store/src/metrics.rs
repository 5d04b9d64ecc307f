//! Metrics of one store.
#[derive(Clone, Debug, Default)]
pub struct Metrics {}
