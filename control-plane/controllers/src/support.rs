//! What several controllers share: object metadata, selectors, adoption, expectations, pods, hashes, histories.
//!
//! Everything here is either pure or a thin call to the API; no rule of a single controller belongs here.

mod adoption;
mod backoff;
mod expectations;
mod hash;
pub(crate) mod history;
mod labels;
mod meta;
mod node_match;
mod pod_control;
mod pods;
mod routing;
mod scaled;

pub(crate) use adoption::claim_objects;
pub(crate) use backoff::Backoff;
pub(crate) use expectations::Expectations;
pub(crate) use hash::computed_hash;
pub(crate) use labels::{Selector, matches_all};
pub(crate) use meta::{Meta, controller_of, is_controlled_by, owner_reference};
pub(crate) use node_match::{affinity_matches, is_ready_node, taints, tolerates, tolerates_all};
pub(crate) use pod_control::{BURST_REPLICAS, PodControl, is_namespace_terminating, slow_start};
pub(crate) use pods::*;
pub(crate) use routing::{owned_and_orphans, resolve, route_dependents, route_pods};
pub(crate) use scaled::scaled_value;

/// Counts are left out of a status when they are zero, as upstream's encoding does.
pub(crate) fn nonzero(count: i32) -> Option<i32> {
    Some(count).filter(|count| *count != 0)
}

/// A number of objects as the API counts them.
pub(crate) fn count(objects: usize) -> i32 {
    i32::try_from(objects).unwrap_or(i32::MAX)
}
