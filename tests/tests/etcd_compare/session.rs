//! One case's connection to one store, and the trace of what was answered, made comparable.
//!
//! Revisions become relative to the start of the case; ids and terms, which must differ, become a word.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tests::eventually_async;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::auth_client::AuthClient;
use xebec_proto::etcdserverpb::cluster_client::ClusterClient;
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::lease_client::LeaseClient;
use xebec_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use xebec_proto::etcdserverpb::watch_client::WatchClient;
use xebec_proto::grpc_health_v1::health_client::HealthClient;
use xebec_proto::v3electionpb::election_client::ElectionClient;
use xebec_proto::v3lockpb::lock_client::LockClient;

/// Answers of the size of a large request must come through.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// What takes longer is a difference; etcd itself gives up after seven seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// A row of a file's list of cases.
pub struct Case {
    pub name: &'static str,
    pub run: for<'a> fn(&'a mut Session) -> BoxFuture<'a, Result<()>>,
}

/// Makes a file's list of cases from its functions: `cases!("range": limit, count, …);`
#[macro_export]
macro_rules! cases {
    ($file:literal: $($case:ident),* $(,)?) => {
        pub const CASES: &[$crate::session::Case] = &[$($crate::session::Case {
            name: concat!($file, "::", stringify!($case)),
            run: |session| Box::pin($case(session)),
        }),*];
    };
}

pub struct Session {
    channel: Channel,
    pub port: u16,
    /// The store's revision when the case began.
    base: i64,
    lines: Vec<String>,
}

impl Session {
    /// Connects with the member at a port.
    pub async fn at(port: u16) -> Result<Self> {
        Ok(Self {
            channel: connect(port).await?,
            port,
            base: 0,
            lines: Vec::new(),
        })
    }

    /// The same for a case that begins now.
    pub async fn open(port: u16, case: &str) -> Result<Self> {
        let mut session = Self::at(port).await?;
        let request = pb::RangeRequest {
            key: case.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let answer = session.kv().range(request).await?.into_inner();
        session.base = answer.header.context("a header")?.revision;
        Ok(session)
    }

    /// Asks another member from now on, which may be starting.
    pub async fn turn_to(&mut self, port: u16) -> Result<()> {
        let connected = eventually_async("it takes connections", ANSWER_LIMIT, || connect(port));
        self.channel = connected.await?;
        self.port = port;
        Ok(())
    }

    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// The store's revision when the case began.
    pub fn base(&self) -> i64 {
        self.base
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    pub fn watch_client(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    pub fn locks(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    pub fn elections(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    /// Adds a line to what is compared.
    pub fn note(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// Adds a message to what is compared, and returns it.
    pub fn message<T: Serialize>(&mut self, what: &str, message: T) -> Result<T> {
        let mut value = serde_json::to_value(&message)?;
        comparable(&mut value, self.base);
        self.note(format!("{what}: {value}"));
        Ok(message)
    }

    /// Adds an answer or the error to what is compared; an error is no failure of the case.
    pub fn record<T: Serialize>(
        &mut self,
        what: &str,
        answer: Result<Response<T>, Status>,
    ) -> Result<Option<T>> {
        match answer {
            Ok(answer) => self.message(what, answer.into_inner()).map(Some),
            Err(status) => {
                self.error(what, &status);
                Ok(None)
            }
        }
    }

    pub fn error(&mut self, what: &str, status: &Status) {
        self.note(format!(
            "{what}: {:?} {:?}",
            status.code(),
            status.message()
        ));
    }

    pub async fn range(&mut self, request: pb::RangeRequest) -> Result<Option<pb::RangeResponse>> {
        let answer = self.kv().range(request).await;
        self.record("range", answer)
    }

    pub async fn put(&mut self, request: pb::PutRequest) -> Result<Option<pb::PutResponse>> {
        let answer = self.kv().put(request).await;
        self.record("put", answer)
    }

    pub async fn delete(
        &mut self,
        request: pb::DeleteRangeRequest,
    ) -> Result<Option<pb::DeleteRangeResponse>> {
        let answer = self.kv().delete_range(request).await;
        self.record("delete", answer)
    }

    pub async fn txn(&mut self, request: pb::TxnRequest) -> Result<Option<pb::TxnResponse>> {
        let answer = self.kv().txn(request).await;
        self.record("txn", answer)
    }

    /// Waits until a change of members is behind: etcd leaves one unanswered that meets an earlier one under way.
    pub async fn settle(&self) -> Result<()> {
        let request = pb::PutRequest {
            key: "settled".into(),
            ..Default::default()
        };
        Ok(self.kv().put(request).await.map(drop)?)
    }

    /// Compacts at a revision relative to the case's start.
    pub async fn compact(&mut self, relative: i64, physical: bool) -> Result<()> {
        let request = pb::CompactionRequest {
            revision: self.base + relative,
            physical,
        };
        let answer = self.kv().compact(request).await;
        self.record("compact", answer).map(drop)
    }
}

async fn connect(port: u16) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    Ok(endpoint.timeout(ANSWER_LIMIT).connect().await?)
}

/// Replaces what must differ between servers.
pub fn comparable(value: &mut Value, base: i64) {
    match value {
        Value::Object(fields) => {
            fields.sort_keys();
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "cluster_id" | "member_id" | "raft_term" | "raftTerm" | "memberID" => {
                        *value = Value::from("some");
                    }
                    "revision" | "create_revision" | "mod_revision" | "compact_revision"
                    | "hash_revision" | "rev" => relative(value, base),
                    "member" | "members" => {
                        unnamed(value);
                        comparable(value, base);
                    }
                    _ => comparable(value, base),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| comparable(item, base)),
        _ => {}
    }
}

/// Takes ids and ports from members, and puts them in an order.
fn unnamed(value: &mut Value) {
    match value {
        Value::Array(members) => {
            members.iter_mut().for_each(unnamed);
            members.sort_by_key(Value::to_string);
        }
        Value::Object(member) => {
            for (name, value) in member.iter_mut() {
                match (name.as_str(), value) {
                    ("ID", value) => *value = Value::from("some"),
                    ("peerURLs" | "clientURLs", Value::Array(urls)) => {
                        *urls = vec![Value::from("some"); urls.len()];
                    }
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

fn relative(value: &mut Value, base: i64) {
    let number = value.as_str().and_then(|text| text.parse::<i64>().ok());
    if let Some(number) = number
        && number > 0
    {
        *value = Value::from(format!("start{:+}", number - base));
    }
}

/// Where two traces part, in words.
pub fn first_difference(ours: &[String], theirs: &[String]) -> String {
    let longest = ours.len().max(theirs.len());
    let mut text = String::new();
    let differing = (0..longest).filter(|at| ours.get(*at) != theirs.get(*at));
    for at in differing.take(3) {
        let line = |lines: &[String]| match lines.get(at) {
            Some(line) if line.len() > 2000 => format!("{}… ({} bytes)", &line[..200], line.len()),
            Some(line) => line.clone(),
            None => "(nothing)".to_owned(),
        };
        let _ = writeln!(text, "  step {}", at + 1);
        let _ = writeln!(text, "    xebec: {}", line(ours));
        let _ = writeln!(text, "    etcd:  {}", line(theirs));
    }
    text
}
