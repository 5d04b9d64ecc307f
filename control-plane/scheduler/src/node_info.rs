//! A node with the pods that are on it, or are assumed to be soon, and what they take.

use std::collections::HashMap;
use std::sync::Arc;

use api_client::ObjectKey;
use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod_info::{HostPort, PodInfo};
use crate::resources::Resources;
use crate::terms::Labels;

static NO_LABELS: Labels = Labels::new();

/// A node, as the scheduler sees it.
#[derive(Debug)]
pub struct NodeInfo {
    pub name: String,
    /// None while only pods of the node are known, not the node itself.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub requested: Resources,
    pub scored: Resources,
    pub pods: HashMap<ObjectKey, Arc<PodInfo>>,
    /// Those of `pods` with required anti-affinity terms: they may refuse newcomers.
    pub with_anti_affinity: HashMap<ObjectKey, Arc<PodInfo>>,
    pub host_ports: Vec<HostPort>,
    /// Pods of each controller (by uid).
    pub of_controller: HashMap<String, usize>,
}

impl NodeInfo {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            node: None,
            allocatable: Resources::default(),
            requested: Resources::default(),
            scored: Resources::default(),
            pods: HashMap::new(),
            with_anti_affinity: HashMap::new(),
            host_ports: Vec::new(),
            of_controller: HashMap::new(),
        }
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        self.allocatable = allocatable.map(Resources::from_map).unwrap_or_default();
        self.node = Some(node);
    }

    pub fn labels(&self) -> &Labels {
        self.node
            .as_ref()
            .and_then(|n| n.metadata.labels.as_ref())
            .unwrap_or(&NO_LABELS)
    }

    pub fn taints(&self) -> &[Taint] {
        let spec = self.node.as_ref().and_then(|n| n.spec.as_ref());
        spec.and_then(|s| s.taints.as_deref()).unwrap_or_default()
    }

    pub fn is_unschedulable(&self) -> bool {
        let spec = self.node.as_ref().and_then(|n| n.spec.as_ref());
        spec.and_then(|s| s.unschedulable).unwrap_or(false)
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.remove_pod(&pod.key);
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored_requests);
        self.host_ports.extend(pod.host_ports.iter().cloned());
        if let Some(controller) = &pod.controller {
            *self.of_controller.entry(controller.clone()).or_default() += 1;
        }
        if !pod.required_anti_affinity().is_empty() {
            self.with_anti_affinity.insert(pod.key.clone(), pod.clone());
        }
        self.pods.insert(pod.key.clone(), pod);
    }

    pub fn remove_pod(&mut self, key: &ObjectKey) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(key)?;
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored_requests);
        for port in &pod.host_ports {
            if let Some(at) = self.host_ports.iter().position(|p| p == port) {
                self.host_ports.swap_remove(at);
            }
        }
        if let Some(count) = pod
            .controller
            .as_ref()
            .and_then(|c| self.of_controller.get_mut(c))
        {
            *count -= 1;
        }
        self.of_controller.retain(|_, count| *count > 0);
        self.with_anti_affinity.remove(key);
        Some(pod)
    }
}
