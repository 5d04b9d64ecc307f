//! NodeUnschedulable: a cordoned node takes no pods but those that tolerate its taint.

use k8s_openapi::api::core::v1::Taint;

use crate::cache::Cluster;
use crate::framework::NodeFilter;
use crate::pod_info::PodInfo;
use crate::terms::tolerates;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        effect: "NoSchedule".into(),
        ..Taint::default()
    };
    if pod.tolerations().iter().any(|t| tolerates(t, &taint)) {
        return None;
    }
    Some(Box::new(|node| {
        if node.is_unschedulable() {
            Err("node(s) were unschedulable".into())
        } else {
            Ok(())
        }
    }))
}
