//! The record of one request: gathers what is known as it goes on, and writes a line at each stage. The last one is
//! written when the record is dropped, so that a request that is cut off, or panics, is recorded like any other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api_machinery::{Status, format_micro_time};
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;
use http::header::{HeaderValue, USER_AGENT};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::event::{Event, ObjectReference, User};
use super::log::Log;
use super::policy::{Level, Stage, Wanted};
use crate::answer::Answer;
use crate::body::AnswerBody;
use crate::cache::{field_text, sub_object};
use crate::identity::{Decision, UserInfo};
use crate::request::RequestInfo;

/// Bytes of a User-Agent that are kept.
const USER_AGENT_LIMIT: usize = 1024;
const MANAGED_FIELDS: &str = "managedFields";

/// A request's head, before it is taken apart.
pub(crate) struct Received<'a> {
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// Whom the connection is with.
    pub remote: Option<IpAddr>,
    /// The caller is a part of this process.
    pub in_process: bool,
}

/// See the module's documentation.
pub(crate) struct Record {
    log: Log,
    wanted: Wanted,
    id: String,
    received: String,
    uri: String,
    verb: &'static str,
    user: Option<UserInfo>,
    impersonated: Option<UserInfo>,
    source_ips: Vec<String>,
    user_agent: String,
    object: Option<ObjectReference>,
    request: Option<Value>,
    response: Option<Value>,
    status: Option<Value>,
    annotations: BTreeMap<&'static str, String>,
}

impl Record {
    pub(super) fn new(
        log: Log,
        wanted: Wanted,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        received: &Received<'_>,
    ) -> Self {
        let object = info.is_resource.then(|| ObjectReference {
            resource: info.resource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            api_group: info.group.clone(),
            api_version: info.version.clone(),
            subresource: info.subresource.clone(),
            ..ObjectReference::default()
        });
        let record = Self {
            log,
            wanted,
            id: uuid::Uuid::new_v4().to_string(),
            received: format_micro_time(Timestamp::now()),
            uri: match received.query {
                "" => received.path.to_owned(),
                query => format!("{}?{query}", received.path),
            },
            verb: info.verb,
            user: user.cloned(),
            impersonated: None,
            source_ips: source_ips(received.headers, received.remote),
            user_agent: user_agent(received.headers),
            object,
            request: None,
            response: None,
            status: None,
            annotations: BTreeMap::new(),
        };
        record.write(Stage::RequestReceived);
        record
    }

    /// For the answer's header `Audit-Id`.
    pub fn id(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.id).ok()
    }

    pub fn acts_as(&mut self, user: &UserInfo) {
        self.impersonated = Some(user.clone());
    }

    pub fn decided(&mut self, decision: &Decision) {
        let word = if decision.is_allowed() {
            "allow"
        } else {
            "forbid"
        };
        self.annotations
            .insert("authorization.k8s.io/decision", word.to_owned());
        self.annotations
            .insert("authorization.k8s.io/reason", decision.reason.clone());
    }

    /// Takes from a request's body what the policy wants. `parse` turns it into JSON.
    pub fn asked_with(&mut self, body: &Bytes, parse: impl FnOnce(&Bytes) -> Option<Value>) {
        self.complete_reference(body);
        if self.wanted.level >= Level::Request && !body.is_empty() {
            self.request = parse(body).map(|object| self.without_managed_fields(object));
        }
    }

    /// Takes the outcome; the record of a stream ends with the stream.
    pub fn conclude(mut self: Box<Self>, outcome: &mut Result<Answer, Status>, is_stream: bool) {
        self.answered(outcome);
        if !is_stream {
            return;
        }
        self.write(Stage::ResponseStarted);
        let Ok(answer) = outcome else { return };
        answer.body = match std::mem::take(&mut answer.body) {
            AnswerBody::Stream(stream) => {
                let recorded = stream.inspect(move |_| {
                    let _ends_with_the_stream = &self;
                });
                AnswerBody::Stream(Box::pin(recorded))
            }
            other => other,
        };
    }

    /// An answer that is a list is gathered if the policy wants it whole.
    fn answered(&mut self, outcome: &mut Result<Answer, Status>) {
        let whole = self.wanted.level == Level::RequestResponse;
        match outcome {
            Ok(answer) => {
                self.status = Some(json!({"metadata": {}, "code": answer.status.as_u16()}));
                if whole && matches!(answer.body, AnswerBody::List(_)) {
                    answer.body = match std::mem::take(&mut answer.body) {
                        AnswerBody::List(list) => AnswerBody::Bytes(list.into_bytes()),
                        other => other,
                    };
                }
                if let AnswerBody::Bytes(body) = &answer.body {
                    self.complete_reference(body);
                    if whole {
                        let object = serde_json::from_slice(body).ok();
                        self.response = object.map(|object| self.without_managed_fields(object));
                    }
                }
            }
            Err(status) => {
                let object: Value = serde_json::from_slice(&status.to_json()).unwrap_or_default();
                let mut short = object.clone();
                if let Some(fields) = short.as_object_mut() {
                    fields.shift_remove("kind");
                    fields.shift_remove("apiVersion");
                }
                self.status = Some(short);
                self.response = whole.then_some(object);
            }
        }
    }

    /// What the URL does not say (the name of a new object, its uid), from the object in a body.
    fn complete_reference(&mut self, body: &[u8]) {
        let Some(object) = &mut self.object else {
            return;
        };
        let metadata = sub_object(body, "metadata");
        let fill = |field: &mut String, name: &str| {
            if field.is_empty()
                && let Some(text) = metadata.and_then(|metadata| field_text(metadata, name))
            {
                *field = text.into_owned();
            }
        };
        fill(&mut object.name, "name");
        // A list's version is that of no object.
        if !object.name.is_empty() {
            fill(&mut object.uid, "uid");
            fill(&mut object.resource_version, "resourceVersion");
        }
    }

    fn without_managed_fields(&self, mut object: Value) -> Value {
        if self.wanted.omit_managed_fields {
            drop_managed_fields(&mut object);
            let items = object.get_mut("items").and_then(Value::as_array_mut);
            items.into_iter().flatten().for_each(drop_managed_fields);
        }
        object
    }

    fn write(&self, stage: Stage) {
        if self.wanted.omit_stages.contains(&stage) {
            return;
        }
        let now = match stage {
            Stage::RequestReceived => self.received.clone(),
            _ => format_micro_time(Timestamp::now()),
        };
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: self.wanted.level.as_str(),
            audit_id: &self.id,
            stage: stage.as_str(),
            request_uri: &self.uri,
            verb: self.verb,
            user: self.user.as_ref().map(User::from).unwrap_or_default(),
            impersonated_user: self.impersonated.as_ref().map(User::from),
            source_ips: &self.source_ips,
            user_agent: &self.user_agent,
            object_ref: self.object.as_ref(),
            response_status: self.status.as_ref(),
            request_object: self.request.as_ref(),
            response_object: self.response.as_ref(),
            request_received_timestamp: &self.received,
            stage_timestamp: &now,
            annotations: &self.annotations,
        };
        let mut line = serde_json::to_vec(&event).expect("an event is JSON");
        line.push(b'\n');
        self.log.write(line);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status = Some(json!({
                "metadata": {}, "status": "Failure", "message": "APIServer panic'd",
                "reason": "InternalError", "code": 500,
            }));
            return self.write(Stage::Panic);
        }
        if self.status.is_none() {
            self.status = Some(json!({
                "metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200,
            }));
        }
        self.write(Stage::ResponseComplete);
    }
}

fn drop_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove(MANAGED_FIELDS);
    }
}

fn user_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok());
    let agent = agent.unwrap_or_default();
    // Header values that are text are ASCII: any byte is a boundary.
    match agent.get(..USER_AGENT_LIMIT) {
        Some(start) if agent.len() > USER_AGENT_LIMIT => format!("{start}...TRUNCATED"),
        _ => agent.to_owned(),
    }
}

/// Whom proxies say that they forward for, then whom the connection is with.
fn source_ips(headers: &HeaderMap, remote: Option<IpAddr>) -> Vec<String> {
    let address = |text: &str| text.trim().parse::<IpAddr>().ok();
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let forwarded = header("x-forwarded-for").unwrap_or_default();
    let mut found: Vec<IpAddr> = forwarded.split(',').filter_map(address).collect();
    if found.is_empty() {
        found.extend(header("x-real-ip").and_then(address));
    }
    let remote = remote.map(|ip| ip.to_canonical());
    found.extend(remote.filter(|remote| found.last() != Some(remote)));
    found.iter().map(IpAddr::to_string).collect()
}
