//! What comes next for a stateful set, and what its status says. Pure.
//!
//! Ordered sets take one step at a time: a pod is made only when all before it are ready, and removed only when all are.
//! Parallel sets make and remove all at once; updates go one by one (or by maxUnavailable) from the highest ordinal.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{
    ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::claims;
use super::identity::{self, ordinal};
use crate::error::Outcome;
use crate::support::history::REVISION_HASH;
use crate::support::{Meta, is_available, is_ready, is_terminal, nonzero, phase, scaled_value};

/// The revision that pods had, and the one they are to get.
pub(super) struct Revisions {
    pub(super) current: Arc<ControllerRevision>,
    pub(super) update: Arc<ControllerRevision>,
}

/// One step.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    Create { ordinal: i32, updated: bool },
    Delete(Arc<Pod>),
    EnsureClaims(Arc<Pod>),
    FixIdentity(Arc<Pod>),
    FixClaims { pod: Arc<Pod>, condemned: bool },
}

pub(super) fn min_ready_seconds(set: &StatefulSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|s| s.min_ready_seconds)
        .unwrap_or(0)
}

fn replicas(set: &StatefulSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    set.spec
        .as_ref()
        .and_then(|s| s.ordinals.as_ref()?.start)
        .unwrap_or(0)
}

fn is_parallel(set: &StatefulSet) -> bool {
    set.spec
        .as_ref()
        .and_then(|s| s.pod_management_policy.as_deref())
        == Some("Parallel")
}

/// None with the OnDelete strategy.
fn rolling(set: &StatefulSet) -> Option<RollingUpdateStatefulSetStrategy> {
    let strategy = set
        .spec
        .as_ref()
        .and_then(|s| s.update_strategy.clone())
        .unwrap_or_default();
    match strategy.type_.as_deref() {
        Some("OnDelete") => None,
        _ => Some(strategy.rolling_update.unwrap_or_default()),
    }
}

fn revision(pod: &Pod) -> &str {
    pod.labels()
        .get(REVISION_HASH)
        .map(String::as_str)
        .unwrap_or_default()
}

/// Whether a new pod of this ordinal is made from the update revision.
fn starts_updated(set: &StatefulSet, ordinal: i32) -> bool {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
        return true;
    }
    let first = first_ordinal(set);
    match strategy.and_then(|s| s.rolling_update.as_ref()) {
        None => {
            ordinal
                >= first
                    + set
                        .status
                        .as_ref()
                        .and_then(|s| s.current_replicas)
                        .unwrap_or(0)
        }
        Some(rolling) => ordinal >= first + rolling.partition.unwrap_or(0),
    }
}

struct Planner<'a> {
    set: &'a StatefulSet,
    ordered: bool,
    now: Timestamp,
    actions: Vec<Action>,
}

/// The next steps, in order. Ordered sets get at most one that changes pods.
pub(super) fn plan(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: &Revisions,
    now: Timestamp,
) -> Outcome<Vec<Action>> {
    let (first, wanted) = (first_ordinal(set), replicas(set));
    let range = first..first + wanted;
    let mut members: Vec<Option<Arc<Pod>>> = vec![None; usize::try_from(wanted).unwrap_or(0)];
    let mut condemned = Vec::new();
    for pod in pods {
        match ordinal(set, pod) {
            Some(at) if range.contains(&at) => {
                members[usize::try_from(at - first).unwrap_or(0)] = Some(pod.clone());
            }
            Some(at) => condemned.push((at, pod.clone())),
            None => {}
        }
    }
    condemned.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let mut planner = Planner {
        set,
        ordered: !is_parallel(set),
        now,
        actions: Vec::new(),
    };
    if planner.members(&members, range) || planner.condemned(&members, &condemned) {
        return Ok(planner.actions);
    }
    if let Some(strategy) = rolling(set) {
        planner.update(&members, &strategy, revisions.update.name(), wanted)?;
    }
    Ok(planner.actions)
}

impl Planner<'_> {
    fn available(&self, pod: &Pod) -> bool {
        phase(pod) == "Running"
            && is_available(pod, min_ready_seconds(self.set), self.now)
            && !pod.is_deleting()
    }

    /// Makes and mends the pods that there should be. Answers whether that must be finished first.
    fn members(&mut self, members: &[Option<Arc<Pod>>], range: std::ops::Range<i32>) -> bool {
        let has_claims = !claims::templates(self.set).is_empty();
        let mut busy = false;
        for (member, ordinal) in members.iter().zip(range) {
            let Some(pod) = member else {
                self.actions.push(Action::Create {
                    ordinal,
                    updated: starts_updated(self.set, ordinal),
                });
                if self.ordered {
                    return true;
                }
                busy = true;
                continue;
            };
            if is_terminal(pod) {
                if !pod.is_deleting() {
                    self.actions.push(Action::Delete(pod.clone()));
                }
                if self.ordered {
                    return true;
                }
                busy = true;
                continue;
            }
            if has_claims && phase(pod) == "Pending" && !pod.is_deleting() {
                self.actions.push(Action::EnsureClaims(pod.clone()));
            }
            if self.ordered && !self.available(pod) {
                return true;
            }
            if !identity::matches(self.set, pod) {
                self.actions.push(Action::FixIdentity(pod.clone()));
            }
            if has_claims {
                self.actions.push(Action::FixClaims {
                    pod: pod.clone(),
                    condemned: false,
                });
            }
        }
        busy
    }

    /// Removes the pods beyond the number asked for, highest first. Answers whether there are any left to wait for.
    fn condemned(&mut self, members: &[Option<Arc<Pod>>], condemned: &[(i32, Arc<Pod>)]) -> bool {
        let has_claims = !claims::templates(self.set).is_empty();
        let lowest_first = members
            .iter()
            .flatten()
            .chain(condemned.iter().rev().map(|(_, pod)| pod));
        let first_unhealthy = lowest_first
            .into_iter()
            .find(|pod| !self.available(pod))
            .map(|pod| pod.uid().to_owned());
        for (_, pod) in condemned {
            if has_claims {
                self.actions.push(Action::FixClaims {
                    pod: pod.clone(),
                    condemned: true,
                });
            }
            if pod.is_deleting() {
                if self.ordered {
                    return true;
                }
                continue;
            }
            let is_first_unhealthy = first_unhealthy.as_deref() == Some(pod.uid());
            if self.ordered && !self.available(pod) && !is_first_unhealthy {
                return true;
            }
            self.actions.push(Action::Delete(pod.clone()));
            if self.ordered {
                return true;
            }
        }
        !condemned.is_empty()
    }

    /// Deletes pods of another revision, from the highest ordinal down to the partition.
    fn update(
        &mut self,
        members: &[Option<Arc<Pod>>],
        strategy: &RollingUpdateStatefulSetStrategy,
        update: &str,
        wanted: i32,
    ) -> Outcome {
        let mut allowed = match &strategy.max_unavailable {
            None => 1,
            Some(value) => scaled_value(value, wanted, false)?.max(1),
        };
        let partition = usize::try_from(strategy.partition.unwrap_or(0)).unwrap_or(0);
        for pod in members.iter().skip(partition).rev().flatten() {
            if allowed == 0 {
                break;
            }
            if revision(pod) != update && !pod.is_deleting() {
                self.actions.push(Action::Delete(pod.clone()));
                allowed -= 1;
            } else if !self.available(pod) {
                allowed -= 1;
            }
        }
        Ok(())
    }
}

pub(super) fn status(
    set: &StatefulSet,
    pods: &[Arc<Pod>],
    revisions: &Revisions,
    now: Timestamp,
) -> StatefulSetStatus {
    let (current, update) = (revisions.current.name(), revisions.update.name());
    let mut counts = [0; 5];
    for pod in pods.iter().filter(|pod| !phase(pod).is_empty()) {
        let ready = phase(pod) == "Running" && is_ready(pod);
        let holds = [
            true,
            ready,
            ready && is_available(pod, min_ready_seconds(set), now),
            !pod.is_deleting() && revision(pod) == current,
            !pod.is_deleting() && revision(pod) == update,
        ];
        for (count, holds) in counts.iter_mut().zip(holds) {
            *count += i32::from(holds);
        }
    }
    let [all, ready, available, mut current_count, updated] = counts;
    let wanted = replicas(set);
    let done = rolling(set).is_some() && updated == wanted && ready == wanted && all == wanted;
    if done {
        current_count = updated;
    }
    let former = set.status.clone().unwrap_or_default();
    StatefulSetStatus {
        observed_generation: Some(set.generation()),
        replicas: all,
        ready_replicas: nonzero(ready),
        // Not left out when zero.
        available_replicas: Some(available),
        current_replicas: nonzero(current_count),
        updated_replicas: nonzero(updated),
        current_revision: Some(if done { update } else { current }.to_owned()),
        update_revision: Some(update.to_owned()),
        collision_count: Some(former.collision_count.unwrap_or(0)),
        conditions: former.conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn revisions() -> Revisions {
        let one = |name: &str| {
            let value = json!({"metadata": {"name": name}, "revision": 1});
            Arc::new(serde_json::from_value::<ControllerRevision>(value).expect("a revision"))
        };
        Revisions {
            current: one("old"),
            update: one("new"),
        }
    }

    fn set(replicas: i32, policy: &str, rolling: serde_json::Value) -> StatefulSet {
        serde_json::from_value(json!({"metadata": {"name": "db", "uid": "s"}, "spec": {"replicas": replicas, "selector": {},
            "template": {}, "podManagementPolicy": policy,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}}))
        .expect("a stateful set")
    }

    /// A pod `ORDINAL:REVISION:STATE`, where the state is ready, unready, failed or deleting.
    fn pod(text: &str) -> Arc<Pod> {
        let parts: Vec<&str> = text.split(':').collect();
        let name = format!("db-{}", parts[0]);
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "labels": {REVISION_HASH: parts[1],
                "statefulset.kubernetes.io/pod-name": name, "apps.kubernetes.io/pod-index": parts[0]}},
            "status": {"phase": if parts[2] == "failed" { "Failed" } else { "Running" }, "conditions": [
                {"type": "Ready", "status": if parts[2] == "ready" { "True" } else { "False" }}]},
        });
        if parts[2] == "deleting" {
            value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(value).expect("a pod"))
    }

    fn check(set: &StatefulSet, pods: &[&str], expect: &str) {
        let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
        let actions = plan(set, &pods, &revisions(), Timestamp::UNIX_EPOCH).expect("valid");
        let line = |action: &Action| match action {
            Action::Create { ordinal, updated } => {
                format!("+{ordinal}{}", if *updated { "new" } else { "old" })
            }
            Action::Delete(pod) => format!("-{}", &pod.name()[3..]),
            Action::EnsureClaims(_) => "claims".into(),
            Action::FixIdentity(_) => "identity".into(),
            Action::FixClaims { .. } => "owners".into(),
        };
        assert_eq!(
            actions.iter().map(line).collect::<Vec<_>>().join(" "),
            expect,
            "{pods:?}"
        );
    }

    #[test]
    fn ordered_sets_take_one_step_at_a_time() {
        let set = |replicas| set(replicas, "OrderedReady", json!({"partition": 0}));
        check(&set(3), &[], "+0new");
        check(&set(3), &["0:new:unready"], "");
        check(&set(3), &["0:new:ready"], "+1new");
        check(&set(3), &["0:new:ready", "1:new:failed"], "-1");
        check(
            &set(1),
            &["0:new:ready", "1:new:ready", "2:new:ready"],
            "-2",
        );
        check(
            &set(1),
            &["0:new:ready", "1:new:ready", "2:new:deleting"],
            "",
        );
        check(
            &set(1),
            &["0:new:ready", "1:new:unready", "2:new:ready"],
            "-2",
        );
        check(&set(1), &["0:new:unready", "1:new:ready"], "");
    }

    #[test]
    fn parallel_sets_take_all_steps_at_once() {
        let set = |replicas| set(replicas, "Parallel", json!({"partition": 0}));
        check(&set(3), &["1:new:unready"], "+0new +2new");
        check(
            &set(1),
            &["0:new:unready", "1:new:ready", "2:new:unready"],
            "-2 -1",
        );
    }

    #[test]
    fn updates_go_from_the_highest_ordinal_down_to_the_partition() {
        let all = ["0:old:ready", "1:old:ready", "2:old:ready"];
        check(&set(3, "OrderedReady", json!({"partition": 0})), &all, "-2");
        check(&set(3, "OrderedReady", json!({"partition": 3})), &all, "");
        check(
            &set(3, "OrderedReady", json!({"partition": 2})),
            &["0:old:ready", "1:old:ready", "2:new:ready"],
            "",
        );
        check(
            &set(3, "Parallel", json!({"partition": 0, "maxUnavailable": 2})),
            &all,
            "-2 -1",
        );
        check(
            &set(3, "Parallel", json!({"partition": 0})),
            &["0:old:ready", "1:old:ready", "2:new:unready"],
            "",
        );
        check(
            &set(3, "OrderedReady", json!({"partition": 2})),
            &["0:old:ready"],
            "+1old",
        );
    }

    #[test]
    fn the_status_follows_the_rollout() {
        let set = set(2, "OrderedReady", json!({"partition": 0}));
        let report = |pods: &[&str]| {
            let pods: Vec<_> = pods.iter().map(|text| pod(text)).collect();
            let s = status(&set, &pods, &revisions(), Timestamp::UNIX_EPOCH);
            format!(
                "{} ready={:?} current={:?} updated={:?} {}",
                s.replicas,
                s.ready_replicas,
                s.current_replicas,
                s.updated_replicas,
                s.current_revision.expect("set")
            )
        };
        let halfway = report(&["0:old:ready", "1:new:ready"]);
        assert_eq!(
            halfway,
            "2 ready=Some(2) current=Some(1) updated=Some(1) old"
        );
        assert_eq!(
            report(&["0:new:ready", "1:new:ready"]),
            "2 ready=Some(2) current=Some(2) updated=Some(2) new"
        );
    }
}
