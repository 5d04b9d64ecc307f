//! Pods: a status that sums up phase, conditions and every container.

use serde_json::{Value, json};

use super::cells::{self, NONE};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;
use crate::time::Timestamp;

pub(super) static POD: ColumnSet = ColumnSet {
    columns: &[
        NAME,
        Column::text("Ready", "Containers that are ready, of all."),
        Column::text("Status", "What the pod's containers are doing, in a word."),
        Column::text(
            "Restarts",
            "How often containers were restarted, and when the last time.",
        ),
        AGE,
        Column::text("IP", "The pod's first address.").wide(),
        Column::text("Node", "The node that the pod is bound to.").wide(),
        Column::text(
            "Nominated Node",
            "The node on which room is being made for the pod.",
        )
        .wide(),
        Column::text("Readiness Gates", "Readiness gates that are true, of all.").wide(),
    ],
    cells: pod_cells,
    conditions: row_conditions,
};

pub(super) static POD_TEMPLATE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Containers", "Names of the template's containers."),
        Column::text("Images", "Images of the template's containers."),
        Column::text("Pod Labels", "Labels that pods of the template get."),
    ],
    |template, _| {
        let [names, images] = cells::containers(template, &["template"]);
        vec![
            cells::name(template),
            names,
            images,
            cells::labels(template.map(&["template", "metadata", "labels"])),
        ]
    },
);

fn row_conditions(pod: &Value) -> Vec<Value> {
    let (reason, message) = match pod.text(&["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![json!({"type": "Completed", "status": "True", "reason": reason, "message": message})]
}

/// What is summed up over a pod's containers.
#[derive(Default)]
struct Summary<'p> {
    reason: String,
    ready: usize,
    restarts: i64,
    /// When a container last ended before a restart; RFC 3339 in UTC sorts as text.
    last_restart: &'p str,
}

impl<'p> Summary<'p> {
    fn count_restarts(&mut self, container: &'p Value) {
        self.restarts += cells::count(container, &["restartCount"]);
        self.last_restart =
            self.last_restart
                .max(container.text(&["lastState", "terminated", "finishedAt"]));
    }
}

fn pod_cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let sidecars = pod
        .list(&["spec", "initContainers"])
        .iter()
        .filter(|c| is_sidecar(c))
        .count();
    let total = pod.list(&["spec", "containers"]).len() + sidecars;
    let summary = summarize(pod);
    let restarts = match (summary.restarts, summary.last_restart) {
        (0, _) | (_, "") => summary.restarts.to_string(),
        (restarts, last) => format!("{restarts} ({} ago)", cells::since(last, now)),
    };
    let ip = pod
        .list(&["status", "podIPs"])
        .first()
        .map_or("", |ip| ip.text(&["ip"]));
    vec![
        cells::name(pod),
        format!("{}/{total}", summary.ready).into(),
        final_reason(pod, summary.reason).into(),
        restarts.into(),
        cells::age(pod, now),
        if ip.is_empty() { NONE } else { ip }.into(),
        cells::text_or(pod, &["spec", "nodeName"], NONE),
        cells::text_or(pod, &["status", "nominatedNodeName"], NONE),
        readiness_gates(pod),
    ]
}

fn is_sidecar(init_container: &Value) -> bool {
    init_container.text(&["restartPolicy"]) == "Always"
}

fn summarize(pod: &Value) -> Summary<'_> {
    let phase_reason = match pod.text(&["status", "reason"]) {
        "" => pod.text(&["status", "phase"]),
        reason => reason,
    };
    let gated = cells::condition(pod, "PodScheduled")
        .is_some_and(|c| c.text(&["reason"]) == "SchedulingGated");
    let mut init = Summary {
        reason: if gated {
            "SchedulingGated"
        } else {
            phase_reason
        }
        .to_owned(),
        ..Summary::default()
    };
    let mut sidecars = Summary::default();
    let initializing = summarize_init(pod, &mut init, &mut sidecars);
    if initializing && !cells::condition_is_true(pod, "Initialized") {
        return init;
    }
    // Once initialized, only restarts of containers that still run count.
    let summary = Summary {
        reason: init.reason,
        ready: init.ready,
        ..sidecars
    };
    summarize_main(pod, summary)
}

/// Walks the init containers up to the first that has not done its part; whether there is one.
fn summarize_init<'p>(pod: &'p Value, init: &mut Summary<'p>, sidecars: &mut Summary<'p>) -> bool {
    let specs = pod.list(&["spec", "initContainers"]);
    for (i, status) in pod
        .list(&["status", "initContainerStatuses"])
        .iter()
        .enumerate()
    {
        let spec = specs
            .iter()
            .find(|spec| spec.text(&["name"]) == status.text(&["name"]));
        let sidecar = spec.is_some_and(is_sidecar);
        init.count_restarts(status);
        if sidecar {
            sidecars.count_restarts(status);
        }
        let terminated = status.field(&["state", "terminated"]);
        if terminated.is_some_and(|t| cells::count(t, &["exitCode"]) == 0) {
            continue;
        }
        if sidecar && status.flag(&["started"]) {
            init.ready += usize::from(status.flag(&["ready"]));
            continue;
        }
        let waiting = status.text(&["state", "waiting", "reason"]);
        init.reason = match terminated {
            Some(terminated) => format!("Init:{}", ended(terminated)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => {
                format!("Init:{waiting}")
            }
            None => format!("Init:{i}/{}", specs.len()),
        };
        return true;
    }
    false
}

fn ended(terminated: &Value) -> String {
    match (
        terminated.text(&["reason"]),
        cells::count(terminated, &["signal"]),
    ) {
        ("", 0) => format!("ExitCode:{}", cells::count(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn summarize_main<'p>(pod: &'p Value, mut summary: Summary<'p>) -> Summary<'p> {
    let mut running = false;
    let mut failure = None;
    // The first container has the last word.
    for status in pod.list(&["status", "containerStatuses"]).iter().rev() {
        summary.count_restarts(status);
        let waiting = status.text(&["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = status.field(&["state", "terminated"]) {
            summary.reason = ended(terminated);
            if cells::count(terminated, &["exitCode"]) != 0 {
                failure = Some(summary.reason.clone());
            }
        } else if status.flag(&["ready"]) && status.field(&["state", "running"]).is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        if running && cells::condition_is_true(pod, "Ready") {
            summary.reason = "Running".to_owned();
        } else if let Some(failure) = failure {
            summary.reason = failure;
        } else if running {
            summary.reason = "NotReady".to_owned();
        }
    }
    summary
}

fn final_reason(pod: &Value, reason: String) -> String {
    if !pod.is_being_deleted() {
        return reason;
    }
    if pod.text(&["status", "reason"]) == "NodeLost" {
        return "Unknown".to_owned();
    }
    match pod.text(&["status", "phase"]) {
        "Succeeded" | "Failed" => reason,
        _ => "Terminating".to_owned(),
    }
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = pod.list(&["spec", "readinessGates"]);
    if gates.is_empty() {
        return NONE.into();
    }
    let open = gates
        .iter()
        .filter(|gate| cells::condition_is_true(pod, gate.text(&["conditionType"])))
        .count();
    format!("{open}/{}", gates.len()).into()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::check::check;
    use super::*;

    #[test]
    fn running_with_restarts() {
        check(
            &POD,
            json!({
                "metadata": {},
                "spec": {"nodeName": "n1", "containers": [{"name": "a"}, {"name": "b"}], "readinessGates": [{"conditionType": "G"}]},
                "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "G", "status": "True"}],
                    "containerStatuses": [
                        {"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
                            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:05:00Z"}}},
                        {"name": "b", "ready": false, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            expect!["x | 1/2 | CrashLoopBackOff | 2 (5m ago) | 10m | 10.0.0.1 | n1 | <none> | 1/1"],
        );
    }

    #[test]
    fn initializing() {
        let pod = |state: Value| {
            json!({
                "metadata": {},
                "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [
                    {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "restartCount": 1, "state": state}]}})
        };
        check(
            &POD,
            pod(json!({"running": {}})),
            expect!["x | 0/1 | Init:1/2 | 1 | 10m | <none> | <none> | <none> | <none>"],
        );
        check(
            &POD,
            pod(json!({"terminated": {"exitCode": 3}})),
            expect!["x | 0/1 | Init:ExitCode:3 | 1 | 10m | <none> | <none> | <none> | <none>"],
        );
        check(
            &POD,
            pod(json!({"waiting": {"reason": "ImagePullBackOff"}})),
            expect![
                "x | 0/1 | Init:ImagePullBackOff | 1 | 10m | <none> | <none> | <none> | <none>"
            ],
        );
    }

    #[test]
    fn sidecars_count_as_containers() {
        check(
            &POD,
            json!({
                "metadata": {},
                "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]},
                "status": {"phase": "Running", "conditions": [{"type": "Initialized", "status": "True"}],
                    "initContainerStatuses": [{"name": "s", "ready": true, "started": true, "restartCount": 1, "state": {"running": {}}}],
                    "containerStatuses": [{"name": "a", "ready": true, "state": {"running": {}}}]}}),
            expect!["x | 2/2 | Running | 1 | 10m | <none> | <none> | <none> | <none>"],
        );
    }

    #[test]
    fn ended_and_deleted() {
        let status = json!({"phase": "Succeeded", "containerStatuses": [
            {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]});
        let pod =
            json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}, "status": status});
        assert_eq!((POD.conditions)(&pod)[0]["reason"], "Succeeded");
        check(
            &POD,
            pod,
            expect!["x | 0/1 | Completed | 0 | 10m | <none> | <none> | <none> | <none>"],
        );
        check(
            &POD,
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:09:00Z"}, "spec": {"containers": [{"name": "a"}]},
                "status": {"phase": "Running"}}),
            expect!["x | 0/1 | Terminating | 0 | 10m | <none> | <none> | <none> | <none>"],
        );
        check(
            &POD,
            json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}, "status": {"phase": "Pending",
                "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}}),
            expect!["x | 0/1 | SchedulingGated | 0 | 10m | <none> | <none> | <none> | <none>"],
        );
    }
}
