//! The one way that every request goes, from its head to its answer.
//!
//! Parse the URL, authenticate, authorize, wait for a turn, run the verb. Callers in the process come in here like those
//! from the network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api_machinery::{DeniedRequest, Status};
use http::header::{HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::answer::{Answer, Context, Request};
use crate::core::Core;
use crate::flow::FlowControl;
use crate::identity::UserInfo;
use crate::metrics::RequestLabels;
use crate::negotiate::Accepted;
use crate::options::Query;
use crate::request::RequestInfo;
use crate::{nonresource, verbs};

/// How long a request that is no stream may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Subresources that are streams.
const STREAMS: [&str; 5] = ["log", "exec", "attach", "portforward", "proxy"];
const MASTERS: &str = "system:masters";

impl Core {
    /// Answers a request; failures are `Status` answers too.
    pub async fn answer(self: &Arc<Self>, request: Request) -> Answer {
        match self.handle(request).await {
            Ok(answer) => answer,
            Err(status) => Answer::of_status(&status),
        }
    }

    /// Runs a request.
    ///
    /// # Errors
    /// The `Status` that the client gets.
    pub async fn handle(self: &Arc<Self>, request: Request) -> Result<Answer, Status> {
        let started = Instant::now();
        let info = RequestInfo::parse(&request.method, &request.path, &request.query);
        let mut labels = RequestLabels {
            verb: info.verb,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            code: 200,
        };
        let outcome = self.run(request, info).await;
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
        outcome
    }

    async fn run(self: &Arc<Self>, request: Request, info: RequestInfo) -> Result<Answer, Status> {
        let user = match request.user {
            Some(user) => user,
            None => {
                let found = self
                    .authenticator
                    .authenticate(&request.headers, request.peer.as_ref())
                    .await?;
                let user = found.ok_or_else(|| Status::unauthorized("Unauthorized"))?;
                let other = self.impersonation.impersonate(&user, &request.headers)?;
                Arc::new(other.unwrap_or(user))
            }
        };
        self.authorize(&user, &info)?;
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
        let is_stream = cx.info.verb == "watch" || STREAMS.contains(&cx.info.subresource.as_str());
        let _turn = match is_stream || cx.user.is_in_group(MASTERS) {
            true => FlowControl::exempt(),
            false => self.flow.enter(cx.info.is_read_only()).await?,
        };
        let mut answer = if is_stream {
            verbs::run(self, cx, request.body).await?
        } else if cx.info.is_resource {
            let work = verbs::run(self, cx, request.body);
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

    /// # Errors
    /// 403 for what the user may not do.
    pub fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        let decision = self.authorizer.authorize(user, info);
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
}

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, private");
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
