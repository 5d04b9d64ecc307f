//! A pod's sandbox in CRI's terms. Pure.

use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Pod, PodSecurityContext, SeccompProfile};

use crate::labels;
use crate::pod::spec;
use crate::resolv::{self, ClusterDns};
use crate::resources;

/// Where the logs of all pods are, as every log collector expects.
pub(crate) const LOG_ROOT: &str = "/var/log/pods";

/// The directory of a pod's logs.
pub(crate) fn log_directory(namespace: &str, name: &str, uid: &str) -> String {
    format!("{LOG_ROOT}/{namespace}_{name}_{uid}")
}

/// The sandbox to create for the `attempt`th time, below `cgroup_parent`.
pub(crate) fn sandbox_config(
    pod: &Pod,
    attempt: u32,
    dns: &ClusterDns,
    cgroup_parent: &str,
) -> cri::PodSandboxConfig {
    let (name, namespace, uid) = (spec::name(pod), spec::namespace(pod), spec::uid(pod));
    let (hostname, domain) = resolv::hostname(pod, &dns.domain);
    let fqdn = pod
        .spec
        .as_ref()
        .and_then(|s| s.set_hostname_as_fqdn)
        .unwrap_or(false);
    let hostname = match domain {
        Some(domain) if fqdn => format!("{hostname}.{domain}"),
        _ => hostname,
    };
    let mut all_labels = pod.metadata.labels.clone().unwrap_or_default();
    all_labels.insert(labels::POD_NAME.into(), name.into());
    all_labels.insert(labels::POD_NAMESPACE.into(), namespace.into());
    all_labels.insert(labels::POD_UID.into(), uid.into());
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.into(),
            uid: uid.into(),
            namespace: namespace.into(),
            attempt,
        }),
        // A pod on the node's network has the node's name.
        hostname: if spec::host_network(pod) {
            String::new()
        } else {
            hostname
        },
        log_directory: log_directory(namespace, name, uid),
        dns_config: Some(resolv::dns_config(pod, dns)),
        port_mappings: port_mappings(pod),
        labels: all_labels.into_iter().collect(),
        annotations: pod
            .metadata
            .annotations
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect(),
        linux: Some(linux(pod, cgroup_parent)),
        windows: None,
    }
}

fn port_mappings(pod: &Pod) -> Vec<cri::PortMapping> {
    let ports = spec::all_containers(pod).flat_map(|c| c.ports.iter().flatten());
    let mapped = ports
        .filter(|_| !spec::host_network(pod))
        .filter(|p| p.host_port.unwrap_or(0) > 0);
    mapped
        .map(|p| cri::PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => cri::Protocol::Udp.into(),
                Some("SCTP") => cri::Protocol::Sctp.into(),
                _ => cri::Protocol::Tcp.into(),
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// Which of the node's namespaces the pod shares.
pub(crate) fn namespaces(pod: &Pod) -> cri::NamespaceOption {
    let spec = pod.spec.as_ref();
    let node_or = |shared: Option<bool>, otherwise: cri::NamespaceMode| -> i32 {
        if shared == Some(true) {
            cri::NamespaceMode::Node.into()
        } else {
            otherwise.into()
        }
    };
    let share_pid = spec.and_then(|s| s.share_process_namespace) == Some(true);
    let pid = if share_pid {
        cri::NamespaceMode::Pod
    } else {
        cri::NamespaceMode::Container
    };
    cri::NamespaceOption {
        network: node_or(spec.and_then(|s| s.host_network), cri::NamespaceMode::Pod),
        pid: node_or(spec.and_then(|s| s.host_pid), pid),
        ipc: node_or(spec.and_then(|s| s.host_ipc), cri::NamespaceMode::Pod),
        ..Default::default()
    }
}

/// A seccomp profile in CRI's terms; none means unconfined, as in Kubernetes.
pub(crate) fn seccomp(
    profile: Option<&SeccompProfile>,
    profile_root: &str,
) -> cri::SecurityProfile {
    use cri::security_profile::ProfileType;
    let (kind, localhost_ref) =
        match profile.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref())) {
            Some(("RuntimeDefault", _)) => (ProfileType::RuntimeDefault, String::new()),
            Some(("Localhost", Some(path))) => {
                (ProfileType::Localhost, format!("{profile_root}/{path}"))
            }
            _ => (ProfileType::Unconfined, String::new()),
        };
    cri::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref,
    }
}

/// Groups that all of the pod's containers are in.
pub(crate) fn supplemental_groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group);
    groups
}

fn linux(pod: &Pod, cgroup_parent: &str) -> cri::LinuxPodSandboxConfig {
    let context = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.clone())
        .unwrap_or_default();
    let is_privileged = |c: &k8s_openapi::api::core::v1::Container| {
        c.security_context.as_ref().and_then(|s| s.privileged) == Some(true)
    };
    let sum = resources::pod_resources(pod);
    cri::LinuxPodSandboxConfig {
        cgroup_parent: cgroup_parent.into(),
        security_context: Some(cri::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod)),
            run_as_user: context.run_as_user.map(|value| cri::Int64Value { value }),
            // CRI refuses a group without a user.
            run_as_group: context
                .run_as_group
                .filter(|_| context.run_as_user.is_some())
                .map(|value| cri::Int64Value { value }),
            supplemental_groups: supplemental_groups(&context),
            privileged: spec::all_containers(pod).any(is_privileged),
            seccomp: Some(cri::SecurityProfile {
                profile_type: cri::security_profile::ProfileType::RuntimeDefault.into(),
                localhost_ref: String::new(),
            }),
            ..Default::default()
        }),
        sysctls: context
            .sysctls
            .iter()
            .flatten()
            .map(|s| (s.name.clone(), s.value.clone()))
            .collect(),
        resources: Some(cri::LinuxContainerResources {
            cpu_period: resources::CPU_PERIOD_US,
            cpu_shares: resources::cpu_shares(sum.cpu_request),
            cpu_quota: resources::cpu_quota(sum.cpu_limit),
            memory_limit_in_bytes: sum.memory_limit,
            ..Default::default()
        }),
        overhead: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn identity_ports_and_namespaces() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "b"}},
            "spec": {"hostPID": true, "containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 81}]}]}}))
        .expect("a pod");
        let config = sandbox_config(&pod, 2, &ClusterDns::default(), "/kubepods/podu");
        assert_eq!(config.log_directory, "/var/log/pods/n_p_u");
        assert_eq!(
            config.labels.get(labels::POD_UID).map(String::as_str),
            Some("u")
        );
        assert_eq!(config.labels.get("a").map(String::as_str), Some("b"));
        assert_eq!(
            config
                .port_mappings
                .iter()
                .map(|p| p.host_port)
                .collect::<Vec<_>>(),
            [8080]
        );
        assert_eq!(namespaces(&pod).pid(), cri::NamespaceMode::Node);
        assert_eq!(namespaces(&pod).network(), cri::NamespaceMode::Pod);
    }
}
