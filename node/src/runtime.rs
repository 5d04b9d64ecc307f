//! The one place where the agent's parts meet: built from the configuration, started in order, ended together.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api;
use crate::cgroups::{Cgroups, Driver};
use crate::config::AgentConfig;
use crate::containerd::{Containerd, ContainerdConfig};
use crate::cri::Cri;
use crate::dispatch::Pods;
use crate::dns::{self, DnsConfig};
use crate::enroll::Enrolled;
use crate::error::AgentError;
use crate::events::Recorder;
use crate::fieldref::NodeFields;
use crate::images::{self, ImagesConfig};
use crate::network::{self, NetworkConfig, ServiceCache};
use crate::node::{Heartbeat, Machine, allocatable, register, renew};
use crate::objects::Objects;
use crate::pod::status::NodeFacts;
use crate::proxy::{self, HostPort, ProxyConfig};
use crate::resolv::ClusterDns;
use crate::self_fence::Contact;
use crate::shared::{HostPorts, Shared};
use crate::volumes::Volumes;
use crate::{healthz, known_servers, log_rotation, pleg, server};

/// How long the runtime may take to answer for the first time.
const RUNTIME_START_LIMIT: Duration = Duration::from_secs(60);
/// How long the agent's tasks may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Runs the node agent until `shutdown`. Containers keep running when it ends: the next start takes them over.
/// The certificates of a node that is `enrolled` are kept good; those of any other are somebody else's to renew.
pub async fn run(
    config: AgentConfig,
    enrolled: Option<Enrolled>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    std::fs::create_dir_all(&config.data_dir).map_err(AgentError::io(&config.data_dir))?;
    // Everything ends with this token: by the caller's wish, or when this function returns early.
    let stop = shutdown.child_token();
    let _guard = stop.clone().drop_guard();
    let tasks = TaskTracker::new();
    let (client, servers) = api::client(&config)?;
    let kept = enrolled.as_ref().map(Enrolled::servers_file);
    if let Some(enrolled) = enrolled {
        tasks.spawn(enrolled.keep_renewed(client.clone(), stop.clone()));
    }
    let healthz = healthz::bind(config.healthz_port).await?;
    let listener = server::bind(&config).await?;
    let machine = Machine::read(&config.data_dir);
    let config = Arc::new(config);
    let started = async {
        tokio::try_join!(
            Runtime::start(&config),
            register(client.clone(), &config, &machine)
        )
    };
    let (runtime, node) = tokio::select! {
        started = started => started?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let recorder = Recorder::start(client.clone(), &config.node_name);
    let services = ServiceCache::start(client.clone(), stop.clone());
    let (host_ports, host_ports_now) = HostPorts::new();
    let shared = build_shared(
        &config, &client, &runtime, &machine, recorder, services, host_ports,
    )
    .await;
    let shared = Arc::new(shared);
    tasks.spawn(known_servers::follow(
        shared.services.clone(),
        servers,
        kept,
        stop.clone(),
    ));
    start_node(&tasks, &shared, node, machine, &runtime, &stop);
    service_network(&tasks, &shared, host_ports_now, &stop);
    let pods = Pods::new(shared.clone(), stop.clone());
    tasks.spawn(pods.clone().run());
    tasks.spawn(pleg::run(runtime.cri.clone(), pods.clone(), stop.clone()));
    tasks.spawn(log_rotation::run(runtime.cri.clone(), stop.clone()));
    tasks.spawn(healthz::serve(healthz, stop.clone()));
    tasks.spawn(server::serve(listener, shared, pods, stop.clone()));
    tracing::info!(
        node = config.node_name,
        port = config.kubelet_port,
        "the node agent runs"
    );
    stop.cancelled().await;
    tasks.close();
    let ended = tokio::time::timeout(STOP_LIMIT, tasks.wait()).await;
    if ended.is_err() {
        tracing::warn!("some of the node agent's tasks did not end in time");
    }
    runtime.detach().await;
    Ok(())
}

/// Starts what keeps the node's object, Lease, network and images true.
fn start_node(
    tasks: &TaskTracker,
    shared: &Arc<Shared>,
    node: Node,
    machine: Machine,
    runtime: &Runtime,
    stop: &CancellationToken,
) {
    let config = Arc::new(shared.config.clone());
    let client = &shared.client;
    let back = Arc::new(Notify::new());
    let heartbeat = Heartbeat {
        client: client.clone(),
        config: config.clone(),
        machine,
        cri: runtime.cri.clone(),
        recorder: shared.recorder.clone(),
        written: node.status.clone().unwrap_or_default(),
        back: back.clone(),
    };
    let contact = shared.self_fence.clone();
    tasks.spawn(renew(client.clone(), node, contact, back, stop.clone()));
    tasks.spawn(heartbeat.run(stop.clone()));
    let own = runtime.owned.is_some();
    let network = follow_network(
        client.clone(),
        config,
        runtime.cri.clone(),
        own,
        stop.clone(),
    );
    tasks.spawn(network);
    if let Some(images) = runtime.images() {
        let stop = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = images::watch(images, stop).await {
                tracing::warn!(%error, "image archives are not watched");
            }
        });
    }
}

/// The container runtime: somebody else's, or our own.
struct Runtime {
    endpoint: String,
    cri: Cri,
    owned: Option<(Containerd, ImagesConfig)>,
    version: k8s_cri::v1::VersionResponse,
}

impl Runtime {
    async fn start(config: &AgentConfig) -> Result<Runtime, AgentError> {
        let failed = |endpoint: &str, message: String| AgentError::Runtime {
            endpoint: endpoint.into(),
            message,
        };
        let (endpoint, owned) = match &config.container_runtime_endpoint {
            Some(endpoint) => (endpoint.clone(), None),
            None => {
                let own = ContainerdConfig {
                    agent_dir: config.data_dir.clone(),
                    sandbox_image: images::PAUSE_IMAGE.to_string(),
                };
                let containerd = Containerd::start(&own)
                    .await
                    .map_err(|e| failed("containerd", e.to_string()))?;
                let images = ImagesConfig {
                    agent_dir: config.data_dir.clone(),
                    containerd: containerd.address(),
                };
                images::import_pause(&images)
                    .await
                    .map_err(|e| failed(&containerd.endpoint(), e.to_string()))?;
                (containerd.endpoint(), Some((containerd, images)))
            }
        };
        let cri = Cri::new(&endpoint);
        let answer = tokio::time::timeout(RUNTIME_START_LIMIT, first_answer(&cri)).await;
        let version = answer.map_err(|_| failed(&endpoint, "did not answer in time".into()))?;
        let version = version.map_err(|e| failed(&endpoint, e.message().to_string()))?;
        Ok(Runtime {
            endpoint,
            cri,
            owned,
            version,
        })
    }

    fn images(&self) -> Option<ImagesConfig> {
        self.owned.as_ref().map(|(_, images)| images.clone())
    }

    async fn detach(self) {
        if let Some((containerd, _)) = self.owned {
            containerd.detach().await;
        }
        tracing::debug!(
            endpoint = self.endpoint,
            "left the container runtime running"
        );
    }
}

async fn first_answer(cri: &Cri) -> Result<k8s_cri::v1::VersionResponse, tonic::Status> {
    loop {
        match cri.version().await {
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => return other,
        }
    }
}

async fn build_shared(
    config: &Arc<AgentConfig>,
    client: &kube::Client,
    runtime: &Runtime,
    machine: &Machine,
    recorder: Recorder,
    services: Arc<ServiceCache>,
    host_ports: HostPorts,
) -> Shared {
    let (cpu_millis, memory_bytes, disk_bytes) =
        allocatable(machine, &config.reserve, &config.eviction_hard);
    let host_ips = vec![config.node_ip.to_string()];
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    Shared {
        config: config.as_ref().clone(),
        client: client.clone(),
        cri: runtime.cri.clone(),
        recorder,
        volumes: Arc::new(Volumes::new(&config.data_dir, client.clone())),
        config_maps: Objects::new(client.clone()),
        secrets: Objects::new(client.clone()),
        services,
        cgroups: Cgroups::detect(cgroup_driver(&runtime.cri).await),
        dns: ClusterDns {
            server: config.cluster_dns.map(|ip| ip.to_string()),
            domain: config.cluster_domain.clone(),
            host: host_resolv_conf(),
        },
        facts: NodeFacts {
            host_ips: host_ips.clone(),
            runtime_name: runtime.version.runtime_name.clone(),
        },
        node_fields: NodeFields {
            host_ips,
            pod_ips: Vec::new(),
            cpu_millis: signed(cpu_millis),
            memory_bytes: signed(memory_bytes),
            ephemeral_storage_bytes: signed(disk_bytes),
        },
        may_lower_oom_score: may_lower_oom_score(),
        host_ports,
        self_fence: config.self_fence.then(Contact::new),
    }
}

/// The node's own resolver configuration; behind systemd-resolved the file that names the real servers.
fn host_resolv_conf() -> String {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let stub = text
        .lines()
        .any(|l| l.split_whitespace().eq(["nameserver", "127.0.0.53"]));
    let real = Path::new("/run/systemd/resolve/resolv.conf");
    if stub {
        std::fs::read_to_string(real).unwrap_or(text)
    } else {
        text
    }
}

/// Who makes cgroups, as the runtime's own configuration says.
async fn cgroup_driver(cri: &Cri) -> Driver {
    let info = cri.status(true).await.map(|s| s.info).unwrap_or_default();
    let config: serde_json::Value = info
        .get("config")
        .and_then(|c| serde_json::from_str(c).ok())
        .unwrap_or_default();
    let systemd = config
        .pointer("/containerd/runtimes/runc/options/SystemdCgroup")
        .and_then(|v| v.as_bool());
    if systemd == Some(true) {
        Driver::Systemd
    } else {
        Driver::Cgroupfs
    }
}

/// Whether the effective capabilities hold CAP_SYS_RESOURCE (bit 24).
fn may_lower_oom_score() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok())
        .is_some_and(|m| m & (1 << 24) != 0)
}

/// Sets up the pod network as soon as the node has its share of addresses, and again when that changes.
async fn follow_network(
    client: kube::Client,
    config: Arc<AgentConfig>,
    cri: Cri,
    own_runtime: bool,
    stop: CancellationToken,
) {
    let routes = network::follow_nodes(client.clone(), config.node_name.clone(), stop.clone());
    tokio::spawn(async move {
        if let Err(error) = routes.await {
            tracing::error!(%error, "other nodes' pods get no routes");
        }
    });
    let api: Api<Node> = Api::all(client);
    let stream = watcher::watch_object(api, &config.node_name).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut configured = String::new();
    loop {
        let node = tokio::select! {
            node = stream.next() => node,
            () = stop.cancelled() => return,
        };
        let Some(Ok(Some(node))) = node else {
            if node.is_none() {
                return;
            }
            continue;
        };
        let Some(pod_cidr) = node
            .spec
            .and_then(|s| s.pod_cidr)
            .filter(|cidr| *cidr != configured)
        else {
            continue;
        };
        match configure_network(&config, &cri, &pod_cidr, own_runtime, &stop).await {
            Ok(()) => configured = pod_cidr,
            Err(error) => tracing::error!(error, pod_cidr, "cannot set up the pod network"),
        }
    }
}

async fn configure_network(
    config: &AgentConfig,
    cri: &Cri,
    pod_cidr: &str,
    own_runtime: bool,
    stop: &CancellationToken,
) -> Result<(), String> {
    if own_runtime {
        let parse = |text: &str| text.parse().map_err(|_| format!("{text:?} is no CIDR"));
        let network = NetworkConfig {
            agent_dir: config.data_dir.clone(),
            pod_cidr: parse(pod_cidr)?,
            cluster_cidr: parse(&config.cluster_cidr)?,
            service_cidr: parse(&config.service_cidr)?,
            cluster_dns: config.cluster_dns.unwrap_or(IpAddr::from([0, 0, 0, 0])),
            mtu: None,
        };
        network::configure(&network)
            .await
            .map_err(|e| e.to_string())?;
        let stop = stop.clone();
        tokio::spawn(async move {
            if let Err(error) = network::keep_rules(network, stop).await {
                tracing::error!(%error, "the pod network's rules are no longer watched");
            }
        });
    }
    cri.update_pod_cidr(pod_cidr)
        .await
        .map_err(|e| e.message().to_string())
}

/// Starts the service proxy and the cluster DNS.
fn service_network(
    tasks: &TaskTracker,
    shared: &Arc<Shared>,
    host_ports: tokio::sync::watch::Receiver<Vec<HostPort>>,
    stop: &CancellationToken,
) {
    let (config, services) = (&shared.config, shared.services.clone());
    let Some(cluster_dns) = config.cluster_dns else {
        return;
    };
    let (Ok(cluster_cidr), Ok(service_cidr)) =
        (config.cluster_cidr.parse(), config.service_cidr.parse())
    else {
        tracing::error!(
            config.cluster_cidr,
            config.service_cidr,
            "no CIDR: no service proxy and no cluster DNS"
        );
        return;
    };
    let proxy = ProxyConfig {
        mode: config.proxy_mode,
        node_name: config.node_name.clone(),
        cluster_cidr,
        service_cidr,
        cluster_dns,
    };
    let cache = services.clone();
    let proxy_stop = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = proxy::run(cache, proxy, host_ports, proxy_stop).await {
            tracing::error!(%error, "the service proxy ended");
        }
    });
    let mut dns = DnsConfig::new(cluster_dns);
    dns.cluster_domain.clone_from(&config.cluster_domain);
    let dns_stop = stop.clone();
    tasks.spawn(async move {
        if let Err(error) = dns::run(services, dns, dns_stop).await {
            tracing::error!(%error, "the cluster DNS ended");
        }
    });
}
