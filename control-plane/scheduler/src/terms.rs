//! Matching of node selector terms, label selectors and tolerations.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

/// Whether one operator holds for a value that may be missing.
fn holds(operator: &str, actual: Option<&str>, values: &[String]) -> bool {
    let among = |actual: &str| values.iter().any(|v| v == actual);
    let number = |order: fn(&i64, &i64) -> bool| {
        let wanted = values.first().and_then(|v| v.parse().ok());
        let actual = actual.and_then(|a| a.parse().ok());
        actual.zip(wanted).is_some_and(|(a, w)| order(&a, &w))
    };
    match operator {
        "In" => actual.is_some_and(among),
        "NotIn" => !actual.is_some_and(among),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => number(i64::gt),
        "Lt" => number(i64::lt),
        _ => false,
    }
}

fn requirement_matches(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    holds(
        &requirement.operator,
        actual,
        requirement.values.as_deref().unwrap_or_default(),
    )
}

/// A term matches when all its expressions do; an empty term matches no node.
pub fn node_term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|r| requirement_matches(r, labels.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement_matches(r, Some(name)))
}

/// No selector matches nothing; an empty one matches everything.
pub fn selector_matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else {
        return false;
    };
    let labels_match = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    labels_match
        && selector.match_expressions.iter().flatten().all(|r| {
            let values = r.values.as_deref().unwrap_or_default();
            holds(&r.operator, labels.get(&r.key).map(String::as_str), values)
        })
}

/// Whether one toleration covers one taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    let key = toleration.key.as_deref().unwrap_or_default();
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        "" | "Equal" => {
            !key.is_empty()
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn tolerations_cover_taints_by_key_value_and_effect() {
        let check = |toleration: Value, taint: Value, expect: bool| {
            let toleration: Toleration = serde_json::from_value(toleration).unwrap();
            let taint: Taint = serde_json::from_value(taint).unwrap();
            assert_eq!(
                tolerates(&toleration, &taint),
                expect,
                "{toleration:?} {taint:?}"
            );
        };
        let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
        check(json!({"key": "k", "value": "v"}), taint.clone(), true);
        check(json!({"key": "k", "value": "w"}), taint.clone(), false);
        check(
            json!({"key": "k", "operator": "Exists"}),
            taint.clone(),
            true,
        );
        check(json!({"operator": "Exists"}), taint.clone(), true);
        check(
            json!({"operator": "Exists", "effect": "NoExecute"}),
            taint,
            false,
        );
    }

    #[test]
    fn node_terms_match_labels_and_the_name() {
        let labels = Labels::from([("zone".into(), "a".into()), ("cores".into(), "8".into())]);
        let check = |term: Value, expect: bool| {
            let term: NodeSelectorTerm = serde_json::from_value(term).unwrap();
            assert_eq!(node_term_matches(&term, "n1", &labels), expect, "{term:?}");
        };
        check(json!({}), false);
        check(
            json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
            false,
        );
        check(
            json!({"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["a"]}]}),
            true,
        );
        check(
            json!({"matchExpressions": [{"key": "cores", "operator": "Gt", "values": ["4"]}]}),
            true,
        );
        check(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
            true,
        );
        check(
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
            false,
        );
    }
}
