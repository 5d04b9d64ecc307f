//! The node's status out of the machine, the runtime and the configuration. Pure; the clock is an argument.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;

use super::eviction::{EvictionHard, Resource};
use super::machine::{Free, Machine, allocatable};
use crate::config::AgentConfig;

/// The version that the node reports: the Kubernetes that it behaves as, and which agent it is.
const KUBELET_VERSION: &str = concat!("v1.36.0+xebec.", env!("CARGO_PKG_VERSION"));
/// The most images that a status lists, as the kubelet's.
const IMAGES_LIMIT: usize = 50;
/// The most names that a status lists of one image.
const NAMES_LIMIT: usize = 5;

/// What the runtime says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct RuntimeView {
    pub(super) version: cri::VersionResponse,
    pub(super) conditions: Vec<cri::RuntimeCondition>,
    pub(super) images: Vec<cri::Image>,
    /// Why it does not answer, if so.
    pub(super) error: Option<String>,
}

impl RuntimeView {
    /// Why the node is not ready; empty if it is.
    fn problems(&self) -> Vec<String> {
        if let Some(error) = &self.error {
            return vec![format!("container runtime is down: {error}")];
        }
        let problem =
            |kind: &str, what: &str| match self.conditions.iter().find(|c| c.r#type == kind) {
                None => Some(format!("{what} status check may not have completed yet")),
                Some(c) if !c.status => Some(format!(
                    "{what} not ready: {kind}=false reason:{} message:{}",
                    c.reason, c.message
                )),
                Some(_) => None,
            };
        [
            problem("RuntimeReady", "container runtime"),
            problem("NetworkReady", "container runtime network"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn quantities(
    machine: &Machine,
    pods: u32,
    millis: u64,
    memory: u64,
    disk: u64,
) -> BTreeMap<String, Quantity> {
    let cpu = if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{millis}m")
    };
    let mut map = BTreeMap::from([
        ("cpu".to_string(), Quantity(cpu)),
        (
            "memory".to_string(),
            Quantity(format!("{}Ki", memory / 1024)),
        ),
        (
            "ephemeral-storage".to_string(),
            Quantity(format!("{}Ki", disk / 1024)),
        ),
        ("pods".to_string(), Quantity(pods.to_string())),
    ]);
    for (size, bytes) in &machine.huge_pages {
        let amount = if *bytes == 0 {
            "0".to_string()
        } else {
            format!("{}Ki", bytes / 1024)
        };
        map.insert(format!("hugepages-{size}"), Quantity(amount));
    }
    map
}

/// The whole status; conditions keep their times where `previous` says the same.
pub(super) fn status(
    config: &AgentConfig,
    machine: &Machine,
    free: &Free,
    runtime: &RuntimeView,
    previous: &NodeStatus,
    now: Timestamp,
) -> NodeStatus {
    let (millis, memory, disk) = allocatable(machine, &config.reserve, &config.eviction_hard);
    let address = |kind: &str, address: String| NodeAddress {
        type_: kind.into(),
        address,
    };
    NodeStatus {
        capacity: Some(quantities(
            machine,
            config.max_pods,
            machine.cpus * 1000,
            machine.memory_bytes,
            machine.disk_bytes,
        )),
        allocatable: Some(quantities(machine, config.max_pods, millis, memory, disk)),
        addresses: Some(vec![
            address("InternalIP", config.node_ip.to_string()),
            address("Hostname", config.node_name.clone()),
        ]),
        conditions: Some(conditions(
            &config.eviction_hard,
            free,
            runtime,
            previous,
            now,
        )),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint {
                port: config.kubelet_port.into(),
            }),
        }),
        images: Some(images(&runtime.images)),
        node_info: Some(info(machine, runtime)),
        ..Default::default()
    }
}

fn info(machine: &Machine, runtime: &RuntimeView) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.into(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: format!(
            "{}://{}",
            runtime.version.runtime_name, runtime.version.runtime_version
        ),
        kernel_version: machine.kernel.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.into(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".into(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..Default::default()
    }
}

fn images(images: &[cri::Image]) -> Vec<ContainerImage> {
    let mut sorted: Vec<&cri::Image> = images.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let one = |image: &cri::Image| {
        let names = image
            .repo_digests
            .iter()
            .chain(&image.repo_tags)
            .take(NAMES_LIMIT)
            .cloned()
            .collect();
        ContainerImage {
            names: Some(names),
            size_bytes: i64::try_from(image.size).ok(),
        }
    };
    sorted.into_iter().take(IMAGES_LIMIT).map(one).collect()
}

/// A condition's status, reason and message.
type Draft = (&'static str, String, String);

/// A condition that is good when it is False: reasons and messages for True and for False.
fn pressure(bad: bool, yes: [&str; 2], no: [&str; 2]) -> Draft {
    let [reason, message] = if bad { yes } else { no };
    (
        if bad { "True" } else { "False" },
        reason.to_string(),
        message.to_string(),
    )
}

fn drafts(
    eviction: &EvictionHard,
    free: &Free,
    runtime: &RuntimeView,
) -> [(&'static str, Draft); 4] {
    let memory = eviction.short(Resource::Memory, free.memory);
    let disk =
        eviction.short(Resource::Disk, free.disk) || eviction.short(Resource::Inodes, free.inodes);
    let processes = eviction.short(Resource::Processes, free.processes);
    let not_ready = |message: String| ("False", "KubeletNotReady".into(), message);
    let memory = pressure(
        memory,
        [
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
        ],
        [
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ],
    );
    let disk = pressure(
        disk,
        ["KubeletHasDiskPressure", "kubelet has disk pressure"],
        ["KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
    );
    let processes = pressure(
        processes,
        [
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
        ],
        [
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ],
    );
    let ready = match runtime.problems().as_slice() {
        [] => (
            "True",
            "KubeletReady".into(),
            "kubelet is posting ready status".into(),
        ),
        [one] => not_ready(one.clone()),
        many => not_ready(format!("[{}]", many.join(", "))),
    };
    [
        ("MemoryPressure", memory),
        ("DiskPressure", disk),
        ("PIDPressure", processes),
        ("Ready", ready),
    ]
}

fn conditions(
    eviction: &EvictionHard,
    free: &Free,
    runtime: &RuntimeView,
    previous: &NodeStatus,
    now: Timestamp,
) -> Vec<NodeCondition> {
    let old = |kind: &str| {
        previous
            .conditions
            .iter()
            .flatten()
            .find(|c| c.type_ == kind)
    };
    let build = |(kind, (status, reason, message)): (&str, Draft)| NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason),
        message: Some(message),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: old(kind)
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone())
            .or(Some(Time(now))),
    };
    drafts(eviction, free, runtime)
        .into_iter()
        .map(build)
        .collect()
}

/// Whether two statuses say the same, heartbeats aside.
pub(super) fn same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let quiet = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    quiet(a) == quiet(b)
}

/// Takes over the conditions that both have; `seen` also has those of others.
pub(super) fn take_over(written: &mut NodeStatus, seen: &NodeStatus) {
    for own in written.conditions.iter_mut().flatten() {
        let mut all = seen.conditions.iter().flatten();
        if let Some(condition) = all.find(|seen| seen.type_ == own.type_) {
            own.clone_from(condition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Identity, Pem};

    fn runtime(network: bool) -> RuntimeView {
        let condition = |kind: &str, status: bool| cri::RuntimeCondition {
            r#type: kind.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        RuntimeView {
            conditions: vec![
                condition("RuntimeReady", true),
                condition("NetworkReady", network),
            ],
            ..Default::default()
        }
    }

    fn build(runtime: &RuntimeView, previous: &NodeStatus, second: i64) -> NodeStatus {
        let pem = Pem::Inline(String::new());
        let identity = Identity {
            cert: pem.clone(),
            key: pem.clone(),
        };
        let ip = std::net::IpAddr::from([1, 2, 3, 4]);
        let config = AgentConfig::new(
            "https://a:1",
            pem,
            identity.clone(),
            identity,
            "n",
            ip,
            "/d",
        );
        let machine = Machine {
            cpus: 2,
            memory_bytes: 1 << 30,
            disk_bytes: 1 << 40,
            ..Default::default()
        };
        let free = Free::default();
        status(
            &config,
            &machine,
            &free,
            runtime,
            previous,
            Timestamp::from_second(second).expect("in range"),
        )
    }

    #[test]
    fn readiness_follows_the_network() {
        let ready = |s: &NodeStatus| {
            let c = s
                .conditions
                .iter()
                .flatten()
                .find(|c| c.type_ == "Ready")
                .cloned()
                .expect("a condition");
            (
                c.status,
                c.message.unwrap_or_default(),
                c.last_transition_time.expect("a time").0.as_second(),
            )
        };
        let first = build(&runtime(false), &NodeStatus::default(), 1);
        assert_eq!(
            ready(&first),
            ("False".into(), "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady \
              message:cni plugin not initialized".into(), 1)
        );
        let second = build(&runtime(true), &first, 2);
        assert_eq!(
            ready(&second),
            ("True".into(), "kubelet is posting ready status".into(), 2)
        );
        let third = build(&runtime(true), &second, 3);
        assert!(same(&second, &third) && !same(&first, &second));
        assert_eq!(ready(&third).2, 2);
    }
    #[test]
    fn what_others_made_of_the_conditions_is_made_good() {
        let mut written = build(&runtime(true), &NodeStatus::default(), 1);
        let mut seen = written.clone();
        let conditions = seen.conditions.as_mut().expect("conditions");
        for condition in conditions.iter_mut() {
            condition.status = "Unknown".into();
        }
        let foreign = NodeCondition {
            type_: "NetworkUnavailable".into(),
            ..NodeCondition::default()
        };
        conditions.insert(0, foreign);
        let own = written.clone();
        take_over(&mut written, &own);
        assert_eq!(written, own);
        take_over(&mut written, &seen);
        assert_eq!(
            written.conditions.as_deref(),
            seen.conditions.as_deref().map(|c| &c[1..])
        );
        assert!(!same(&build(&runtime(true), &written, 2), &written));
    }
}
