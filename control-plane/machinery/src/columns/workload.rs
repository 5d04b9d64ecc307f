//! What makes pods: replica sets, deployments, stateful sets, daemon sets, jobs.

use serde_json::Value;

use super::cells::{self, NONE, UNSET};
use super::{AGE, ColumnSet, NAME};
use crate::meta::{ObjectExt, controller_of};
use crate::table::Column;
use crate::time::{Timestamp, human_duration};

const TEMPLATE: [&str; 2] = ["spec", "template"];
const CONTAINERS: Column = Column::text("Containers", "Names of the template's containers.").wide();
const IMAGES: Column = Column::text("Images", "Images of the template's containers.").wide();
const SELECTOR: Column =
    Column::text("Selector", "Labels of the pods that belong to the object.").wide();

const REPLICA_COLUMNS: [Column; 8] = [
    NAME,
    Column::integer("Desired", "Pods that are wanted."),
    Column::integer("Current", "Pods that exist."),
    Column::integer("Ready", "Pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) static REPLICATION_CONTROLLER: ColumnSet =
    ColumnSet::new(&REPLICA_COLUMNS, |object, now| {
        replica_cells(
            object,
            cells::labels(object.map(&["spec", "selector"])),
            now,
        )
    });

pub(super) static REPLICA_SET: ColumnSet = ColumnSet::new(&REPLICA_COLUMNS, |object, now| {
    replica_cells(object, cells::selector(object, &["spec", "selector"]), now)
});

fn replica_cells(object: &Value, selector: Value, now: Timestamp) -> Vec<Value> {
    let [names, images] = cells::containers(object, &TEMPLATE);
    vec![
        cells::name(object),
        cells::number(object, &["spec", "replicas"]),
        cells::number(object, &["status", "replicas"]),
        cells::number(object, &["status", "readyReplicas"]),
        cells::age(object, now),
        names,
        images,
        selector,
    ]
}

pub(super) static DEPLOYMENT: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Ready", "Pods that are ready, of those wanted."),
        Column::text("Up-to-date", "Pods made from the newest template."),
        Column::text("Available", "Pods that have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    |object, now| {
        let [names, images] = cells::containers(object, &TEMPLATE);
        let ready = cells::count(object, &["status", "readyReplicas"]);
        vec![
            cells::name(object),
            cells::ratio(ready, cells::count(object, &["spec", "replicas"])),
            cells::number(object, &["status", "updatedReplicas"]),
            cells::number(object, &["status", "availableReplicas"]),
            cells::age(object, now),
            names,
            images,
            cells::selector(object, &["spec", "selector"]),
        ]
    },
);

pub(super) static STATEFUL_SET: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Ready", "Pods that are ready, of those wanted."),
        AGE,
        CONTAINERS,
        IMAGES,
    ],
    |object, now| {
        let [names, images] = cells::containers(object, &TEMPLATE);
        let ready = cells::count(object, &["status", "readyReplicas"]);
        vec![
            cells::name(object),
            cells::ratio(ready, cells::count(object, &["spec", "replicas"])),
            cells::age(object, now),
            names,
            images,
        ]
    },
);

pub(super) static DAEMON_SET: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Desired", "Nodes that should run the pod."),
        Column::integer("Current", "Nodes that run the pod and should."),
        Column::integer("Ready", "Nodes on which the pod is ready."),
        Column::integer("Up-to-date", "Nodes that run the newest template."),
        Column::integer(
            "Available",
            "Nodes on which the pod has been ready for long enough.",
        ),
        Column::text(
            "Node Selector",
            "Labels of the nodes that should run the pod.",
        ),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    |object, now| {
        let [names, images] = cells::containers(object, &TEMPLATE);
        vec![
            cells::name(object),
            cells::number(object, &["status", "desiredNumberScheduled"]),
            cells::number(object, &["status", "currentNumberScheduled"]),
            cells::number(object, &["status", "numberReady"]),
            cells::number(object, &["status", "updatedNumberScheduled"]),
            cells::number(object, &["status", "numberAvailable"]),
            cells::labels(object.map(&["spec", "template", "spec", "nodeSelector"])),
            cells::age(object, now),
            names,
            images,
            cells::selector(object, &["spec", "selector"]),
        ]
    },
);

pub(super) static CONTROLLER_REVISION: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Controller", "The object whose revision this is."),
        Column::text("Revision", "The revision's number."),
        AGE,
    ],
    |object, now| {
        let controller = controller_of(object).map(|owner| {
            let kind = owner.kind().to_lowercase();
            let subject = match owner.api_version().split_once('/') {
                Some((group, _)) => format!("{kind}.{group}"),
                None => kind,
            };
            format!("{subject}/{}", owner.text(&["name"]))
        });
        vec![
            cells::name(object),
            controller.unwrap_or_else(|| NONE.to_owned()).into(),
            cells::number(object, &["revision"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static JOB: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Status", "What the job is doing, in a word."),
        Column::text("Completions", "Pods that succeeded, of those wanted."),
        Column::text("Duration", "How long the job has taken."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    |job, now| {
        let [names, images] = cells::containers(job, &TEMPLATE);
        vec![
            cells::name(job),
            job_status(job).into(),
            job_completions(job).into(),
            job_duration(job, now).into(),
            cells::age(job, now),
            names,
            images,
            cells::selector(job, &["spec", "selector"]),
        ]
    },
);

fn job_status(job: &Value) -> &'static str {
    let is = |condition| cells::condition_is_true(job, condition);
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if job.is_being_deleted() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn job_completions(job: &Value) -> String {
    let succeeded = cells::count(job, &["status", "succeeded"]);
    match (
        job.number(&["spec", "completions"]),
        cells::count(job, &["spec", "parallelism"]),
    ) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn job_duration(job: &Value, now: Timestamp) -> String {
    let time = |field: &str| crate::schema::parse_time(job.text(&["status", field])).ok();
    match (time("startTime"), time("completionTime")) {
        (Some(start), end) => human_duration(start, end.unwrap_or(now)),
        (None, _) => String::new(),
    }
}

pub(super) static CRON_JOB: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Schedule", "When jobs are made, as in cron."),
        Column::text("Timezone", "The time zone of the schedule."),
        Column::boolean("Suspend", "Whether no jobs are made for now."),
        Column::integer("Active", "Jobs that run now."),
        Column::text("Last Schedule", "Time since the last job was made."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    |object, now| {
        let [names, images] =
            cells::containers(object, &["spec", "jobTemplate", "spec", "template"]);
        let last = match object.text(&["status", "lastScheduleTime"]) {
            "" => NONE.to_owned(),
            time => cells::since(time, now),
        };
        let suspend = match object.field(&["spec", "suspend"]) {
            Some(Value::Bool(true)) => "True",
            Some(_) => "False",
            None => UNSET,
        };
        vec![
            cells::name(object),
            cells::text(object, &["spec", "schedule"]),
            cells::text_or(object, &["spec", "timeZone"], NONE),
            suspend.into(),
            object.list(&["status", "active"]).len().into(),
            last.into(),
            cells::age(object, now),
            names,
            images,
            cells::selector(object, &["spec", "jobTemplate", "spec", "selector"]),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn sets_of_replicas() {
        let object = json!({"metadata": {}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}}},
            "status": {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1}});
        check(
            &REPLICA_SET,
            object.clone(),
            expect!["x | 3 | 3 | 2 | 10m | a,b | i:1,j | app=web"],
        );
        check(
            &DEPLOYMENT,
            object.clone(),
            expect!["x | 2/3 | 1 | 0 | 10m | a,b | i:1,j | app=web"],
        );
        check(
            &STATEFUL_SET,
            object,
            expect!["x | 2/3 | 10m | a,b | i:1,j"],
        );
    }

    #[test]
    fn jobs() {
        let job =
            |spec: Value, status: Value| json!({"metadata": {}, "spec": spec, "status": status});
        check(
            &JOB,
            job(
                json!({"completions": 2}),
                json!({"succeeded": 2, "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:45Z",
                    "conditions": [{"type": "Complete", "status": "True"}]}),
            ),
            expect!["x | Complete | 2/2 | 45s | 10m |  |  | <none>"],
        );
        check(
            &JOB,
            job(
                json!({"parallelism": 3}),
                json!({"startTime": "2026-01-01T00:04:00Z"}),
            ),
            expect!["x | Running | 0/1 of 3 | 6m | 10m |  |  | <none>"],
        );
    }

    #[test]
    fn revisions_name_their_controller() {
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true});
        check(
            &CONTROLLER_REVISION,
            json!({"metadata": {"ownerReferences": [owner]}, "revision": 4}),
            expect!["x | daemonset.apps/d | 4 | 10m"],
        );
    }
}
