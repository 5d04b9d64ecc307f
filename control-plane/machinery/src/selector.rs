//! Selectors: which objects a list, a watch or a controller means, by labels or by fields.
//!
//! Parsing follows upstream's grammar and words; matching reads borrowed labels and allocates nothing.

mod field;
mod label;
mod label_parser;
mod requirement;

pub use field::{FieldMatcher, FieldSelector, FieldTerm};
pub use label::{LabelLookup, LabelSelector};
pub use requirement::{Operator, Requirement};

/// A selector could not be understood; the text is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
