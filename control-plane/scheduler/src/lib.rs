//! scheduler: decides on which node each pod runs, and binds it there through the API.
//!
//! The decision is pure ([`framework`](self) and `plugins/`: pod and cluster in, node or reasons out); `cache` mirrors
//! what the decision needs, `queue` holds what waits, and `scheduler` is the one place with effects. A plugin is one
//! file and one row in `plugins.rs`. It knows the API through `api-client` only.

mod cache;
mod framework;
mod node_info;
mod plugins;
mod pod_info;
mod queue;
mod resources;
mod scheduler;
mod terms;

pub use scheduler::run;
