//! A container in CRI's terms. Pure: environment, mounts and image are handed in.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SecurityContext};

use crate::expand::expand;
use crate::labels;
use crate::pod::spec;
use crate::quantity::{milli, value};
use crate::resources;
use crate::sandbox_config;

/// Where `Localhost` seccomp profiles are, as for a kubelet.
const SECCOMP_ROOT: &str = "/var/lib/kubelet/seccomp";
/// Where a container may write its last words unless it says otherwise.
const DEFAULT_TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// What goes into a container besides its definition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// The image's id on this node.
    pub(crate) image_ref: String,
    /// The environment, in order.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<cri::Mount>,
    /// How often it was started before.
    pub(crate) restart_count: u32,
    /// The user and its name in the image's configuration.
    pub(crate) image_uid: Option<i64>,
    pub(crate) image_username: String,
    pub(crate) node_memory_bytes: i64,
    /// False where the kernel does not let this process lower a score (no CAP_SYS_RESOURCE).
    pub(crate) may_lower_oom_score: bool,
}

/// The container's log, below the pod's log directory.
pub(crate) fn log_path(name: &str, restart_count: u32) -> String {
    format!("{name}/{restart_count}.log")
}

/// Where the container writes its termination message.
pub(crate) fn termination_message_path(container: &Container) -> &str {
    container
        .termination_message_path
        .as_deref()
        .filter(|p| !p.is_empty())
        .unwrap_or(DEFAULT_TERMINATION_MESSAGE_PATH)
}

/// The container to create, or the message of a `CreateContainerConfigError`.
pub(crate) fn container_config(
    pod: &Pod,
    container: &Container,
    inputs: Inputs,
) -> Result<cri::ContainerConfig, String> {
    check_non_root(pod, container, &inputs)?;
    let lookup = |name: &str| {
        inputs
            .environment
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    let expanded =
        |list: &Option<Vec<String>>| list.iter().flatten().map(|a| expand(a, lookup)).collect();
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: container.name.clone(),
            attempt: inputs.restart_count,
        }),
        image: Some(cri::ImageSpec {
            image: inputs.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        labels: container_labels(pod, container),
        annotations: annotations(pod, container, inputs.restart_count),
        log_path: log_path(&container.name, inputs.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(linux_resources(pod, container, &inputs)),
            security_context: Some(security_context(pod, container)),
        }),
        envs: inputs
            .environment
            .into_iter()
            .map(|(key, value)| cri::KeyValue { key, value })
            .collect(),
        mounts: inputs.mounts,
        ..Default::default()
    })
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default()
}

fn own_context(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// The user that the definition names: the container's, or the pod's.
pub(crate) fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    own_context(container)
        .run_as_user
        .or(pod_context(pod).run_as_user)
}

fn check_non_root(pod: &Pod, container: &Container, inputs: &Inputs) -> Result<(), String> {
    let required = own_context(container)
        .run_as_non_root
        .or(pod_context(pod).run_as_non_root);
    if required != Some(true) {
        return Ok(());
    }
    let place = format!(
        "(pod: \"{}\", container: {})",
        spec::format_pod(pod),
        container.name
    );
    match run_as_user(pod, container) {
        Some(0) => Err(format!(
            "container's runAsUser breaks non-root policy {place}"
        )),
        Some(_) => Ok(()),
        None if inputs.image_uid == Some(0) => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        None if inputs.image_uid.is_none() && !inputs.image_username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {place}",
            inputs.image_username
        )),
        None if inputs.image_uid.is_none() => Err(format!(
            "container has runAsNonRoot and image will run as root {place}"
        )),
        None => Ok(()),
    }
}

fn container_labels(pod: &Pod, container: &Container) -> std::collections::HashMap<String, String> {
    [
        (labels::POD_NAME, spec::name(pod)),
        (labels::POD_NAMESPACE, spec::namespace(pod)),
        (labels::POD_UID, spec::uid(pod)),
        (labels::CONTAINER_NAME, &container.name),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .collect()
}

fn annotations(
    pod: &Pod,
    container: &Container,
    restart_count: u32,
) -> std::collections::HashMap<String, String> {
    let mut map: std::collections::HashMap<String, String> = [
        (labels::CONTAINER_HASH, spec::hash(container)),
        (labels::RESTART_COUNT, restart_count.to_string()),
        (
            labels::TERMINATION_MESSAGE_PATH,
            termination_message_path(container).to_string(),
        ),
        (
            labels::TERMINATION_MESSAGE_POLICY,
            container
                .termination_message_policy
                .clone()
                .unwrap_or_else(|| "File".into()),
        ),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_string(), v))
    .collect();
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            map.insert(key.to_string(), value);
        }
    };
    add(
        labels::POD_DELETION_GRACE,
        pod.metadata
            .deletion_grace_period_seconds
            .map(|s| s.to_string()),
    );
    let grace = pod
        .spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds);
    add(labels::POD_TERMINATION_GRACE, grace.map(|s| s.to_string()));
    let pre_stop = container
        .lifecycle
        .as_ref()
        .and_then(|l| l.pre_stop.as_ref());
    add(
        labels::PRE_STOP,
        pre_stop.and_then(|hook| serde_json::to_string(hook).ok()),
    );
    add(
        labels::PORTS,
        container
            .ports
            .as_ref()
            .and_then(|ports| serde_json::to_string(ports).ok()),
    );
    map
}

fn linux_resources(
    pod: &Pod,
    container: &Container,
    inputs: &Inputs,
) -> cri::LinuxContainerResources {
    let cpu_request = resources::request(container, "cpu").map_or(0, |q| milli(&q));
    let cpu_limit = resources::limit(container, "cpu").map_or(0, |q| milli(&q));
    let score = resources::oom_score_adj(pod, container, inputs.node_memory_bytes);
    cri::LinuxContainerResources {
        cpu_period: resources::CPU_PERIOD_US,
        cpu_quota: resources::cpu_quota(cpu_limit),
        cpu_shares: resources::cpu_shares(cpu_request),
        memory_limit_in_bytes: resources::limit(container, "memory").map_or(0, |q| value(&q)),
        oom_score_adj: if inputs.may_lower_oom_score {
            score
        } else {
            score.max(0)
        },
        ..Default::default()
    }
}

fn security_context(pod: &Pod, container: &Container) -> cri::LinuxContainerSecurityContext {
    let pod_context = pod_context(pod);
    let own = own_context(container);
    let privileged = own.privileged == Some(true);
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let wrap = |value: Option<i64>| value.map(|value| cri::Int64Value { value });
    let group = own.run_as_group.or(pod_context.run_as_group);
    let user = own.run_as_user.or(pod_context.run_as_user);
    let seccomp = own
        .seccomp_profile
        .as_ref()
        .or(pod_context.seccomp_profile.as_ref());
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: capabilities.add.unwrap_or_default(),
            drop_capabilities: capabilities.drop.unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(sandbox_config::namespaces(pod)),
        run_as_user: wrap(user),
        run_as_group: wrap(group),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: sandbox_config::supplemental_groups(&pod_context),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: if unmasked {
            Vec::new()
        } else {
            paths(MASKED_PATHS)
        },
        readonly_paths: if unmasked {
            Vec::new()
        } else {
            paths(READ_ONLY_PATHS)
        },
        seccomp: Some(sandbox_config::seccomp(seccomp, SECCOMP_ROOT)),
        ..Default::default()
    }
}

fn paths(list: &[&str]) -> Vec<String> {
    list.iter().map(|p| p.to_string()).collect()
}

/// Kernel files that containers do not see.
const MASKED_PATHS: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Kernel files that containers may only read.
const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn build(container: Value, inputs: Inputs) -> Result<cri::ContainerConfig, String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": {"fsGroup": 7, "runAsUser": 5}, "containers": [container]}}))
        .expect("a pod");
        container_config(&pod, &spec::containers(&pod)[0], inputs)
    }

    #[test]
    fn command_context_and_resources() {
        let inputs = Inputs {
            environment: vec![("A".into(), "1".into())],
            may_lower_oom_score: true,
            ..Default::default()
        };
        let container = json!({"name": "c", "command": ["x", "$(A)"], "securityContext": {"allowPrivilegeEscalation": false},
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}});
        let config = build(container, inputs).expect("a config");
        assert_eq!(config.command, ["x", "1"]);
        assert_eq!(config.log_path, "c/0.log");
        let linux = config.linux.expect("linux");
        let resources = linux.resources.expect("resources");
        assert_eq!((resources.cpu_quota, resources.cpu_shares), (50_000, 512));
        assert_eq!(
            (resources.memory_limit_in_bytes, resources.oom_score_adj),
            (64 << 20, -997)
        );
        let context = linux.security_context.expect("context");
        assert!(context.no_new_privs);
        assert_eq!(context.supplemental_groups, [7]);
        assert_eq!(context.run_as_user.map(|u| u.value), Some(5));
    }

    #[test]
    fn non_root() {
        let container = |user: i64| json!({"name": "c", "securityContext": {"runAsNonRoot": true, "runAsUser": user}});
        assert!(build(container(3), Inputs::default()).is_ok());
        assert_eq!(
            build(container(0), Inputs::default()).expect_err("root"),
            "container's runAsUser breaks non-root policy (pod: \"p_n(u)\", container: c)"
        );
    }
}
