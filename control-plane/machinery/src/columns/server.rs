//! What shapes the API server: webhooks, admission policies, API services, flow control.

use serde_json::Value;

use super::cells::{self, NONE, UNSET};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::selector::LabelSelector;
use crate::table::Column;

pub(super) static WEBHOOK_CONFIGURATION: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Webhooks", "Number of webhooks."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            object.list(&["webhooks"]).len().into(),
            cells::age(object, now),
        ]
    },
);

const PARAM_KIND: Column = Column::text(
    "ParamKind",
    "Kind of the objects that the policy is parameterized with.",
);

pub(super) static VALIDATING_POLICY: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Validations", "Number of validation rules."),
        PARAM_KIND,
        AGE,
    ],
    |object, now| {
        let rules = object.list(&["spec", "validations"]).len();
        vec![
            cells::name(object),
            rules.into(),
            param_kind(object).into(),
            cells::age(object, now),
        ]
    },
);

pub(super) static MUTATING_POLICY: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::integer("Mutations", "Number of mutation rules."),
        PARAM_KIND,
        AGE,
    ],
    |object, now| {
        let rules = object.list(&["spec", "mutations"]).len();
        vec![
            cells::name(object),
            rules.into(),
            param_kind(object).into(),
            cells::age(object, now),
        ]
    },
);

fn param_kind(policy: &Value) -> String {
    match policy.field(&["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", kind.api_version(), kind.kind()),
        None => UNSET.to_owned(),
    }
}

pub(super) static POLICY_BINDING: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("PolicyName", "The policy that is bound."),
        Column::text("ParamRef", "The objects that it is parameterized with."),
        AGE,
    ],
    |object, now| {
        let policy = cells::text(object, &["spec", "policyName"]);
        vec![
            cells::name(object),
            policy,
            param_ref(object).into(),
            cells::age(object, now),
        ]
    },
);

fn param_ref(binding: &Value) -> String {
    let Some(reference) = binding.field(&["spec", "paramRef"]) else {
        return UNSET.to_owned();
    };
    match (reference.text(&["name"]), reference.text(&["namespace"])) {
        ("", _) => match LabelSelector::from_object(reference.field(&["selector"])) {
            Ok(selector) if !selector.is_nothing() => selector.to_string(),
            _ => UNSET.to_owned(),
        },
        (name, "") => format!("*/{name}"),
        (name, namespace) => format!("{namespace}/{name}"),
    }
}

pub(super) static API_SERVICE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text(
            "Service",
            "The service that answers for this API, or this server.",
        ),
        Column::text("Available", "Whether it answers."),
        AGE,
    ],
    |object, now| {
        let service = object.field(&["spec", "service"]);
        let service = service.map(|s| format!("{}/{}", s.text(&["namespace"]), s.text(&["name"])));
        let available = match cells::condition(object, "Available") {
            None => "Unknown".to_owned(),
            Some(condition) => match (condition.text(&["status"]), condition.text(&["reason"])) {
                (status @ "True", _) | (status, "") => status.to_owned(),
                (status, reason) => format!("{status} ({reason})"),
            },
        };
        vec![
            cells::name(object),
            service.unwrap_or_else(|| "Local".to_owned()).into(),
            available.into(),
            cells::age(object, now),
        ]
    },
);

pub(super) static FLOW_SCHEMA: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text(
            "PriorityLevel",
            "The level in which matching requests queue.",
        ),
        Column::text("MatchingPrecedence", "The lower, the earlier it is asked."),
        Column::text("DistinguisherMethod", "What makes a flow."),
        AGE,
        Column::text("MissingPL", "Whether the level is missing."),
    ],
    |object, now| {
        let dangling = cells::condition(object, "Dangling").map_or("?", |c| c.text(&["status"]));
        vec![
            cells::name(object),
            cells::text(object, &["spec", "priorityLevelConfiguration", "name"]),
            cells::number(object, &["spec", "matchingPrecedence"]),
            cells::text_or(object, &["spec", "distinguisherMethod", "type"], NONE),
            cells::age(object, now),
            dangling.into(),
        ]
    },
);

pub(super) static PRIORITY_LEVEL: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Type", "Whether requests are limited."),
        Column::text(
            "NominalConcurrencyShares",
            "The level's share of all seats.",
        ),
        Column::text("Queues", "Number of queues."),
        Column::text("HandSize", "Queues that one flow may use."),
        Column::text("QueueLengthLimit", "Requests that one queue holds."),
        AGE,
    ],
    |object, now| {
        let queuing = |field: &str| {
            cells::value_or(
                object,
                &["spec", "limited", "limitResponse", "queuing", field],
                NONE,
            )
        };
        vec![
            cells::name(object),
            cells::text(object, &["spec", "type"]),
            cells::value_or(
                object,
                &["spec", "limited", "nominalConcurrencyShares"],
                NONE,
            ),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            cells::age(object, now),
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
    fn api_services_and_levels() {
        check(
            &API_SERVICE,
            json!({"metadata": {}}),
            expect!["x | Local | Unknown | 10m"],
        );
        check(
            &API_SERVICE,
            json!({"metadata": {}, "spec": {"service": {"namespace": "n", "name": "s"}},
                "status": {"conditions": [{"type": "Available", "status": "False", "reason": "R"}]}}),
            expect!["x | n/s | False (R) | 10m"],
        );
        check(
            &PRIORITY_LEVEL,
            json!({"metadata": {}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"queuing": {"queues": 64}}}}}),
            expect!["x | Limited | 5 | 64 | <none> | <none> | 10m"],
        );
    }
}
