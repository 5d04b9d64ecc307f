//! NodeResourcesBalancedAllocation: CPU and memory should be used to the same degree.

use crate::cache::Cluster;
use crate::framework::{MAX_SCORE, NodeScore};
use crate::pod_info::PodInfo;

pub fn score<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeScore<'a>> {
    let asks_for_nothing = pod.requests.cpu_milli == 0 && pod.requests.memory == 0;
    if asks_for_nothing {
        return None;
    }
    Some(Box::new(|node| {
        let fraction = |wanted: i64, used: i64, all: i64| {
            if all == 0 {
                1.0
            } else {
                ((used + wanted) as f64 / all as f64).min(1.0)
            }
        };
        let (wanted, used, all) = (&pod.requests, &node.requested, &node.allocatable);
        let cpu = fraction(wanted.cpu_milli, used.cpu_milli, all.cpu_milli);
        let memory = fraction(wanted.memory, used.memory, all.memory);
        // The standard deviation of two numbers is half their distance.
        ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
    }))
}
