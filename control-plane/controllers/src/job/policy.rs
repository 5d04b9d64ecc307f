//! A job's own rules about which failures count and which successes suffice. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::batch::v1::{
    Job, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule,
    SuccessPolicy,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use super::indexes;
use crate::support::{Meta, count};

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Towards the backoff limits.
    pub(super) counts: bool,
    pub(super) fails_index: bool,
    /// Why the whole job fails.
    pub(super) fails_job: Option<String>,
}

/// Whether a pod is replaced only when it has really ended, not as soon as it is being deleted.
pub(super) fn only_replace_failed(job: &Job) -> bool {
    job.spec
        .as_ref()
        .is_some_and(|s| match s.pod_replacement_policy.as_deref() {
            Some(policy) => policy == "Failed",
            None => s.pod_failure_policy.is_some(),
        })
}

/// The first rule that matches decides; without one the failure counts.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Judgement {
    let plain = Judgement {
        counts: true,
        fails_index: false,
        fails_job: None,
    };
    let default = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&default);
    for (index, rule) in policy.into_iter().flat_map(|p| p.rules.iter()).enumerate() {
        let Some(what) = matched(rule, status, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Judgement {
                counts: false,
                ..plain
            },
            "FailIndex" => Judgement {
                fails_index: true,
                ..plain
            },
            "FailJob" => Judgement {
                fails_job: Some(format!(
                    "{what} matching {} rule at index {index}",
                    rule.action
                )),
                ..plain
            },
            _ => plain,
        };
    }
    plain
}

/// What matched, in words.
fn matched(rule: &PodFailurePolicyRule, status: &PodStatus, pod: &Pod) -> Option<String> {
    let (namespace, name) = (pod.namespace(), pod.name());
    if let Some(requirement) = &rule.on_exit_codes {
        let all = status
            .container_statuses
            .iter()
            .flatten()
            .chain(status.init_container_statuses.iter().flatten());
        let (container, code) = all
            .filter_map(|c| Some((c, exit_code(c, requirement)?)))
            .next()?;
        return Some(format!(
            "Container {} for pod {namespace}/{name} failed with exit code {code}",
            container.name
        ));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let condition = status.conditions.iter().flatten().find(|condition| {
        patterns.iter().any(|p| {
            p.type_ == condition.type_ && p.status.as_deref().unwrap_or("True") == condition.status
        })
    })?;
    Some(format!(
        "Pod {namespace}/{name} has condition {}",
        condition.type_
    ))
}

fn exit_code(
    container: &ContainerStatus,
    requirement: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<i32> {
    let meant = requirement
        .container_name
        .as_ref()
        .is_none_or(|name| *name == container.name);
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = requirement.values.contains(&code);
    let matches = match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (meant && code != 0 && matches).then_some(code)
}

/// Which rule of the success policy is met, in words.
pub(super) fn succeeds(
    policy: &SuccessPolicy,
    completions: i32,
    succeeded: &BTreeSet<i32>,
) -> Option<String> {
    if succeeded.is_empty() {
        return None;
    }
    let met = policy
        .rules
        .iter()
        .position(|rule| match &rule.succeeded_indexes {
            None => rule
                .succeeded_count
                .is_some_and(|wanted| count(succeeded.len()) >= wanted),
            Some(text) => {
                let required = indexes::parse(text, completions);
                let done = required.intersection(succeeded).count();
                !required.is_empty()
                    && (done == required.len()
                        || rule
                            .succeeded_count
                            .is_some_and(|wanted| count(done) >= wanted))
            }
        })?;
    Some(format!("Matched rules at index {met}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_matching_rule_decides() {
        let policy: PodFailurePolicy = serde_json::from_value(json!({"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1]}}]}))
        .expect("a policy");
        let pod = |code: i32, disrupted: bool| -> Pod {
            let conditions = if disrupted {
                json!([{"type": "DisruptionTarget", "status": "True"}])
            } else {
                json!([])
            };
            serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p"}, "status": {
                "conditions": conditions, "containerStatuses": [{"name": "c", "ready": false, "restartCount": 0,
                    "image": "", "imageID": "", "state": {"terminated": {"exitCode": code}}}]}}))
            .expect("a pod")
        };
        let judge = |code, disrupted| judge(Some(&policy), &pod(code, disrupted));
        assert!(!judge(42, true).counts);
        let message =
            "Container c for pod ns/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(judge(42, false).fails_job.as_deref(), Some(message));
        assert!(judge(7, false).fails_index);
        assert_eq!(
            judge(1, false),
            Judgement {
                counts: true,
                fails_index: false,
                fails_job: None
            }
        );
    }

    #[test]
    fn success_rules() {
        let check = |rule: serde_json::Value, succeeded: &str, expect: bool| {
            let policy: SuccessPolicy =
                serde_json::from_value(json!({"rules": [rule]})).expect("a policy");
            assert_eq!(
                succeeds(&policy, 10, &indexes::parse(succeeded, 10)).is_some(),
                expect,
                "{policy:?}"
            );
        };
        check(json!({"succeededIndexes": "0-2"}), "0,1", false);
        check(json!({"succeededIndexes": "0-2"}), "0-2,5", true);
        check(
            json!({"succeededIndexes": "0-2", "succeededCount": 1}),
            "1",
            true,
        );
        check(json!({"succeededCount": 3}), "4,5", false);
        check(json!({"succeededCount": 3}), "4-6", true);
    }
}
