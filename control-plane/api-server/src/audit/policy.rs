//! The audit policy (`audit.k8s.io/v1` Policy): for a request, the first rule that matches says how much is recorded.

use std::path::Path;

use api_machinery::dns_subdomain_errors;
use serde::Deserialize;

use super::AuditError;
use crate::identity::UserInfo;
use crate::request::RequestInfo;

const STANDARD: &str = include_str!("standard_policy.yaml");
const API_VERSION: &str = "audit.k8s.io/v1";

/// How much is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// When in the life of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What the policy wants of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

impl Policy {
    pub(super) fn load(path: &Path) -> Result<Self, AuditError> {
        let text = std::fs::read_to_string(path).map_err(|source| AuditError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|reason| AuditError::Policy {
            path: path.to_owned(),
            reason,
        })
    }

    /// What is recorded unless an administrator says otherwise.
    pub(super) fn standard() -> Self {
        Self::parse(STANDARD).expect("the policy that is built in is a good one")
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let policy: Self =
            serde_saphyr::from_str(text).map_err(|e| format!("failed decoding: {e}"))?;
        if policy.api_version != API_VERSION || policy.kind != "Policy" {
            return Err(format!(
                "unknown group version field {}, Kind={} in policy",
                policy.api_version, policy.kind
            ));
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            rule.check()
                .map_err(|(field, why)| format!("rules[{at}].{field}: Invalid value: {why}"))?;
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        Ok(policy)
    }

    /// What is to be recorded of a request; none if nothing is.
    pub(super) fn judge(&self, user: Option<&UserInfo>, info: &RequestInfo) -> Option<Wanted> {
        let rule = self.rules.iter().find(|rule| rule.matches(user, info))?;
        if rule.level == Level::None {
            return None;
        }
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(&rule.omit_stages);
        Some(Wanted {
            level: rule.level,
            omit_stages,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == value)
}

impl Rule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        for url in self.non_resource_urls.iter().filter(|url| *url != "*") {
            if !url.starts_with('/') {
                let why =
                    format!("{url:?}: non-resource URL rules must begin with a '/' character");
                return Err(("nonResourceURLs", why));
            }
            if url[..url.len() - 1].contains('*') {
                let why = format!(
                    "{url:?}: non-resource URL wildcards '*' must be the final character of the rule"
                );
                return Err(("nonResourceURLs", why));
            }
        }
        for GroupResources {
            group,
            resources,
            resource_names,
        } in &self.resources
        {
            let errors = match group.as_str() {
                "" | "*" => Vec::new(),
                group => dns_subdomain_errors(group),
            };
            if !errors.is_empty() {
                return Err((
                    "resources.group",
                    format!("{group:?}: {}", errors.join(",")),
                ));
            }
            if !resource_names.is_empty() && resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                return Err(("resources.resourceNames", why.into()));
            }
        }
        let about_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.non_resource_urls.is_empty() && about_resources {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            return Err(("nonResourceURLs", why.into()));
        }
        Ok(())
    }

    fn matches(&self, user: Option<&UserInfo>, info: &RequestInfo) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|u| has(&self.users, &u.name)) {
            return false;
        }
        if !self.user_groups.is_empty()
            && !user.is_some_and(|u| u.groups.iter().any(|g| has(&self.user_groups, g)))
        {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.matches_resource(info);
        }
        self.non_resource_urls.is_empty()
            || !info.is_resource
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| path_matches(&info.path, url))
    }

    fn matches_resource(&self, info: &RequestInfo) -> bool {
        if !info.is_resource {
            return false;
        }
        if !self.namespaces.is_empty() && !has(&self.namespaces, &info.namespace) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|r| r.matches(info))
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !has(&self.resource_names, &info.name) {
            return false;
        }
        let (resource, subresource) = (info.resource.as_str(), info.subresource.as_str());
        self.resources
            .iter()
            .any(|wanted| match wanted.split_once('/') {
                None => wanted == "*" || subresource.is_empty() && wanted == resource,
                // As upstream: `pods/*` is also the pods themselves, `*/status` only a subresource.
                Some((wanted, "*")) if wanted == resource => true,
                Some(("*", wanted)) => !subresource.is_empty() && wanted == subresource,
                Some(wanted) => wanted == (resource, subresource),
            })
    }
}

fn path_matches(path: &str, wanted: &str) -> bool {
    wanted == "*"
        || wanted == path
        || wanted
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;

    fn judge(policy: &Policy, user: &str, groups: &[&str], method: Method, url: &str) -> Level {
        let user = UserInfo {
            name: user.into(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..UserInfo::default()
        };
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let info = RequestInfo::parse(&method, path, query);
        policy
            .judge(Some(&user), &info)
            .map_or(Level::None, |w| w.level)
    }

    #[test]
    fn the_standard_policy_records_changes() {
        let policy = Policy::standard();
        let node = ["system:nodes"];
        let check = |groups: &[&str], method, url, expect| {
            assert_eq!(judge(&policy, "u", groups, method, url), expect, "{url}");
        };
        check(&[], Method::GET, "/api/v1/pods", Level::None);
        check(&[], Method::GET, "/healthz", Level::None);
        check(&[], Method::GET, "/api/v1/secrets?watch=1", Level::Metadata);
        check(
            &node,
            Method::GET,
            "/api/v1/namespaces/a/secrets/b",
            Level::None,
        );
        check(
            &[],
            Method::POST,
            "/api/v1/namespaces/a/pods",
            Level::Metadata,
        );
        check(
            &[],
            Method::POST,
            "/api/v1/namespaces/a/pods/b/exec",
            Level::Metadata,
        );
        check(&node, Method::PATCH, "/api/v1/nodes/n/status", Level::None);
        check(&node, Method::PATCH, "/api/v1/nodes/n", Level::Metadata);
        check(
            &[],
            Method::PATCH,
            "/api/v1/nodes/n/status",
            Level::Metadata,
        );
        check(
            &[],
            Method::POST,
            "/api/v1/namespaces/a/events",
            Level::None,
        );
        let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases/b";
        check(&[], Method::PUT, lease, Level::None);
        let review = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        check(&[], Method::POST, review, Level::None);
        check(
            &[],
            Method::POST,
            "/xebec/secrets-encryption",
            Level::Metadata,
        );
    }

    fn one_rule(rule: &str) -> Policy {
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {{level: Request, {rule}}}\n- level: None\n"
        );
        Policy::parse(&text).expect("a policy")
    }

    #[test]
    fn rules_match_as_upstreams() {
        let check = |rule: &str, url: &str, expect: bool| {
            let level = judge(&one_rule(rule), "alice", &["staff"], Method::GET, url);
            assert_eq!(level == Level::Request, expect, "{rule} {url}");
        };
        let (pod, log) = (
            "/api/v1/namespaces/a/pods/b",
            "/api/v1/namespaces/a/pods/b/log",
        );
        check("users: [alice]", pod, true);
        check("users: [bob]", pod, false);
        check("userGroups: [other, staff]", "/healthz", true);
        check("verbs: [get]", pod, true);
        check("verbs: [list]", pod, false);
        check("namespaces: [a]", pod, true);
        check("namespaces: ['']", "/api/v1/nodes", true);
        check("namespaces: ['']", "/healthz", false);
        check("resources: [{resources: [pods]}]", pod, true);
        check("resources: [{resources: [pods]}]", log, false);
        check("resources: [{resources: [pods/log]}]", log, true);
        check("resources: [{resources: [pods/*]}]", log, true);
        check("resources: [{resources: [pods/*]}]", pod, true);
        check("resources: [{resources: ['*/log']}]", log, true);
        check("resources: [{resources: ['*/log']}]", pod, false);
        check("resources: [{resources: ['*']}]", log, true);
        check("resources: [{group: apps}]", pod, false);
        check("resources: [{group: '*'}]", pod, true);
        check(
            "resources: [{resources: [pods], resourceNames: [b]}]",
            pod,
            true,
        );
        check(
            "resources: [{resources: [pods], resourceNames: [c]}]",
            pod,
            false,
        );
        check("nonResourceURLs: [/health*]", "/healthz", true);
        check("nonResourceURLs: ['*']", pod, false);
    }

    #[test]
    fn what_is_no_policy_is_told_why() {
        let check = |rules: &str, expect: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n");
            let error = Policy::parse(&text).expect_err(rules);
            assert!(error.contains(expect), "{rules}: {error}");
        };
        check("[]", "loaded illegal policy with 0 rules");
        check("[{level: Everything}]", "Everything");
        check("[{users: [a]}]", "level");
        check(
            "[{level: None, nonResourceURLs: [health]}]",
            "rules[0].nonResourceURLs: Invalid value: \"health\": non-resource URL rules must begin with a '/' character",
        );
        check(
            "[{level: None, nonResourceURLs: [/a], namespaces: [b]}]",
            "rules cannot apply to both regular resources and non-resource URLs",
        );
        check(
            "[{level: None, resources: [{resourceNames: [a]}]}]",
            "using resourceNames requires at least one resource",
        );
        check(
            "[{level: None, resources: [{group: A/v1}]}]",
            "resources.group",
        );
        let error = Policy::parse("apiVersion: v1\nkind: Pod\nrules: [{level: None}]").unwrap_err();
        assert_eq!(error, "unknown group version field v1, Kind=Pod in policy");
    }
}
