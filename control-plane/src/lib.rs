//! control-plane: API server, scheduler and controllers, put together. It knows the datastore as `api_server::Store` only.

mod leader;

pub use leader::{Leadership, follow};
