//! A pod with what the plugins ask for again and again, computed once.

use std::sync::Arc;

use api_client::ObjectKey;
use k8s_openapi::api::core::v1::{
    Pod, PodAffinity, PodAffinityTerm, PodAntiAffinity, PodSpec, Toleration,
    WeightedPodAffinityTerm,
};

use crate::resources::{Resources, pod_requests, pod_scored_requests};
use crate::terms::{Labels, selector_matches};

/// Protocol, host address (empty for all) and port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: String,
    pub ip: String,
    pub port: i32,
}

impl HostPort {
    /// Whether both cannot be had on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip.is_empty() || other.ip.is_empty())
    }
}

/// A pod, as the scheduler sees it.
#[derive(Debug)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub uid: String,
    pub pod: Arc<Pod>,
    pub priority: i32,
    pub requests: Resources,
    pub scored_requests: Resources,
    pub host_ports: Vec<HostPort>,
    /// Uid of the controller that made it.
    pub controller: Option<String>,
}

/// No labels at all.
static NO_LABELS: Labels = Labels::new();

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let empty = PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        Self {
            key: ObjectKey::of(pod.as_ref()),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            requests: pod_requests(spec),
            scored_requests: pod_scored_requests(spec),
            host_ports: host_ports(spec),
            controller: controller_of(&pod),
            pod,
        }
    }

    pub fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub fn labels(&self) -> &Labels {
        self.pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    pub fn tolerations(&self) -> &[Toleration] {
        self.spec()
            .and_then(|s| s.tolerations.as_deref())
            .unwrap_or_default()
    }

    fn affinity(&self) -> Option<&PodAffinity> {
        self.spec()?.affinity.as_ref()?.pod_affinity.as_ref()
    }

    fn anti_affinity(&self) -> Option<&PodAntiAffinity> {
        self.spec()?.affinity.as_ref()?.pod_anti_affinity.as_ref()
    }

    pub fn required_affinity(&self) -> &[PodAffinityTerm] {
        self.affinity()
            .and_then(|a| {
                a.required_during_scheduling_ignored_during_execution
                    .as_deref()
            })
            .unwrap_or_default()
    }

    pub fn required_anti_affinity(&self) -> &[PodAffinityTerm] {
        self.anti_affinity()
            .and_then(|a| {
                a.required_during_scheduling_ignored_during_execution
                    .as_deref()
            })
            .unwrap_or_default()
    }

    pub fn preferred_affinity(&self) -> &[WeightedPodAffinityTerm] {
        self.affinity()
            .and_then(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .as_deref()
            })
            .unwrap_or_default()
    }

    pub fn preferred_anti_affinity(&self) -> &[WeightedPodAffinityTerm] {
        self.anti_affinity()
            .and_then(|a| {
                a.preferred_during_scheduling_ignored_during_execution
                    .as_deref()
            })
            .unwrap_or_default()
    }

    /// Whether `term`, written in `owner`'s spec, selects this pod.
    pub fn selected_by(&self, term: &PodAffinityTerm, owner: &Self) -> bool {
        let listed = term.namespaces.as_deref().unwrap_or_default();
        let in_namespace = match &term.namespace_selector {
            // Only the empty selector (all namespaces) is decided without reading namespaces' labels.
            Some(selector) if selector_matches(Some(selector), &NO_LABELS) => true,
            _ if listed.is_empty() => self.key.namespace == owner.key.namespace,
            _ => listed.contains(&self.key.namespace),
        };
        in_namespace && selector_matches(term.label_selector.as_ref(), self.labels())
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = spec
        .containers
        .iter()
        .flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|p| *p > 0)?;
            let ip = port
                .host_ip
                .clone()
                .filter(|ip| ip != "0.0.0.0")
                .unwrap_or_default();
            Some(HostPort {
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                ip,
                port: host_port,
            })
        })
        .collect()
}

fn controller_of(pod: &Pod) -> Option<String> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners
        .filter(|o| o.controller == Some(true))
        .map(|o| o.uid.clone())
        .next()
}
