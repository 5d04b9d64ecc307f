//! Limits on what may happen: disruption budgets, quotas, priorities.

use serde_json::Value;

use super::cells;
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(super) static POD_DISRUPTION_BUDGET: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Min Available", "Fewest pods that must be available."),
        Column::text("Max Unavailable", "Most pods that may be unavailable."),
        Column::integer("Allowed Disruptions", "Pods that may be evicted now."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::shown_or(object, &["spec", "minAvailable"], "N/A").into(),
            cells::shown_or(object, &["spec", "maxUnavailable"], "N/A").into(),
            cells::number(object, &["status", "disruptionsAllowed"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static RESOURCE_QUOTA: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Request", "What is used and allowed, limits aside."),
        Column::text("Limit", "Limits that are used and allowed."),
        AGE,
    ],
    |object, now| {
        let [requests, limits] = quota(object);
        vec![
            cells::name(object),
            requests,
            limits,
            cells::age(object, now),
        ]
    },
);

fn quota(object: &Value) -> [Value; 2] {
    let mut names: Vec<&str> = object
        .map(&["status", "hard"])
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    let (limits, requests): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|n| n.starts_with("limits."));
    let join = |names: Vec<&str>| {
        let amount =
            |field: &str, name: &str| cells::shown_or(object, &["status", field, name], "0");
        let texts: Vec<String> = names
            .iter()
            .map(|name| format!("{name}: {}/{}", amount("used", name), amount("hard", name)))
            .collect();
        Value::from(texts.join(", "))
    };
    [join(requests), join(limits)]
}

pub(super) static PRIORITY_CLASS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Value", "The priority that pods of the class get."),
        Column::boolean(
            "Global-Default",
            "Whether pods without a class get this one.",
        ),
        AGE,
        Column::text(
            "PreemptionPolicy",
            "Whether pods of the class may displace others.",
        ),
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::number(object, &["value"]),
            cells::flag(object, &["globalDefault"]),
            cells::age(object, now),
            cells::text(object, &["preemptionPolicy"]),
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
    fn quotas_show_use() {
        check(
            &RESOURCE_QUOTA,
            json!({"metadata": {}, "status": {"hard": {"pods": "4", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "1"}}}),
            expect!["x | cpu: 0/1, pods: 1/4 | limits.cpu: 0/2 | 10m"],
        );
        check(
            &POD_DISRUPTION_BUDGET,
            json!({"metadata": {}, "spec": {"maxUnavailable": "25%"}, "status": {"disruptionsAllowed": 1}}),
            expect!["x | N/A | 25% | 1 | 10m"],
        );
    }
}
