//! What a request asks for: the URL, parsed once, in the terms that authorization and the verbs use.
//!
//! The rules are those of Kubernetes' API conventions: `/api/v1/...` and `/apis/GROUP/VERSION/...` are resource
//! requests, anything else is a path. Knows no table of kinds.

use std::borrow::Cow;

use api_machinery::FieldSelector;
use http::Method;

/// What a request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The path, not decoded.
    pub path: String,
    /// For resources one of get, list, watch, create, update, patch, delete, deletecollection, proxy; for paths the
    /// lower-case HTTP method.
    pub verb: &'static str,
    /// Whether the path is below `/api/VERSION` or `/apis/GROUP/VERSION`.
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped requests and for those over all namespaces.
    pub namespace: String,
    /// Plural, lower case.
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource (the path of a proxy request), with its leading slash; empty if nothing does.
    pub rest: String,
    /// The field selector of a list or watch, as it was sent: authorizers may allow only a part of a resource.
    pub field_selector: String,
}

/// Subresources of a namespace: `/namespaces/NAME/status` is no resource in that namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// `query` is the raw query string; only `watch` and a `metadata.name` field selector matter here.
    pub fn parse(method: &Method, path: &str, query: &str) -> Self {
        let mut info = Self {
            path: path.to_owned(),
            verb: path_verb(method),
            ..Self::default()
        };
        let mut parts = path
            .trim_start_matches('/')
            .split('/')
            .filter(|p| !p.is_empty());
        match parts.next() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group.to_owned(),
                None => return info,
            },
            _ => return info,
        }
        let Some(version) = parts.next() else {
            info.group.clear();
            return info;
        };
        info.version = version.to_owned();
        let mut parts: Vec<Cow<'_, str>> = parts.map(decode).collect();
        if parts.is_empty() {
            info.group.clear();
            info.version.clear();
            return info;
        }
        info.is_resource = true;
        info.verb = resource_verb(method);
        if parts[0] == "watch" && parts.len() > 1 {
            info.verb = "watch";
            parts.remove(0);
        }
        info.place(&parts);
        info.refine_verb(query);
        info
    }

    fn place(&mut self, parts: &[Cow<'_, str>]) {
        let rest = if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace = parts[1].to_string();
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2].as_ref()) {
                &parts[2..]
            } else {
                parts
            }
        } else {
            parts
        };
        self.resource = rest[0].to_string();
        self.name = rest.get(1).map(ToString::to_string).unwrap_or_default();
        self.subresource = rest.get(2).map(ToString::to_string).unwrap_or_default();
        for part in rest.get(3..).unwrap_or_default() {
            self.rest.push('/');
            self.rest.push_str(part);
        }
    }

    fn refine_verb(&mut self, query: &str) {
        if self.name.is_empty() {
            match self.verb {
                "get" if wants_watch(query) => self.verb = "watch",
                "get" => self.verb = "list",
                "delete" => self.verb = "deletecollection",
                _ => {}
            }
            if matches!(self.verb, "list" | "watch" | "deletecollection") {
                self.name = selected_name(query).unwrap_or_default();
                self.field_selector = query_values(query, "fieldSelector")
                    .next()
                    .unwrap_or_default()
                    .into_owned();
            }
        }
    }

    /// Whether it changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch" | "head" | "options")
    }
}

fn path_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        "OPTIONS" => "options",
        "GET" => "get",
        _ => "",
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" | "HEAD" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

fn wants_watch(query: &str) -> bool {
    query_values(query, "watch")
        .next()
        .is_some_and(|v| !matches!(v.as_ref(), "0" | "false" | "f" | "F" | "False" | "FALSE"))
}

/// The name that a field selector `metadata.name=NAME` pins a list to: authorization treats it as the object's name.
fn selected_name(query: &str) -> Option<String> {
    let text = query_values(query, "fieldSelector").next()?;
    let selector = FieldSelector::parse(&text).ok()?;
    selector
        .required_value("metadata.name")
        .map(ToOwned::to_owned)
}

/// The decoded values of a parameter, in order.
pub(crate) fn query_values<'a>(query: &'a str, key: &'a str) -> impl Iterator<Item = Cow<'a, str>> {
    query_pairs(query)
        .filter(move |(k, _)| k == key)
        .map(|(_, v)| v)
}

/// All parameters, decoded, in order.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|p| !p.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_form(key), decode_form(value))
    })
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        Cow::Owned(decode(&text.replace('+', " ")).into_owned())
    } else {
        decode(text)
    }
}

/// Percent-decoding; what is no valid escape stays as it is.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%')
            .then(|| {
                text.get(i + 1..i + 3)
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            })
            .flatten();
        match escaped {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, url: &str, expect: &str) {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let i = RequestInfo::parse(&method.parse().expect("method"), path, query);
        let got = [
            i.verb,
            &i.group,
            &i.version,
            &i.namespace,
            &i.resource,
            &i.name,
            &i.subresource,
            &i.rest,
        ]
        .join("|");
        assert_eq!(got, expect, "{method} {url}");
    }

    #[test]
    fn urls_are_understood() {
        check(
            "GET",
            "/api/v1/namespaces/a/pods/b/status",
            "get||v1|a|pods|b|status|",
        );
        check("GET", "/api/v1/namespaces/a/pods", "list||v1|a|pods|||");
        check("GET", "/api/v1/pods?watch=1", "watch||v1||pods|||");
        check(
            "GET",
            "/api/v1/watch/namespaces/a/pods",
            "watch||v1|a|pods|||",
        );
        check("GET", "/api/v1/namespaces/a", "get||v1|a|namespaces|a||");
        check(
            "PUT",
            "/api/v1/namespaces/a/finalize",
            "update||v1|a|namespaces|a|finalize|",
        );
        check("GET", "/api/v1/namespaces", "list||v1||namespaces|||");
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/deployments",
            "deletecollection|apps|v1|a|deployments|||",
        );
        check(
            "POST",
            "/apis/apps/v1/namespaces/a/deployments",
            "create|apps|v1|a|deployments|||",
        );
        check(
            "GET",
            "/api/v1/nodes/n/proxy/a/b",
            "get||v1||nodes|n|proxy|/a/b",
        );
        check(
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dx",
            "list||v1||pods|x||",
        );
        // A named object is read, never watched; what a comma in a value hides is no condition.
        check(
            "GET",
            "/api/v1/namespaces/a/pods/b?watch=1",
            "get||v1|a|pods|b||",
        );
        check(
            "GET",
            "/api/v1/watch/namespaces/a/pods/b",
            "watch||v1|a|pods|b||",
        );
        check(
            "GET",
            "/api/v1/pods?fieldSelector=status.phase!%3Da%5C%2Cmetadata.name%3Dx",
            "list||v1||pods|||",
        );
        check("GET", "/apis/apps/v1", "get|||||||");
        check("GET", "/healthz", "get|||||||");
    }
}
