//! NodeName: a pod that names a node runs there or nowhere. (Bound pods never come here; this is for pods that are
//! re-examined.)

use crate::cache::Cluster;
use crate::framework::NodeFilter;
use crate::pod_info::PodInfo;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    let wanted = pod.spec()?.node_name.as_deref().filter(|n| !n.is_empty())?;
    Some(Box::new(move |node| {
        if node.name == wanted {
            Ok(())
        } else {
            Err("node(s) didn't match the requested node name".into())
        }
    }))
}
