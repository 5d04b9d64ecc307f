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
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok().map(String::from))
            .collect()
    };
    let first = |name: &str| all(name).into_iter().next().filter(|v| !v.is_empty());
    let (groups, uid) = (all("impersonate-group"), first("impersonate-uid"));
    let extra = peer::extra(headers, "impersonate-extra-");
    let Some(name) = first("impersonate-user") else {
        if groups.is_empty() && uid.is_none() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::internal_error(
            "requested groups, uid or extra without impersonating a user",
        ));
    };
    let service_account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    let ask = |query: AccessQuery<'_>| {
        authorization.require(
            user,
            &AccessQuery {
                verb: "impersonate",
                is_resource: true,
                ..query
            },
        )
    };
    match service_account {
        Some((namespace, account)) => ask(AccessQuery {
            resource: "serviceaccounts",
            namespace,
            name: account,
            ..AccessQuery::default()
        })?,
        None => ask(AccessQuery {
            resource: "users",
            name: &name,
            ..AccessQuery::default()
        })?,
    }
    for group in &groups {
        ask(AccessQuery {
            resource: "groups",
            name: group,
            ..AccessQuery::default()
        })?;
    }
    for (key, value) in extra
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |v| (key, v)))
    {
        let resource = "userextras";
        ask(AccessQuery {
            group: GROUP,
            resource,
            subresource: key,
            name: value,
            ..AccessQuery::default()
        })?;
    }
    if let Some(uid) = &uid {
        ask(AccessQuery {
            group: GROUP,
            resource: "uids",
            name: uid,
            ..AccessQuery::default()
        })?;
    }
    let implied = service_account
        .filter(|_| groups.is_empty())
        .map(|(namespace, _)| service_account_groups(namespace));
    let mut other = UserInfo {
        name,
        uid: uid.unwrap_or_default(),
        groups,
        extra,
    };
    other.groups.extend(implied.into_iter().flatten());
    if other.name == ANONYMOUS {
        add_group(&mut other, UNAUTHENTICATED);
    } else if !other.is_in_group(UNAUTHENTICATED) {
        add_group(&mut other, AUTHENTICATED);
    }
    Ok(Some(other))
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
