//! Questions about a pod's definition that several files ask. Pure.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};

/// A pod's name as messages show it: `name_namespace(uid)`.
pub(crate) fn format_pod(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub(crate) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(crate) fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

pub(crate) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(crate) fn containers(pod: &Pod) -> &[core::Container] {
    pod.spec
        .as_ref()
        .map(|s| s.containers.as_slice())
        .unwrap_or_default()
}

pub(crate) fn init_containers(pod: &Pod) -> &[core::Container] {
    pod.spec
        .as_ref()
        .and_then(|s| s.init_containers.as_deref())
        .unwrap_or_default()
}

/// Init containers, then ordinary ones.
pub(crate) fn all_containers(pod: &Pod) -> impl Iterator<Item = &core::Container> {
    init_containers(pod).iter().chain(containers(pod))
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a core::Container> {
    all_containers(pod).find(|c| c.name == name)
}

pub(crate) fn volumes(pod: &Pod) -> &[core::Volume] {
    pod.spec
        .as_ref()
        .and_then(|s| s.volumes.as_deref())
        .unwrap_or_default()
}

pub(crate) fn restart_policy(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref())
        .unwrap_or("Always")
}

pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|s| s.host_network)
        .unwrap_or(false)
}

/// Whether an init container runs beside the ordinary ones (KEP-753).
pub(crate) fn is_sidecar(container: &core::Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether the pod's own policy or the container's (KEP-5307) starts it again after `exit_code`.
pub(crate) fn restarts_after(pod: &Pod, container: &core::Container, exit_code: i32) -> bool {
    let by_rule = container
        .restart_policy_rules
        .iter()
        .flatten()
        .find_map(|rule| {
            let codes = rule.exit_codes.as_ref()?;
            let listed = codes.values.iter().flatten().any(|v| *v == exit_code);
            let hit = if codes.operator == "NotIn" {
                !listed
            } else {
                listed
            };
            (hit && rule.action == "Restart").then_some(true)
        });
    by_rule.unwrap_or_else(|| {
        match container
            .restart_policy
            .as_deref()
            .unwrap_or(restart_policy(pod))
        {
            "Never" => false,
            "OnFailure" => exit_code != 0,
            _ => true,
        }
    })
}

/// The grace period that the pod was deleted with or asks for, in seconds.
pub(crate) fn grace_period_seconds(pod: &Pod) -> i64 {
    pod.metadata
        .deletion_grace_period_seconds
        .or_else(|| {
            pod.spec
                .as_ref()
                .and_then(|s| s.termination_grace_period_seconds)
        })
        .unwrap_or(30)
        .max(0)
}

/// Whether the pod is over: the API says Succeeded or Failed.
pub(crate) fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// A hash over those fields of a container whose change restarts it: name and image, the only ones that may change in place.
pub(crate) fn hash(container: &core::Container) -> String {
    let mut sha = Sha256::new();
    sha.update(container.name.as_bytes());
    sha.update([0]);
    sha.update(container.image.as_deref().unwrap_or_default().as_bytes());
    hex::encode(&sha.finalize()[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_rules_come_before_policies() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {"restartPolicy": "Never", "containers": [
            {"name": "a", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]},
            {"name": "b", "restartPolicy": "OnFailure"}]}}))
        .expect("a pod");
        let check = |i: usize, code| restarts_after(&pod, &containers(&pod)[i], code);
        assert_eq!(
            [check(0, 42), check(0, 1), check(1, 1), check(1, 0)],
            [true, false, true, false]
        );
    }
}
