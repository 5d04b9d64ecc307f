//! What all pods of the node share: the ways to API, runtime and kernel. Built once, in `runtime`.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cgroups::Cgroups;
use crate::config::AgentConfig;
use crate::cri::Cri;
use crate::env::Sources;
use crate::events::Recorder;
use crate::fieldref::NodeFields;
use crate::network::{Protocol, ServiceCache};
use crate::objects::Objects;
use crate::pod::observed::Sandbox;
use crate::pod::spec;
use crate::pod::status::NodeFacts;
use crate::proxy::HostPort;
use crate::references::{References, references};
use crate::resolv::ClusterDns;
use crate::self_fence::Contact;
use crate::volumes::SharedVolumes;

/// Everything that pods' workers use.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) client: kube::Client,
    pub(crate) cri: Cri,
    pub(crate) recorder: Recorder,
    pub(crate) volumes: SharedVolumes,
    pub(crate) config_maps: Objects<ConfigMap>,
    pub(crate) secrets: Objects<Secret>,
    pub(crate) services: Arc<ServiceCache>,
    pub(crate) cgroups: Cgroups,
    pub(crate) dns: ClusterDns,
    pub(crate) facts: NodeFacts,
    /// The node's part of the downward API; pods add their own addresses.
    pub(crate) node_fields: NodeFields,
    /// False without CAP_SYS_RESOURCE.
    pub(crate) may_lower_oom_score: bool,
    pub(crate) host_ports: HostPorts,
    /// What ends pods while no master can be reached; none unless the agent was told to.
    pub(crate) self_fence: Option<Contact>,
}

impl Shared {
    /// The objects that a pod refers to, as they are now. The pod must hold them.
    pub(crate) async fn sources(&self, pod: &Pod) -> Result<Sources, String> {
        let References {
            config_maps,
            secrets,
        } = references(pod);
        let namespace = spec::namespace(pod);
        let mut sources = Sources::default();
        for name in config_maps {
            if let Some(found) = self.config_maps.get(namespace, &name).await? {
                sources.config_maps.insert(name, found);
            }
        }
        for name in secrets {
            if let Some(found) = self.secrets.get(namespace, &name).await? {
                sources.secrets.insert(name, found);
            }
        }
        // Variables of services must be complete from a container's first start on.
        let mut progress = self.services.progress();
        let _ = progress.wait_for(|p| p.synced()).await;
        sources.services = self.services.state().services().cloned().collect();
        Ok(sources)
    }

    /// The downward API's view of the node for a pod with these addresses.
    pub(crate) fn fields(&self, pod: &Pod, sandbox: Option<&Sandbox>) -> NodeFields {
        let pod_ips = match sandbox {
            _ if spec::host_network(pod) => self.facts.host_ips.clone(),
            Some(sandbox) => sandbox.ips.clone(),
            None => Vec::new(),
        };
        NodeFields {
            pod_ips,
            ..self.node_fields.clone()
        }
    }
}

/// Ports of the node that lead to pods, by pod; the service proxy follows them.
pub(crate) struct HostPorts {
    by_pod: Mutex<BTreeMap<String, Vec<HostPort>>>,
    sender: watch::Sender<Vec<HostPort>>,
}

impl HostPorts {
    /// None yet, and what follows them.
    pub(crate) fn new() -> (HostPorts, watch::Receiver<Vec<HostPort>>) {
        let (sender, receiver) = watch::channel(Vec::new());
        (
            HostPorts {
                by_pod: Mutex::default(),
                sender,
            },
            receiver,
        )
    }

    /// Sets the ports of a pod; without an address it has none.
    pub(crate) fn set(&self, pod: &Pod, sandbox: Option<&Sandbox>) {
        let ips = sandbox
            .filter(|s| s.ready && !s.host_network)
            .map(|s| s.ips.as_slice())
            .unwrap_or_default();
        let ports = ips
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .flat_map(|ip| host_ports(pod, ip))
            .collect();
        self.replace(spec::uid(pod), ports);
    }

    /// The pod is gone.
    pub(crate) fn remove(&self, uid: &str) {
        self.replace(uid, Vec::new());
    }

    fn replace(&self, uid: &str, ports: Vec<HostPort>) {
        let mut by_pod = self.by_pod.lock();
        let before = if ports.is_empty() {
            by_pod.remove(uid)
        } else {
            by_pod.insert(uid.to_string(), ports.clone())
        };
        if before.unwrap_or_default() != ports {
            self.sender
                .send_replace(by_pod.values().flatten().cloned().collect());
        }
    }
}

fn host_ports(pod: &Pod, pod_ip: std::net::IpAddr) -> Vec<HostPort> {
    let ports = spec::all_containers(pod).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                host_ip: port
                    .host_ip
                    .as_deref()
                    .and_then(|ip| ip.parse().ok())
                    .filter(|ip: &std::net::IpAddr| !ip.is_unspecified()),
                host_port: u16::try_from(port.host_port?).ok().filter(|p| *p > 0)?,
                protocol: match port.protocol.as_deref() {
                    Some("UDP") => Protocol::Udp,
                    Some("SCTP") => Protocol::Sctp,
                    _ => Protocol::Tcp,
                },
                pod_ip,
                container_port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}
