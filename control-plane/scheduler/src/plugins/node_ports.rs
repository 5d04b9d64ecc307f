//! NodePorts: a host port is had once per node.

use crate::cache::Cluster;
use crate::framework::NodeFilter;
use crate::pod_info::PodInfo;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    if pod.host_ports.is_empty() {
        return None;
    }
    Some(Box::new(|node| {
        let taken = pod
            .host_ports
            .iter()
            .any(|wanted| node.host_ports.iter().any(|p| p.conflicts(wanted)));
        if taken {
            Err("node(s) didn't have free ports for the requested pod ports".into())
        } else {
            Ok(())
        }
    }))
}
