//! TaintToleration: taints keep away pods that do not tolerate them, or make a node less liked.

use crate::cache::Cluster;
use crate::framework::{NodeFilter, NodeScore};
use crate::pod_info::PodInfo;
use crate::terms::tolerates;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    Some(Box::new(|node| {
        let hard = node
            .taints()
            .iter()
            .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
        for taint in hard {
            if !pod.tolerations().iter().any(|t| tolerates(t, taint)) {
                return Err("node(s) had untolerated taint(s)".into());
            }
        }
        Ok(())
    }))
}

/// Counts the soft taints that are not tolerated: fewer is better.
pub fn score<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeScore<'a>> {
    Some(Box::new(|node| {
        let soft = node
            .taints()
            .iter()
            .filter(|t| t.effect == "PreferNoSchedule");
        soft.filter(|taint| !pod.tolerations().iter().any(|t| tolerates(t, taint)))
            .count() as i64
    }))
}
