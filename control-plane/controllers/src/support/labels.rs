//! Label selectors as they stand in workload specs, ready for matching.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::error::{Error, Outcome};

/// A checked label selector.
#[derive(Clone, Debug)]
pub(crate) struct Selector(Option<LabelSelector>);

impl Selector {
    /// An absent selector matches nothing, an empty one everything.
    pub(crate) fn new(selector: Option<&LabelSelector>) -> Outcome<Self> {
        for requirement in selector
            .iter()
            .filter_map(|s| s.match_expressions.as_ref())
            .flatten()
        {
            check(requirement)?;
        }
        Ok(Self(selector.cloned()))
    }

    pub(crate) fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        Self(Some(LabelSelector {
            match_labels: Some(labels.clone()),
            match_expressions: None,
        }))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(|s| {
            s.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
                && s.match_expressions.as_ref().is_none_or(Vec::is_empty)
        })
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_some_and(|selector| {
            selector
                .match_labels
                .as_ref()
                .is_none_or(|wanted| matches_all(wanted, labels))
                && selector
                    .match_expressions
                    .iter()
                    .flatten()
                    .all(|r| requirement_holds(r, labels))
        })
    }
}

/// Every wanted label is there with the wanted value.
pub(crate) fn matches_all(
    wanted: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

fn check(requirement: &LabelSelectorRequirement) -> Outcome {
    match requirement.operator.as_str() {
        "In" | "NotIn" | "Exists" | "DoesNotExist" => Ok(()),
        other => Err(Error::Invalid(format!(
            "\"{other}\" is not a valid label selector operator"
        ))),
    }
}

fn requirement_holds(
    requirement: &LabelSelectorRequirement,
    labels: &BTreeMap<String, String>,
) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || {
        value.is_some_and(|v| {
            requirement
                .values
                .iter()
                .flatten()
                .any(|wanted| wanted == v)
        })
    };
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        _ => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(selector: serde_json::Value, labels: serde_json::Value, expect: bool) {
        let selector: LabelSelector = serde_json::from_value(selector).expect("a selector");
        let labels = serde_json::from_value(labels).expect("labels");
        assert_eq!(
            Selector::new(Some(&selector))
                .expect("valid")
                .matches(&labels),
            expect,
            "{selector:?} {labels:?}"
        );
    }

    #[test]
    fn selectors_match_as_in_kubernetes() {
        check(json!({}), json!({"a": "b"}), true);
        check(
            json!({"matchLabels": {"a": "b"}}),
            json!({"a": "b", "c": "d"}),
            true,
        );
        check(json!({"matchLabels": {"a": "b"}}), json!({"a": "x"}), false);
        let expression = |op: &str, values: serde_json::Value| json!({"matchExpressions": [{"key": "a", "operator": op, "values": values}]});
        check(expression("In", json!(["b", "c"])), json!({"a": "c"}), true);
        check(expression("In", json!(["b"])), json!({}), false);
        check(expression("NotIn", json!(["b"])), json!({}), true);
        check(expression("NotIn", json!(["b"])), json!({"a": "b"}), false);
        check(expression("Exists", json!(null)), json!({"a": ""}), true);
        check(
            expression("DoesNotExist", json!(null)),
            json!({"a": ""}),
            false,
        );
        assert!(
            !Selector::new(None)
                .expect("valid")
                .matches(&BTreeMap::new()),
            "no selector selects nothing"
        );
    }
}
