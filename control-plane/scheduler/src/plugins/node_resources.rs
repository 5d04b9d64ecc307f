//! NodeResourcesFit: what the pod asks for must be free.

use crate::cache::Cluster;
use crate::framework::{NodeFilter, Reason};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    Some(Box::new(|node| match first_lack(pod, node) {
        None => Ok(()),
        Some(reason) => Err(reason),
    }))
}

fn first_lack(pod: &PodInfo, node: &NodeInfo) -> Option<Reason> {
    let (wanted, used, all) = (&pod.requests, &node.requested, &node.allocatable);
    if used.pods + 1 > all.pods {
        return Some("Too many pods".into());
    }
    let lacks = |wanted: i64, used: i64, all: i64| wanted > 0 && wanted > all.saturating_sub(used);
    if lacks(wanted.cpu_milli, used.cpu_milli, all.cpu_milli) {
        return Some("Insufficient cpu".into());
    }
    if lacks(wanted.memory, used.memory, all.memory) {
        return Some("Insufficient memory".into());
    }
    if lacks(
        wanted.ephemeral_storage,
        used.ephemeral_storage,
        all.ephemeral_storage,
    ) {
        return Some("Insufficient ephemeral-storage".into());
    }
    let of = |map: &std::collections::BTreeMap<String, i64>, name: &str| {
        map.get(name).copied().unwrap_or(0)
    };
    let lacking = wanted
        .others
        .iter()
        .find(|(name, w)| lacks(**w, of(&used.others, name), of(&all.others, name)));
    lacking.map(|(name, _)| format!("Insufficient {name}").into())
}
