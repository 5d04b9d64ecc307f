//! NodeResourcesFit's score (least allocated): nodes with more free CPU and memory are liked more.

use crate::cache::Cluster;
use crate::framework::{MAX_SCORE, NodeScore};
use crate::pod_info::PodInfo;

pub fn score<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeScore<'a>> {
    Some(Box::new(|node| {
        let free = |wanted: i64, used: i64, all: i64| {
            let used = used.saturating_add(wanted);
            if all == 0 || used > all {
                0
            } else {
                (all - used) * MAX_SCORE / all
            }
        };
        let wanted = &pod.scored_requests;
        let cpu = free(
            wanted.cpu_milli,
            node.scored.cpu_milli,
            node.allocatable.cpu_milli,
        );
        // In mebibytes, so that the multiplication cannot overflow.
        let memory = free(
            wanted.memory >> 20,
            node.scored.memory >> 20,
            node.allocatable.memory >> 20,
        );
        (cpu + memory) / 2
    }))
}
