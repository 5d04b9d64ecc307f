//! The cluster as the scheduler believes it to be: nodes, pods on them, and pods just placed but not yet confirmed.
//!
//! Pure bookkeeping without I/O; the scheduler feeds it from informers and asks it for decisions.

use std::collections::HashMap;
use std::sync::Arc;

use api_client::ObjectKey;
use k8s_openapi::api::core::v1::Node;

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// Nodes in a stable order, each with its pods.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Where each pod is counted.
    placed: HashMap<ObjectKey, String>,
    /// Nodes with at least one pod that has required anti-affinity.
    pods_with_anti_affinity: usize,
}

impl Cluster {
    /// Nodes that exist.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> + Clone {
        self.nodes.iter()
    }

    pub fn any_anti_affinity(&self) -> bool {
        self.pods_with_anti_affinity > 0
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.entry(&name).set_node(node);
    }

    /// The node is gone; it stays only while pods are counted on it.
    pub fn remove_node(&mut self, name: &str) {
        let info = self.entry(name);
        info.node = None;
        info.allocatable = Default::default();
        self.drop_if_empty(name);
    }

    /// Counts the pod on its node; moves it if it was counted elsewhere.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.remove_pod(&pod.key);
        if !pod.required_anti_affinity().is_empty() {
            self.pods_with_anti_affinity += 1;
        }
        self.placed.insert(pod.key.clone(), node.to_owned());
        self.entry(node).add_pod(pod);
    }

    /// Answers whether the pod was counted anywhere.
    pub fn remove_pod(&mut self, key: &ObjectKey) -> bool {
        let Some(node) = self.placed.remove(key) else {
            return false;
        };
        if let Some(pod) = self.entry(&node).remove_pod(key)
            && !pod.required_anti_affinity().is_empty()
        {
            self.pods_with_anti_affinity -= 1;
        }
        self.drop_if_empty(&node);
        true
    }

    fn entry(&mut self, name: &str) -> &mut NodeInfo {
        let at = match self.by_name.get(name) {
            Some(at) => *at,
            None => {
                self.nodes.push(NodeInfo::new(name));
                self.by_name.insert(name.to_owned(), self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        &mut self.nodes[at]
    }

    fn drop_if_empty(&mut self, name: &str) {
        let Some(&at) = self.by_name.get(name) else {
            return;
        };
        if self.nodes[at].node.is_some() || !self.nodes[at].pods.is_empty() {
            return;
        }
        self.nodes.swap_remove(at);
        self.by_name.remove(name);
        if let Some(moved) = self.nodes.get(at) {
            self.by_name.insert(moved.name.clone(), at);
        }
    }
}
