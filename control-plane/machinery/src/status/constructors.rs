//! The constructors of error `Status` objects, one for each kind of refusal upstream makes.
//!
//! Wording, reason and code follow upstream's `apimachinery/pkg/api/errors`, because clients and tests match on them.

use std::fmt::Display;

use super::{FieldError, Reason, Status, StatusCause, StatusDetails, aggregate_message, go_quote};

/// What a conflicting update is told.
pub const OBJECT_MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// Upstream's `GroupResource`/`GroupKind` text: `deployments.apps`, or `pods` in the core group.
fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

fn details(group: &str, kind: &str, name: &str) -> Option<Box<StatusDetails>> {
    Some(Box::new(StatusDetails {
        name: name.to_owned(),
        group: group.to_owned(),
        kind: kind.to_owned(),
        ..StatusDetails::default()
    }))
}

impl Status {
    /// An error with no details.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Status {
        Status {
            code,
            reason,
            message: message.into(),
            details: None,
            continue_token: None,
        }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Status {
        self.details = details(group, kind, name);
        self
    }

    /// The same with a hint to try again after `seconds`.
    pub fn with_retry_after(mut self, seconds: i32) -> Status {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The same with one more cause.
    pub fn with_cause(mut self, cause: StatusCause) -> Status {
        self.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// The answer to a delete that left nothing behind.
    pub fn success(group: &str, resource: &str, name: &str, uid: &str) -> Status {
        let mut status = Status::new(200, Reason::Unknown, "").about(group, resource, name);
        status.details.get_or_insert_default().uid = uid.to_owned();
        status
    }

    /// 404: no object of this name.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Status {
        let message = format!(
            "{} {} not found",
            qualified(group, resource),
            go_quote(name)
        );
        Status::new(404, Reason::NotFound, message).about(group, resource, name)
    }

    /// 404: the path leads nowhere. Clients take it for a missing API.
    pub fn no_such_path() -> Status {
        let mut status = Status::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Status {
        let message = format!(
            "{} {} already exists",
            qualified(group, resource),
            go_quote(name)
        );
        Status::new(409, Reason::AlreadyExists, message).about(group, resource, name)
    }

    /// 409: no free name was found for a `generateName`.
    pub fn generate_name_conflict(
        group: &str,
        resource: &str,
        name: &str,
        retry_after_seconds: i32,
    ) -> Status {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource),
            go_quote(name)
        );
        Status::new(409, Reason::AlreadyExists, message)
            .about(group, resource, name)
            .with_retry_after(retry_after_seconds)
    }

    /// 401. An empty `reason` says "not authorized"; the API server itself says "Unauthorized".
    pub fn unauthorized(reason: &str) -> Status {
        let message = if reason.is_empty() {
            "not authorized"
        } else {
            reason
        };
        Status::new(401, Reason::Unauthorized, message)
    }

    /// 403: `reason` says who may not do what, or which admission plugin refused.
    pub fn forbidden(group: &str, resource: &str, name: &str, reason: impl Display) -> Status {
        let message = match (resource.is_empty() && group.is_empty(), name) {
            (true, _) => format!("forbidden: {reason}"),
            (false, "") => format!("{} is forbidden: {reason}", qualified(group, resource)),
            (false, name) => {
                format!(
                    "{} {} is forbidden: {reason}",
                    qualified(group, resource),
                    go_quote(name)
                )
            }
        };
        Status::new(403, Reason::Forbidden, message).about(group, resource, name)
    }

    /// 409: the update cannot be made; `reason` is `OBJECT_MODIFIED` for a stale resourceVersion.
    pub fn conflict(group: &str, resource: &str, name: &str, reason: impl Display) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {reason}",
            qualified(group, resource),
            go_quote(name)
        );
        Status::new(409, Reason::Conflict, message).about(group, resource, name)
    }

    /// 409: a stale resourceVersion.
    pub fn object_modified(group: &str, resource: &str, name: &str) -> Status {
        Status::conflict(group, resource, name, OBJECT_MODIFIED)
    }

    /// 409: a precondition of a delete or update does not hold.
    pub fn precondition_failed(
        group: &str,
        resource: &str,
        name: &str,
        field: &str,
        expected: &str,
        actual: &str,
    ) -> Status {
        let reason = format!(
            "Precondition failed: {field} in precondition: {expected}, {field} in object meta: {actual}"
        );
        Status::conflict(group, resource, name, reason)
    }

    /// 409: server-side apply met fields that others own.
    pub fn apply_conflict(causes: Vec<StatusCause>, message: impl Into<String>) -> Status {
        let mut status = Status::new(409, Reason::Conflict, message);
        status.details = Some(Box::new(StatusDetails {
            causes,
            ..StatusDetails::default()
        }));
        status
    }

    /// 410: the resourceVersion or continue token is no longer held.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, Reason::Expired, message)
    }

    /// 410: gone for good (upstream's older form of `expired`).
    pub fn gone(message: impl Into<String>) -> Status {
        Status::new(410, Reason::Gone, message)
    }

    /// 410 for a watch whose start was compacted by the store.
    pub fn watch_expired() -> Status {
        Status::expired("The resourceVersion for the provided watch is too old.")
    }

    /// 410 for a watch that starts before what the cache holds; `oldest` is the oldest revision that it could serve.
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Status {
        Status::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 410 for a list at a compacted resourceVersion.
    pub fn list_expired() -> Status {
        Status::expired("The resourceVersion for the provided list is too old.")
    }

    /// 410 for a continue token whose resourceVersion was compacted; `token` allows an inconsistent rest.
    pub fn continue_expired(token: Option<String>) -> Status {
        let start = "The provided continue parameter is too old to display a consistent list result. You can start a \
                     new list without the continue parameter";
        let Some(token) = token else {
            return Status::expired(format!("{start}."));
        };
        let mut status = Status::expired(format!(
            "{start}, or use the continue token in this response to retrieve the remainder of the results. Continuing \
             with the provided token results in an inconsistent list - objects that were created, modified, or \
             deleted between the time the first chunk was returned and now may show up in the list."
        ));
        status.continue_token = Some(token.into_boxed_str());
        status
    }

    /// 504: the client knows a later resourceVersion than this server.
    pub fn too_large_resource_version(
        requested: u64,
        current: u64,
        retry_after_seconds: i32,
    ) -> Status {
        let message = format!("Too large resource version: {requested}, current: {current}");
        Status::timeout(&message, retry_after_seconds).with_cause(StatusCause {
            cause_type: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        })
    }

    /// 422: fields are wrong. `kind` is the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
        let subject = format!("{} {} is invalid", qualified(group, kind), go_quote(name));
        let message = if errors.is_empty() {
            subject
        } else {
            format!("{subject}: {}", aggregate_message(errors))
        };
        let mut status = Status::new(422, Reason::Invalid, message).about(group, kind, name);
        status.details.get_or_insert_default().causes = errors
            .iter()
            .map(|error| StatusCause {
                cause_type: error.error_type.cause().into(),
                message: error.body(),
                field: error.field.clone(),
            })
            .collect();
        status
    }

    /// 422 without a field to blame, as for a JSON patch that does not apply.
    pub fn rejected() -> Status {
        let message = "the server rejected our request due to an error in our request";
        let mut status = Status::new(422, Reason::Invalid, message);
        status.details = Some(Box::default());
        status
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(reason: impl Into<String>) -> Status {
        Status::new(400, Reason::BadRequest, reason)
    }

    /// 405: `action` (such as `delete` or `patch`) is not offered for this resource.
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Status {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            go_quote(&qualified(group, resource))
        );
        Status::new(405, Reason::MethodNotAllowed, message).about(group, resource, "")
    }

    /// 405 for a method that the path does not know.
    pub fn method_not_allowed() -> Status {
        let mut status = Status::new(
            405,
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        );
        status.details = Some(Box::default());
        status
    }

    /// 406: none of the `Accept`ed media types can be given.
    pub fn not_acceptable(accepted: &[&str]) -> Status {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        Status::new(406, Reason::NotAcceptable, message)
    }

    /// 415: the body's `Content-Type` is unknown.
    pub fn unsupported_media_type(accepted: &[&str]) -> Status {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Status::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 413: a body of more than `limit` bytes.
    pub fn request_entity_too_large(limit: usize) -> Status {
        Status::new(
            413,
            Reason::RequestEntityTooLarge,
            format!("Request entity too large: limit is {limit}"),
        )
    }

    /// 429: come back later.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: i32) -> Status {
        Status::new(429, Reason::TooManyRequests, message).with_retry_after(retry_after_seconds)
    }

    /// 504: not completed in time; it may still complete.
    pub fn timeout(message: &str, retry_after_seconds: i32) -> Status {
        Status::new(504, Reason::Timeout, format!("Timeout: {message}"))
            .with_retry_after(retry_after_seconds)
    }

    /// 500, to be tried again: a passing failure of `operation`.
    pub fn server_timeout(
        group: &str,
        resource: &str,
        operation: &str,
        retry_after_seconds: i32,
    ) -> Status {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, resource)
        );
        Status::new(500, Reason::ServerTimeout, message)
            .about(group, resource, operation)
            .with_retry_after(retry_after_seconds)
    }

    /// 500: a failure that is not the client's.
    pub fn internal_error(error: impl Display) -> Status {
        let cause = StatusCause {
            message: error.to_string(),
            ..StatusCause::default()
        };
        Status::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {error}"),
        )
        .with_cause(cause)
    }

    /// 503: not able to serve now.
    pub fn service_unavailable(reason: impl Into<String>) -> Status {
        Status::new(503, Reason::ServiceUnavailable, reason)
    }

    /// 501: known to Kubernetes, not offered by this version. `what` begins the sentence.
    pub fn not_implemented(what: &str) -> Status {
        Status::new(
            501,
            Reason::Other("NotImplemented".into()),
            format!("{what} is not supported by this server"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &Status, code: u16, message: &str) {
        assert_eq!((status.code, status.message.as_str()), (code, message));
    }

    #[test]
    fn messages_are_upstreams() {
        check(
            &Status::already_exists("", "pods", "web"),
            409,
            r#"pods "web" already exists"#,
        );
        check(&Status::forbidden("", "", "", "no"), 403, "forbidden: no");
        check(
            &Status::forbidden("apps", "deployments", "", "no"),
            403,
            "deployments.apps is forbidden: no",
        );
        check(
            &Status::object_modified("apps", "deployments", "web"),
            409,
            "Operation cannot be fulfilled on deployments.apps \"web\": the object has been modified; please apply \
             your changes to the latest version and try again",
        );
        check(
            &Status::method_not_supported("", "bindings", "delete"),
            405,
            r#"delete is not supported on resources of kind "bindings""#,
        );
        check(
            &Status::too_old_resource_version(3, 9),
            410,
            "too old resource version: 3 (9)",
        );
    }

    #[test]
    fn continue_token_travels() {
        let text = Status::continue_expired(Some("abc".into())).to_json();
        let back: Status = serde_json::from_slice(&text).expect("own output");
        assert_eq!(back.continue_token.as_deref(), Some("abc"));
    }
}
