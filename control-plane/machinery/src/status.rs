//! The `Status` object: Kubernetes' answer when something did not work (and when a delete did).
//!
//! Every error that leaves the API server is one of these, so the wording, the reason and the code of each constructor are
//! upstream's own: clients match on them. This file must not know HTTP libraries, the store or any kind.

mod constructors;
mod field_error;
mod field_path;
mod go_format;
mod response;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use constructors::OBJECT_MODIFIED;
pub use field_error::{FieldError, FieldErrorType, aggregate_message};
pub use field_path::FieldPath;
pub use go_format::{go_json, go_quote};
pub use response::DeniedRequest;

/// A `Status` object of the `v1` API. `Display` gives its message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "wire::Wire", into = "wire::Wire")]
pub struct Status {
    /// HTTP status code.
    pub code: u16,
    /// Why, for machines. `Reason::Unknown` for successes.
    pub reason: Reason,
    /// What happened, for humans.
    pub message: String,
    /// What the answer is about.
    pub details: Option<Box<StatusDetails>>,
    /// `metadata.continue`: where a list may go on although it is no longer consistent.
    pub continue_token: Option<Box<str>>,
}

/// The result of an operation that may end with a `Status`.
pub type StatusResult<T> = Result<T, Status>;

/// What a `Status` is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: String,
    /// The plural resource name, or the kind in `Invalid` answers.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds after which the client may try again; 0 is unset.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

/// One of the causes of a `Status`: for `Invalid`, one per field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    #[serde(rename = "reason", skip_serializing_if = "str::is_empty")]
    pub cause_type: Cow<'static, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub field: String,
}

fn is_zero(seconds: &i32) -> bool {
    *seconds == 0
}

macro_rules! reasons {
    ($($name:ident),* $(,)?) => {
        /// Machine-readable reason of a `Status` (upstream's `StatusReason`).
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum Reason {
            /// No reason is given.
            Unknown,
            $($name,)*
            /// One that this version does not know.
            Other(String),
        }

        impl Reason {
            /// The reason as it is written on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    Reason::Unknown => "",
                    $(Reason::$name => stringify!($name),)*
                    Reason::Other(text) => text,
                }
            }

            fn parse(text: &str) -> Reason {
                match text {
                    "" => Reason::Unknown,
                    $(stringify!($name) => Reason::$name,)*
                    other => Reason::Other(other.to_owned()),
                }
            }
        }
    };
}

reasons!(
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
);

impl Status {
    /// Whether this reports success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    /// Whether the resourceVersion that was asked for is no longer held.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, Reason::Expired | Reason::Gone)
    }

    /// Seconds that the client is asked to wait, if it is.
    pub fn retry_after_seconds(&self) -> Option<i32> {
        let seconds = self.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then_some(seconds)
    }

    /// The document as compact JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status has string keys only")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

/// The document as it travels, in upstream's order of fields.
mod wire {
    use std::borrow::Cow;

    use serde::{Deserialize, Serialize};

    use super::{Reason, Status, StatusDetails};

    #[derive(Default, Serialize, Deserialize)]
    #[serde(default)]
    pub(super) struct ListMeta {
        #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
        continue_token: Option<Box<str>>,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    pub(super) struct Wire {
        kind: Cow<'static, str>,
        api_version: Cow<'static, str>,
        metadata: ListMeta,
        #[serde(skip_serializing_if = "str::is_empty")]
        status: Cow<'static, str>,
        #[serde(skip_serializing_if = "str::is_empty")]
        message: String,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: Cow<'static, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        details: Option<Box<StatusDetails>>,
        #[serde(skip_serializing_if = "is_zero")]
        code: u16,
    }

    fn is_zero(code: &u16) -> bool {
        *code == 0
    }

    impl Default for Wire {
        fn default() -> Self {
            Wire {
                kind: "Status".into(),
                api_version: "v1".into(),
                metadata: ListMeta::default(),
                status: "".into(),
                message: String::new(),
                reason: "".into(),
                details: None,
                code: 0,
            }
        }
    }

    impl From<Status> for Wire {
        fn from(status: Status) -> Self {
            let success = status.is_success();
            Wire {
                metadata: ListMeta {
                    continue_token: status.continue_token,
                },
                status: if success { "Success" } else { "Failure" }.into(),
                message: status.message,
                reason: Cow::Owned(status.reason.as_str().to_owned()),
                details: status.details,
                // Upstream leaves the code out of the 200 that answers a delete.
                code: if status.code == 200 { 0 } else { status.code },
                ..Wire::default()
            }
        }
    }

    impl From<Wire> for Status {
        fn from(wire: Wire) -> Self {
            let code = match (wire.code, wire.status.as_ref()) {
                (0, "Success") => 200,
                (0, _) => 500,
                (code, _) => code,
            };
            Status {
                code,
                reason: Reason::parse(&wire.reason),
                message: wire.message,
                details: wire.details,
                continue_token: wire.metadata.continue_token,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(status: Status, expected: Expect) {
        let text = String::from_utf8(status.to_json()).expect("JSON is UTF-8");
        expected.assert_eq(&text);
        let back: Status = serde_json::from_str(&text).expect("own output");
        assert_eq!(back, status);
    }

    #[test]
    fn documents_are_upstreams() {
        check(
            Status::not_found("apps", "deployments", "web"),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"deployments.apps \"web\" not found","reason":"NotFound","details":{"name":"web","group":"apps","kind":"deployments"},"code":404}"#
            ]],
        );
        check(
            Status::success("", "pods", "web", "uid-1"),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","details":{"name":"web","kind":"pods","uid":"uid-1"}}"#
            ]],
        );
    }

    #[test]
    fn invalid_lists_every_cause() {
        let root = FieldPath::root("spec");
        let errors = vec![
            FieldError::required(&root.child("containers"), ""),
            FieldError::invalid(
                &root.child("replicas"),
                -1,
                "must be greater than or equal to 0",
            ),
        ];
        check(
            Status::invalid("", "Pod", "web", &errors),
            expect![[
                r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Pod \"web\" is invalid: [spec.containers: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0]","reason":"Invalid","details":{"name":"web","kind":"Pod","causes":[{"reason":"FieldValueRequired","message":"Required value","field":"spec.containers"},{"reason":"FieldValueInvalid","message":"Invalid value: -1: must be greater than or equal to 0","field":"spec.replicas"}]},"code":422}"#
            ]],
        );
    }
}
