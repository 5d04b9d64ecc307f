//! The one way that every request goes, from its head to its answer.
//!
//! Parse the URL, authenticate, authorize, wait for a turn, run the verb; the audit log is told. Callers in the process come in here like those
//! from the network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api_machinery::{DeniedRequest, Status};
use http::header::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::Value;

use crate::answer::{Answer, Context, Request};
use crate::audit::{Received, Record};
use crate::body::RequestBody;
use crate::core::Core;
use crate::flow::FlowControl;
use crate::identity::{Decision, PeerCertificates, UserInfo};
use crate::metrics::RequestLabels;
use crate::negotiate::{Accepted, BodyFormat, body_format};
use crate::options::Query;
use crate::request::RequestInfo;
use crate::{nonresource, protobuf, verbs};

/// How long a request that is no stream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Subresources that are streams.
const STREAMS: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];
const MASTERS: &str = "system:masters";

impl Core {
    /// Answers a request; failures are `Status` answers too.
    pub async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        let (outcome, audit_id) = self.process(request).await;
        let mut answer = outcome.unwrap_or_else(|status| Answer::of_status(&status));
        if let Some(id) = audit_id {
            answer.headers.insert(AUDIT_ID, id);
        }
        answer
    }

    /// Runs a request.
    ///
    /// # Errors
    /// The `Status` that the client gets.
    pub async fn handle(self: &Arc<Self>, request: Request) -> Result<Answer, Status> {
        self.process(request).await.0
    }

    /// Runs, counts and records a request. The second part of the answer is its id in the audit log.
    async fn process(
        self: &Arc<Self>,
        request: Request,
    ) -> (Result<Answer, Status>, Option<HeaderValue>) {
        let started = Instant::now();
        let info = RequestInfo::parse(&request.method, &request.path, &request.query);
        let is_stream = is_stream(&info);
        let mut labels = RequestLabels {
            verb: info.verb,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            code: 200,
        };
        let mut record = None;
        let mut outcome = self.run(request, info, &mut record).await;
        labels.code = outcome
            .as_ref()
            .map_or_else(|s| s.code, |a| a.status.as_u16());
        if labels.code == 404 || labels.code == 403 {
            // Paths that clients make up must not become metrics.
            labels.resource.clear();
            labels.subresource.clear();
            labels.group.clear();
            labels.version.clear();
        }
        self.metrics.count(labels, started.elapsed());
        let audit_id = record.as_ref().and_then(|record| record.id());
        if let Some(record) = record {
            record.conclude(&mut outcome, is_stream);
        }
        (outcome, audit_id)
    }

    async fn run(
        self: &Arc<Self>,
        request: Request,
        info: RequestInfo,
        record: &mut Option<Box<Record>>,
    ) -> Result<Answer, Status> {
        let received = Received {
            path: &request.path,
            query: &request.query,
            headers: &request.headers,
            remote: request.remote,
            in_process: request.user.is_some(),
        };
        let known = request.user.clone();
        let user = self
            .identify(known, &received, request.peer.as_ref(), &info, record)
            .await?;
        let decision = self.authorizer.authorize(&user, &info);
        if let Some(record) = record {
            record.decided(&decision);
        }
        require(&decision, &user, &info)?;
        let query = Query::parse(&request.query)?;
        let cx = Context {
            info,
            method: request.method,
            raw_query: request.query,
            query,
            user,
            accepted: Accepted::default(),
            headers: request.headers,
            fence: request.fence,
            upgrade: Mutex::new(request.upgrade),
            warnings: Mutex::default(),
        };
        let is_stream = is_stream(&cx.info);
        let _turn = match is_stream || cx.user.is_in_group(MASTERS) {
            true => FlowControl::exempt(),
            false => self.flow.enter(cx.info.is_read_only()).await?,
        };
        let mut answer = if is_stream {
            verbs::run(self, cx, request.body).await?
        } else if cx.info.is_resource {
            let body = self.recorded_body(&cx, request.body, record).await?;
            let work = verbs::run(self, cx, body);
            tokio::time::timeout(REQUEST_TIMEOUT, work)
                .await
                .map_err(|_| timed_out())??
        } else {
            nonresource::run(self, cx, request.body).await?
        };
        answer
            .headers
            .entry(http::header::CACHE_CONTROL)
            .or_insert(NO_CACHE);
        Ok(answer)
    }

    /// Finds out who asks, and begins the record where the audit policy wants one.
    async fn identify(
        &self,
        known: Option<Arc<UserInfo>>,
        received: &Received<'_>,
        peer: Option<&PeerCertificates>,
        info: &RequestInfo,
        record: &mut Option<Box<Record>>,
    ) -> Result<Arc<UserInfo>, Status> {
        let begin = |user: Option<&UserInfo>| {
            let audit = self.audit.as_ref()?;
            audit.begin(user, info, received)
        };
        if let Some(user) = known {
            *record = begin(Some(&user));
            return Ok(user);
        }
        let found = self
            .authenticator
            .authenticate(received.headers, peer)
            .await;
        let found = found.and_then(|user| user.ok_or_else(|| Status::unauthorized("Unauthorized")));
        *record = begin(found.as_ref().ok());
        let user = found?;
        let other = self.impersonation.impersonate(&user, received.headers)?;
        if let (Some(record), Some(other)) = (record, &other) {
            record.acts_as(other);
        }
        Ok(Arc::new(other.unwrap_or(user)))
    }

    /// The body of a request that changes something is read before its verb runs, where it is recorded.
    async fn recorded_body(
        &self,
        cx: &Context,
        body: RequestBody,
        record: &mut Option<Box<Record>>,
    ) -> Result<RequestBody, Status> {
        let Some(record) = record.as_mut().filter(|_| !cx.info.is_read_only()) else {
            return Ok(body);
        };
        let body = body.read().await?;
        record.asked_with(&body, |body| self.body_as_json(cx, body));
        Ok(RequestBody::Ready(body))
    }

    fn body_as_json(&self, cx: &Context, body: &[u8]) -> Option<Value> {
        let info = &cx.info;
        if let Ok(BodyFormat::Protobuf) = body_format(cx.content_type()) {
            let resource = self
                .resources
                .get(&info.group, &info.version, &info.resource)?;
            return protobuf::decode(body, &resource.api_version, &resource.kind.kind).ok();
        }
        let json = serde_json::from_slice(body).ok();
        json.or_else(|| crate::yaml::parse(body).ok())
    }

    /// # Errors
    /// 403 for what the user may not do.
    pub fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        require(&self.authorizer.authorize(user, info), user, info)
    }
}

/// # Errors
/// 403 unless the decision is to allow.
fn require(decision: &Decision, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
    if decision.is_allowed() {
        return Ok(());
    }
    let denied = DeniedRequest {
        user: &user.name,
        verb: info.verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
        path: &info.path,
    };
    Err(Status::access_denied(&denied, &decision.reason))
}

fn is_stream(info: &RequestInfo) -> bool {
    info.verb == "watch" || STREAMS.contains(&info.subresource.as_str())
}

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
/// The request's id in the audit log.
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const WARNING: HeaderName = http::header::WARNING;

/// Puts sentences into `Warning` headers, as kubectl prints them.
pub(crate) fn add_warnings(answer: &mut Answer, sentences: &[String]) {
    for sentence in sentences {
        let quoted = sentence
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(['\r', '\n'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers.append(WARNING, value);
        }
    }
}

fn timed_out() -> Status {
    Status::timeout("request did not complete within the allotted timeout", 0)
}
