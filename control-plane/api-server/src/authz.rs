//! Authorization: the superuser's group, then the node authorizer, then RBAC; the first opinion counts.
//!
//! Everything is answered from memory. `AccessQuery` is the question in its general form (review kinds and checks inside
//! the server ask with verbs that no URL has); the pipeline's [`RequestInfo`] is turned into one.

mod node;

use std::sync::Arc;

use api_machinery::{DeniedRequest, Status};

use crate::identity::{Authorizer, Decision, UserInfo, Verdict};
use crate::plugin::ObjectReader;
use crate::rbac::{PolicyRule, Rbac};
use crate::request::RequestInfo;

use self::node::NodeAuthorizer;

pub(crate) use self::node::node_name;

/// The group that may do everything.
pub(crate) const SUPERUSERS: &str = "system:masters";

/// What someone wants to do, in the terms of `SubjectAccessReview`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccessQuery<'a> {
    pub verb: &'a str,
    /// Whether it is about a resource; otherwise only `verb` and `path` count.
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    /// Plural.
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty for cluster-scoped requests and those over all namespaces.
    pub namespace: &'a str,
    /// Empty for requests over all names.
    pub name: &'a str,
    pub path: &'a str,
    /// The field selector of a list or watch; empty if there is none.
    pub field_selector: &'a str,
}

impl<'a> AccessQuery<'a> {
    /// The question that a request asks.
    pub fn of(info: &'a RequestInfo) -> Self {
        Self {
            verb: info.verb,
            is_resource: info.is_resource,
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
            path: &info.path,
            field_selector: &info.field_selector,
        }
    }
}

/// All authorizers together. Cheap to clone.
#[derive(Clone)]
pub struct Authorization {
    node: Arc<NodeAuthorizer>,
    rbac: Rbac,
}

impl Authorization {
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        Self {
            node: Arc::new(NodeAuthorizer::new(reader.clone())),
            rbac: Rbac::new(reader),
        }
    }

    pub(crate) fn rbac(&self) -> &Rbac {
        &self.rbac
    }

    /// Allows, or says why there is no opinion; reasons are joined as upstream joins them.
    pub fn decide(&self, user: &UserInfo, query: &AccessQuery<'_>) -> Decision {
        if user.is_in_group(SUPERUSERS) {
            return Decision::allow("");
        }
        let node = self.node.decide(user, query);
        if node.verdict != Verdict::NoOpinion {
            return node;
        }
        let mut rbac = self.rbac.decide(user, query);
        if rbac.verdict == Verdict::NoOpinion && !node.reason.is_empty() {
            rbac.reason = if rbac.reason.is_empty() {
                node.reason
            } else {
                format!("{}\n{}", node.reason, rbac.reason)
            };
        }
        rbac
    }

    /// `Ok` or the 403 that upstream answers.
    pub fn require(&self, user: &UserInfo, query: &AccessQuery<'_>) -> Result<(), Status> {
        let decision = self.decide(user, query);
        if decision.is_allowed() {
            Ok(())
        } else {
            Err(denied(user, query, &decision.reason))
        }
    }

    /// The rules that can be listed for a user, and why the list may be incomplete.
    pub(crate) fn rules_for(
        &self,
        user: &UserInfo,
        namespace: &str,
    ) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = self.rbac.rules_for(user, namespace);
        if user.is_in_group(SUPERUSERS) {
            rules.extend(PolicyRule::everything());
        }
        if node_name(user).is_some() {
            errors.insert(
                0,
                "node authorizer does not support user rule resolution".into(),
            );
        }
        (rules, errors)
    }
}

impl Authorizer for Authorization {
    fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision {
        self.decide(user, &AccessQuery::of(info))
    }
}

/// The 403 for a refused question.
pub(crate) fn denied(user: &UserInfo, query: &AccessQuery<'_>, reason: &str) -> Status {
    let request = DeniedRequest {
        user: &user.name,
        verb: query.verb,
        group: query.group,
        resource: if query.is_resource {
            query.resource
        } else {
            ""
        },
        subresource: query.subresource,
        namespace: query.namespace,
        name: query.name,
        path: query.path,
    };
    Status::access_denied(&request, reason)
}
