//! What the API server itself costs per operation, without HTTP, TLS and disk: the whole pipeline over a store in memory.
//!
//! `cargo run --release -p api-server --example bench`. Prints operations per second of one caller and of many, and the
//! process's CPU time per operation.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api_client::{Backend, Call, RawEvent, User, Verb};
use api_machinery::Status;
use api_server::{
    ApiServer, Authenticator, Authorizer, Config, Decision, Impersonation, MemoryStore,
    PeerCertificates, RequestInfo, Security, Settings, UserInfo,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;

/// ConfigMaps that are written and read.
const OBJECTS: usize = 10_000;
/// Callers at the same time.
const CALLERS: usize = 50;
/// In-process watchers of every change.
const WATCHERS: usize = 100;
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Everyone;

#[async_trait]
impl Authenticator for Everyone {
    async fn authenticate(
        &self,
        _: &HeaderMap,
        _: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status> {
        Ok(Some(UserInfo::default()))
    }
}

impl Authorizer for Everyone {
    fn authorize(&self, _: &UserInfo, _: &RequestInfo) -> Decision {
        Decision::allow("")
    }
}

impl Impersonation for Everyone {
    fn impersonate(&self, _: &UserInfo, _: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        Ok(None)
    }
}

/// CPU time of this process, user and system.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .filter_map(|i| fields.get(*i)?.parse::<u64>().ok())
        .sum();
    // The kernel's unit for user space is a hundredth of a second.
    Duration::from_millis(ticks * 10)
}

async fn call(
    backend: &Arc<dyn Backend>,
    verb: Verb,
    path: String,
    content_type: &'static str,
    body: String,
) {
    let user = User::component("bench");
    let call = Call {
        user,
        verb,
        path,
        content_type,
        body: Bytes::from(body),
        fence: None,
    };
    if let Err(status) = backend.call(call).await {
        eprintln!("{}", status.message);
    }
}

async fn measure<F, T>(name: &str, count: usize, operation: F)
where
    F: Fn(usize) -> T,
    T: Future<Output = ()>,
{
    let (start, cpu) = (Instant::now(), cpu_time());
    futures::stream::iter(0..count)
        .for_each_concurrent(CALLERS, operation)
        .await;
    let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
    let rate = count as f64 / took.as_secs_f64();
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    println!("{name:<24} {rate:>10.0}/s {each:>10.1} us of CPU each");
}

fn config() -> Config {
    Config {
        listen: None,
        tls: None,
        kubelet_tls: None,
        encryption_key: None,
        audit: None,
        settings: Settings {
            advertise_address: SocketAddr::from(([192, 0, 2, 1], 6443)),
            service_cidr: (IpAddr::V4(Ipv4Addr::new(10, 43, 0, 0)), 16),
            version: "v1.36.0".into(),
            commit: String::new(),
        },
        extensions: Vec::new(),
        documents: Vec::new(),
        security: Box::new(|_| Security {
            authenticator: Arc::new(Everyone),
            authorizer: Arc::new(Everyone),
            impersonation: Arc::new(Everyone),
            admission: Vec::new(),
            virtual_resources: Vec::new(),
        }),
    }
}

/// Updates that many watchers follow.
async fn fan_out(
    backend: &Arc<dyn Backend>,
    object: &impl Fn(usize, &str) -> String,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        let mut events = backend.watch("", "configmaps").map_err(|s| s.message)?;
        watches.push(tokio::spawn(async move {
            let mut left = 1000;
            while left > 0 {
                if let Some(RawEvent::Applied { json }) = events.next().await {
                    left -= usize::from(memchr::memmem::find(&json, b"\"n\":\"4\"").is_some());
                }
            }
        }));
    }
    measure("update, 100 watchers", 1000, |i| {
        call(
            backend,
            Verb::Put,
            format!("{MAPS}/m{i}"),
            JSON,
            object(i, "4"),
        )
    })
    .await;
    for watch in watches {
        watch.await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = ApiServer::start(config(), Arc::new(MemoryStore::default())).await?;
    let backend = &server.backend();
    let data = "x".repeat(400);
    let object = |i: usize, text: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m{i}"}},"data":{{"k":"{data}","n":"{text}"}}}}"#
        )
    };
    measure("create", OBJECTS, |i| {
        call(backend, Verb::Post, MAPS.into(), JSON, object(i, "1"))
    })
    .await;
    measure("get", OBJECTS * 5, |i| {
        call(
            backend,
            Verb::Get,
            format!("{MAPS}/m{}", i % OBJECTS),
            JSON,
            String::new(),
        )
    })
    .await;
    measure("update", OBJECTS, |i| {
        call(
            backend,
            Verb::Put,
            format!("{MAPS}/m{i}"),
            JSON,
            object(i, "2"),
        )
    })
    .await;
    measure("merge patch", OBJECTS, |i| {
        call(
            backend,
            Verb::Patch,
            format!("{MAPS}/m{i}"),
            MERGE,
            r#"{"data":{"n":"3"}}"#.into(),
        )
    })
    .await;
    measure("list of 10,000", 50, |_| {
        call(backend, Verb::Get, MAPS.into(), JSON, String::new())
    })
    .await;
    fan_out(backend, &object).await?;
    measure("delete", OBJECTS, |i| {
        call(
            backend,
            Verb::Delete,
            format!("{MAPS}/m{i}"),
            JSON,
            String::new(),
        )
    })
    .await;
    server.shutdown().await;
    Ok(())
}
