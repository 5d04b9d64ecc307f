//! One rule of a role: what it allows, and whether rules cover other rules.

use std::collections::{BTreeMap, BTreeSet};

use api_machinery::go_quote;
use serde::{Deserialize, Serialize};

use crate::authz::AccessQuery;

/// `PolicyRule` of `rbac.authorization.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|v| v == wanted)
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|v| v == "*" || v == wanted)
}

/// `*` at the end stands for any rest.
fn path_matches(pattern: &str, path: &str) -> bool {
    pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

impl PolicyRule {
    /// `*` on everything: what the superuser's role holds.
    pub(crate) fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..Self::default()
            },
            Self {
                verbs: all(),
                non_resource_urls: all(),
                ..Self::default()
            },
        ]
    }

    pub(crate) fn allows(&self, query: &AccessQuery<'_>) -> bool {
        if !has_or_all(&self.verbs, query.verb) {
            return false;
        }
        if !query.is_resource {
            return self
                .non_resource_urls
                .iter()
                .any(|pattern| path_matches(pattern, query.path));
        }
        has_or_all(&self.api_groups, query.group)
            && self
                .resources
                .iter()
                .any(|r| resource_matches(r, query.resource, query.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, query.name))
    }

    /// Whether all that `atom` (a rule of one verb, one resource, at most one name) allows is allowed by this rule.
    fn covers(&self, atom: &Self) -> bool {
        let all = |mine: &[String], theirs: &[String]| {
            has(mine, "*") || theirs.iter().all(|v| has(mine, v))
        };
        let resource = |wanted: &String| {
            has_or_all(&self.resources, wanted)
                || wanted
                    .split_once('/')
                    .is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        };
        all(&self.verbs, &atom.verbs)
            && all(&self.api_groups, &atom.api_groups)
            && atom.resources.iter().all(resource)
            && atom
                .non_resource_urls
                .iter()
                .all(|u| self.non_resource_urls.iter().any(|p| path_matches(p, u)))
            && (self.resource_names.is_empty()
                || (!atom.resource_names.is_empty()
                    && atom
                        .resource_names
                        .iter()
                        .all(|n| has(&self.resource_names, n))))
    }

    fn atoms(&self) -> Vec<Self> {
        let one = |v: &String| vec![v.clone()];
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            for (group, resource) in self
                .api_groups
                .iter()
                .flat_map(|g| self.resources.iter().map(move |r| (g, r)))
            {
                let atom = Self {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Self::default()
                };
                if self.resource_names.is_empty() {
                    atoms.push(atom);
                } else {
                    atoms.extend(self.resource_names.iter().map(|n| Self {
                        resource_names: one(n),
                        ..atom.clone()
                    }));
                }
            }
            atoms.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Self::default()
            }));
        }
        atoms
    }

    /// As error messages show a rule.
    fn describe(&self) -> String {
        let parts = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let parts = parts.iter().filter(|(_, values)| !values.is_empty());
        let parts: Vec<_> = parts
            .map(|(name, values)| format!("{name}:{}", quoted_list(values)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((first, second)) => second == subresource && (first == "*" || first == resource),
    }
}

/// A list of strings as Go's `%q` shows it.
pub(crate) fn quoted_list(values: &[String]) -> String {
    format!(
        "[{}]",
        values
            .iter()
            .map(|v| go_quote(v))
            .collect::<Vec<_>>()
            .join(" ")
    )
}

/// What of `wanted` is not covered by `held`, one line each, sorted; empty if everything is.
pub(crate) fn missing_rights(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<String> {
    let uncovered = wanted
        .iter()
        .flat_map(PolicyRule::atoms)
        .filter(|atom| !held.iter().any(|r| r.covers(atom)));
    let mut lines = BTreeSet::new();
    // Atoms that differ only by their verb are said together.
    let mut together: BTreeMap<PolicyRule, Vec<String>> = BTreeMap::new();
    for mut atom in uncovered {
        if atom.non_resource_urls.is_empty() {
            let verbs = std::mem::take(&mut atom.verbs);
            together.entry(atom).or_default().extend(verbs);
        } else {
            lines.insert(atom.describe());
        }
    }
    for (rule, verbs) in together {
        lines.insert(PolicyRule { verbs, ..rule }.describe());
    }
    lines.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(value: serde_json::Value) -> Vec<PolicyRule> {
        serde_json::from_value(value).expect("rules")
    }

    fn check(rule: serde_json::Value, allowed: &[&str], refused: &[&str]) {
        let rule = rules(json!([rule])).remove(0);
        let query = |text: &str| {
            let parts: Vec<String> = text.split(' ').map(String::from).collect();
            let [verb, group, resource, name] =
                [0, 1, 2, 3].map(|i| parts.get(i).cloned().unwrap_or_default());
            if group.starts_with('/') {
                return rule.allows(&AccessQuery {
                    verb: &verb,
                    path: &group,
                    ..AccessQuery::default()
                });
            }
            let (resource, subresource) = resource.split_once('/').unwrap_or((&resource, ""));
            let group = group.replace("core", "");
            rule.allows(&AccessQuery {
                verb: &verb,
                group: &group,
                resource,
                subresource,
                name: &name,
                is_resource: true,
                ..AccessQuery::default()
            })
        };
        allowed
            .iter()
            .for_each(|text| assert!(query(text), "{text}"));
        refused
            .iter()
            .for_each(|text| assert!(!query(text), "{text}"));
    }

    #[test]
    fn rules_match_requests() {
        check(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "*/scale"]}),
            &["get core pods", "get core pods x", "get core things/scale"],
            &[
                "list core pods",
                "get apps pods",
                "get core pods/log",
                "get core scale",
            ],
        );
        check(
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["configmaps"], "resourceNames": ["a"]}),
            &["delete core configmaps a"],
            &[
                "list core configmaps",
                "get core configmaps b",
                "get /healthz",
            ],
        );
        check(
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]}),
            &["get /healthz", "get /apis/apps"],
            &["post /healthz", "get /healthz/x", "get /api"],
        );
    }

    #[test]
    fn rights_that_are_not_held_are_named() {
        let held =
            rules(json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]));
        let check = |wanted: serde_json::Value, expect: &[&str]| {
            assert_eq!(missing_rights(&held, &rules(wanted)), expect);
        };
        check(
            json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}]),
            &[],
        );
        check(
            json!([{"verbs": ["get", "delete", "update"], "apiGroups": [""], "resources": ["pods"]}]),
            &[r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "update"]}"#],
        );
        check(
            json!([{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]),
            &[r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#],
        );
    }
}
