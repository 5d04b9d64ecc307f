//! Aggregated ClusterRoles: their rules are those of the roles that their selectors choose. The controller calls this
//! for every role with an `aggregationRule` and writes what it answers.

mod controller;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::PolicyRule;
use super::policy::rules_in;

pub use controller::aggregate_cluster_roles;

/// The rules that `role` should have, given all ClusterRoles; none if it is not aggregated or has them already.
pub fn aggregated_rules(role: &Value, all: &[Arc<Value>]) -> Option<Vec<PolicyRule>> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"]
        .as_array()
        .filter(|s| !s.is_empty())?;
    let mut sources: Vec<&Arc<Value>> = all
        .iter()
        .filter(|other| other["metadata"]["name"] != role["metadata"]["name"])
        .filter(|other| {
            selectors
                .iter()
                .any(|s| selects(s, other["metadata"]["labels"].as_object()))
        })
        .collect();
    sources.sort_by(|a, b| {
        a["metadata"]["name"]
            .as_str()
            .cmp(&b["metadata"]["name"].as_str())
    });
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in sources.iter().flat_map(|source| rules_in(source).to_vec()) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    (rules[..] != rules_in(role)[..]).then_some(rules)
}

/// A `LabelSelector`, in full.
pub(crate) fn selects(selector: &Value, labels: Option<&Map<String, Value>>) -> bool {
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let equal =
        |(key, value): (&String, &Value)| label(key).is_some() && label(key) == value.as_str();
    let matches = |expression: &Value| {
        let found = label(expression["key"].as_str().unwrap_or_default());
        let listed = || {
            let mut values = expression["values"].as_array().into_iter().flatten();
            values.any(|v| v.as_str() == found && found.is_some())
        };
        match expression["operator"].as_str() {
            Some("In") => listed(),
            Some("NotIn") => !listed(),
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    };
    selector["matchLabels"]
        .as_object()
        .into_iter()
        .flatten()
        .all(equal)
        && selector["matchExpressions"]
            .as_array()
            .into_iter()
            .flatten()
            .all(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::bootstrap_objects;

    #[test]
    fn admin_gathers_edit_and_view() {
        let mut all: Vec<Arc<Value>> = bootstrap_objects()
            .into_iter()
            .filter(|o| o.resource == "clusterroles")
            .map(|o| Arc::new(o.object))
            .collect();
        for name in ["view", "edit", "admin"] {
            let at = all
                .iter()
                .position(|o| o["metadata"]["name"] == name)
                .expect(name);
            let rules = aggregated_rules(&all[at], &all).expect("not aggregated yet");
            let mut role = (*all[at]).clone();
            role["rules"] = serde_json::to_value(rules).expect("JSON");
            assert_eq!(aggregated_rules(&role, &all), None, "a fixed point");
            all[at] = Arc::new(role);
        }
        let rules = |name: &str| {
            rules_in(
                all.iter()
                    .find(|o| o["metadata"]["name"] == name)
                    .expect(name),
            )
            .len()
        };
        assert!(
            rules("view") > 8 && rules("edit") > rules("view") && rules("admin") > rules("edit")
        );
    }
}
