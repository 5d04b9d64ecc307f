//! The sentences of a 403: who may not do what, where.
//!
//! Kept apart from the constructors because it is about requests, not about objects.

use super::{Status, go_quote};

/// A request that authorization refused, as far as its message needs it.
#[derive(Debug, Clone, Copy)]
pub struct DeniedRequest<'a> {
    pub user: &'a str,
    pub verb: &'a str,
    pub group: &'a str,
    /// Plural resource name; empty for a path that is no resource.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// URL path, used when `resource` is empty.
    pub path: &'a str,
}

impl Status {
    /// 403 from an authorizer; `reason` may be empty.
    pub fn access_denied(request: &DeniedRequest<'_>, reason: &str) -> Status {
        let mut message = escape(&sentence(request));
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        Status::forbidden(request.group, request.resource, request.name, message)
    }
}

fn sentence(request: &DeniedRequest<'_>) -> String {
    let user = go_quote(request.user);
    if request.resource.is_empty() {
        return format!(
            "User {user} cannot {} path {}",
            request.verb,
            go_quote(request.path)
        );
    }
    let resource = match request.subresource {
        "" => go_quote(request.resource),
        subresource => go_quote(&format!("{}/{subresource}", request.resource)),
    };
    let place = match request.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {}", go_quote(namespace)),
    };
    format!(
        "User {user} cannot {} resource {resource} in API group {} {place}",
        request.verb,
        go_quote(request.group)
    )
}

// A browser must not take a path in the message for markup.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_upstreams() {
        let mut request = DeniedRequest {
            user: "jane",
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "log",
            namespace: "prod",
            name: "web",
            path: "",
        };
        assert_eq!(
            Status::access_denied(&request, "").message,
            r#"pods "web" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "prod""#
        );
        request = DeniedRequest {
            resource: "",
            path: "/metrics",
            name: "",
            ..request
        };
        assert_eq!(
            Status::access_denied(&request, "no rule").message,
            r#"forbidden: User "jane" cannot get path "/metrics": no rule"#
        );
    }
}
