//! The built-in rows of the table of kinds: one file per family of groups, one row per kind.
//!
//! Only what is stable in Kubernetes 1.36 is served; beta and alpha versions are off by default upstream too.

mod apps;
mod core;
mod policy;
mod reviews;
mod row;
mod scheduling;
mod security;
mod server;
mod storage;

use crate::kind::Kind;

/// Every built-in row.
pub(crate) fn all() -> Vec<Kind> {
    [
        core::kinds(),
        apps::kinds(),
        policy::kinds(),
        reviews::kinds(),
        scheduling::kinds(),
        security::kinds(),
        server::kinds(),
        storage::kinds(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
