//! Namespaces, configuration, accounts and events.

use serde_json::{Map, Value};

use super::cells;
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;
use crate::time::Timestamp;

pub(super) static NAMESPACE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Status", "Whether the namespace is active."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["status", "phase"]),
            cells::age(object, now),
        ]
    },
);

fn entries(object: &Value, fields: &[&str]) -> Value {
    fields
        .iter()
        .map(|field| object.map(&[field]).map_or(0, Map::len))
        .sum::<usize>()
        .into()
}

pub(super) static CONFIG_MAP: ColumnSet = ColumnSet::new(
    &[NAME, Column::text("Data", "Number of keys."), AGE],
    |object, now| {
        vec![
            cells::name(object),
            entries(object, &["data", "binaryData"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static SECRET: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Type", "What the secret is for."),
        Column::text("Data", "Number of keys."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["type"]),
            entries(object, &["data"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static SERVICE_ACCOUNT: ColumnSet = ColumnSet::new(&[NAME, AGE], |object, now| {
    vec![cells::name(object), cells::age(object, now)]
});

pub(super) static EVENT: ColumnSet = ColumnSet::new(
    &[
        Column::text("Last Seen", "Time since it last happened."),
        Column::text("Type", "Whether it is normal or a warning."),
        Column::text("Reason", "Why it happened, in a word."),
        Column::text("Object", "What it happened to."),
        Column::text("Subobject", "The part of the object that it happened to.").wide(),
        Column::text("Source", "Who reports it.").wide(),
        Column::text("Message", "What happened."),
        Column::text("First Seen", "Time since it first happened.").wide(),
        Column::text("Count", "How often it happened.").wide(),
        NAME.wide(),
    ],
    event_cells,
);

fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let time = |path: &[&str]| Some(event.text(path)).filter(|time| !time.is_empty());
    let first = time(&["firstTimestamp"])
        .or_else(|| time(&["eventTime"]))
        .unwrap_or_default();
    let series = event.field(&["series"]);
    let last = match series {
        Some(series) => series.text(&["lastObservedTime"]),
        None => time(&["lastTimestamp"]).unwrap_or(first),
    };
    let count = match series {
        Some(series) => cells::count(series, &["count"]),
        None => cells::count(event, &["count"]).max(1),
    };
    let kind = event.text(&["involvedObject", "kind"]).to_lowercase();
    let target = match event.text(&["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        cells::since(last, now).into(),
        cells::text(event, &["type"]),
        cells::text(event, &["reason"]),
        target.into(),
        cells::text(event, &["involvedObject", "fieldPath"]),
        source(event).into(),
        event.text(&["message"]).trim().into(),
        cells::since(first, now).into(),
        count.into(),
        cells::name(event),
    ]
}

fn source(event: &Value) -> String {
    let either = |first: &[&str], second: &[&str]| match event.text(first) {
        "" => event.text(second).to_owned(),
        text => text.to_owned(),
    };
    let component = either(&["source", "component"], &["reportingComponent"]);
    match either(&["source", "host"], &["reportingInstance"]) {
        instance if instance.is_empty() => component,
        instance => format!("{component}, {instance}"),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn events_old_and_new() {
        check(
            &EVENT,
            json!({"metadata": {}, "type": "Normal", "reason": "Pulled", "message": "done\n", "count": 3,
                "involvedObject": {"kind": "Pod", "name": "web", "fieldPath": "spec"}, "source": {"component": "kubelet", "host": "n1"},
                "firstTimestamp": "2026-01-01T00:01:00Z", "lastTimestamp": "2026-01-01T00:09:30Z"}),
            expect!["30s | Normal | Pulled | pod/web | spec | kubelet, n1 | done | 9m | 3 | x"],
        );
        check(
            &EVENT,
            json!({"metadata": {}, "type": "Normal", "reason": "R", "involvedObject": {"kind": "Node"}, "reportingComponent": "c",
                "firstTimestamp": null, "eventTime": "2026-01-01T00:08:00.000000Z"}),
            expect!["2m | Normal | R | node |  | c |  | 2m | 1 | x"],
        );
    }

    #[test]
    fn keys_are_counted() {
        check(
            &CONFIG_MAP,
            json!({"metadata": {}, "data": {"a": "1"}, "binaryData": {"b": "", "c": ""}}),
            expect!["x | 3 | 10m"],
        );
    }
}
