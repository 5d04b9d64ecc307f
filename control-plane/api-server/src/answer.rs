//! A request and its answer, as the pipeline hands them around: HTTP's terms without a connection.

use std::net::IpAddr;
use std::sync::Arc;

use api_machinery::Status;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;

use crate::body::{AnswerBody, RequestBody};
use crate::identity::{PeerCertificates, UserInfo};
use crate::negotiate::Accepted;
use crate::options::Query;
use crate::request::RequestInfo;

/// A request before anything is known of it but its head.
pub(crate) struct Request {
    pub method: Method,
    pub path: String,
    /// Raw, without the question mark.
    pub query: String,
    pub headers: HeaderMap,
    pub body: RequestBody,
    pub peer: Option<PeerCertificates>,
    /// Whom the connection is with; none for callers in the process.
    pub remote: Option<IpAddr>,
    /// The user, where the caller is in the process and known.
    pub user: Option<Arc<UserInfo>>,
    pub fence: Option<Bytes>,
    pub upgrade: Option<OnUpgrade>,
}

/// What the verbs know of the request that they serve.
pub(crate) struct Context {
    pub info: RequestInfo,
    pub method: Method,
    pub raw_query: String,
    pub query: Query,
    pub user: Arc<UserInfo>,
    pub accepted: Accepted,
    pub headers: HeaderMap,
    pub fence: Option<Bytes>,
    pub upgrade: Mutex<Option<OnUpgrade>>,
    /// Sentences for the user, sent as `Warning` headers.
    pub warnings: Mutex<Vec<String>>,
}

impl Context {
    pub fn warn(&self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        let mut warnings = self.warnings.lock();
        // A write that is tried again would say it again.
        if !warnings.contains(&sentence) {
            warnings.push(sentence);
        }
    }

    pub fn content_type(&self) -> &str {
        self.headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }
}

/// An answer.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const YAML: HeaderValue = HeaderValue::from_static("application/yaml");
pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

impl Answer {
    pub fn new(status: StatusCode, content_type: HeaderValue, body: AnswerBody) -> Self {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(CONTENT_TYPE, content_type);
        Self {
            status,
            headers,
            body,
        }
    }

    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, JSON, AnswerBody::Bytes(body.into()))
    }

    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, TEXT, AnswerBody::Bytes(body.into()))
    }

    /// A `Status` as the whole answer.
    pub fn of_status(status: &Status) -> Self {
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = Self::json(code, status.to_json());
        if let Some(seconds) = status.retry_after_seconds() {
            answer
                .headers
                .insert(http::header::RETRY_AFTER, seconds.into());
        }
        answer
    }
}
