//! Acting as someone else: the `Impersonate-*` headers (`kubectl --as`), each part allowed by the verb `impersonate`.

use api_machinery::Status;
use http::HeaderMap;

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, add_group, peer};
use crate::authz::{AccessQuery, Authorization};
use crate::identity::{Impersonation, UserInfo};
use crate::tokens::service_account_groups;

const GROUP: &str = "authentication.k8s.io";

/// The user that `user` asks to be, if it asks and may; `None` if it does not ask.
pub(super) fn impersonated(
    authorization: &Authorization,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    let Some(mut wanted) = wanted_user(headers)? else {
        return Ok(None);
    };
    for query in questions(&wanted) {
        authorization.require(user, &query)?;
    }
    if let Some((namespace, _)) = service_account(&wanted.name).filter(|_| wanted.groups.is_empty())
    {
        wanted.groups = service_account_groups(namespace).into();
    }
    if wanted.name == ANONYMOUS {
        add_group(&mut wanted, UNAUTHENTICATED);
    } else if !wanted.is_in_group(UNAUTHENTICATED) {
        add_group(&mut wanted, AUTHENTICATED);
    }
    Ok(Some(wanted))
}

/// Whom the headers name.
fn wanted_user(headers: &HeaderMap) -> Result<Option<UserInfo>, Status> {
    let all = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter();
        values
            .filter_map(|v| v.to_str().ok().map(String::from))
            .collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let wanted = UserInfo {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group"),
        extra: peer::extra(headers, "impersonate-extra-"),
    };
    if wanted == UserInfo::default() {
        return Ok(None);
    }
    if wanted.name.is_empty() {
        return Err(Status::internal_error(
            "requested groups, uid or extra without impersonating a user",
        ));
    }
    Ok(Some(wanted))
}

/// Namespace and name of the service account that a user name stands for.
fn service_account(user: &str) -> Option<(&str, &str)> {
    user.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// All that must be allowed.
fn questions(wanted: &UserInfo) -> Vec<AccessQuery<'_>> {
    let ask = |group, resource, name| AccessQuery {
        verb: "impersonate",
        is_resource: true,
        group,
        resource,
        name,
        ..AccessQuery::default()
    };
    let mut questions = vec![match service_account(&wanted.name) {
        Some((namespace, name)) => AccessQuery {
            namespace,
            ..ask("", "serviceaccounts", name)
        },
        None => ask("", "users", &wanted.name),
    }];
    questions.extend(wanted.groups.iter().map(|group| ask("", "groups", group)));
    for (key, values) in &wanted.extra {
        let extra = |value| AccessQuery {
            subresource: key,
            ..ask(GROUP, "userextras", value)
        };
        questions.extend(values.iter().map(|value| extra(value)));
    }
    if !wanted.uid.is_empty() {
        questions.push(ask(GROUP, "uids", &wanted.uid));
    }
    questions
}

impl Impersonation for Authorization {
    fn impersonate(
        &self,
        user: &UserInfo,
        headers: &HeaderMap,
    ) -> Result<Option<UserInfo>, Status> {
        impersonated(self, user, headers)
    }
}
