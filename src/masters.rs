//! What makes a server one of several masters: its member of the store, how it joins, and how masters are listed and removed.
//!
//! It connects the store's membership with the cluster's certificates and the API; the rules of either are theirs.

mod bundle;
mod certificates;
mod endpoint;
mod join;
mod kept;
mod life;
mod member;
mod seal;
mod server_token;
mod settings;

pub use bundle::complete as complete_take_over;
pub use certificates::{CertificatesApi, PATH as CERTIFICATES_PATH};
pub use endpoint::Masters;
pub use join::begin;
pub use kept::{adopt, follow as follow_keys, keep_bundle};
pub use life::{follow as follow_signs, keep_sign};
pub use member::{Member, await_majority, open, removed, reset, warn_about_two};
pub use settings::ClusterSettings;

/// The path under which masters join, are listed and removed.
pub const PATH: &str = "/xebec/masters";
