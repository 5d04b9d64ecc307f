//! `bench api`: the verbs of a Kubernetes API server, measured by one client whatever server it is.
//!
//! The figures of upstream beside ours (kube-apiserver 1.36 with etcd 3.6 on a two-core machine shared with the client)
//! are for orientation; run this against both on one machine for a comparison that counts.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::connection::Connection;
use super::cpu::resident;
use super::kubeconfig::Kubeconfig;
use super::measure::{Row, print, run_all, timed};
use super::{schedule, watch};

#[derive(Args, Clone)]
pub struct ApiArgs {
    /// Kubeconfig of the server under test.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Process ids of the server (API server, store, scheduler and controllers), for its CPU time. May be repeated.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Only these parts.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Operations of each verb.
    #[arg(long, default_value_t = 10_000)]
    pub operations: usize,
    #[arg(long, default_value_t = 50)]
    pub workers: usize,
    #[arg(long, default_value_t = 10)]
    pub connections: usize,
    /// Watchers of the fan-out.
    #[arg(long, default_value_t = 1000)]
    pub watchers: usize,
    /// Nodes and pods of the scheduling run.
    #[arg(long, default_value_t = 100)]
    pub nodes: usize,
    #[arg(long, default_value_t = 2000)]
    pub pods: usize,
}

/// What a benchmark works with.
pub struct Setting {
    pub args: ApiArgs,
    pub config: Kubeconfig,
    pub connections: Vec<Connection>,
}

pub const NAMESPACE: &str = "bench";
const MAPS: &str = "/api/v1/namespaces/bench/configmaps";

pub async fn run(args: ApiArgs) -> Result<()> {
    let config = Kubeconfig::read(&args.kubeconfig)?;
    let mut connections = Vec::new();
    for _ in 0..args.connections.max(1) {
        connections.push(Connection::open(&config).await?);
    }
    let setting = Setting {
        args,
        config,
        connections,
    };
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    if setting.connections[0]
        .get("/api/v1/namespaces/bench")
        .await
        .is_err()
    {
        setting.connections[0]
            .post("/api/v1/namespaces", namespace.to_string().into())
            .await?;
    }
    let idle = resident(&setting.args.pid)?;
    let mut rows = verbs(&setting).await?;
    if setting.wants("watch") {
        rows.push(watch::run(&setting).await?);
    }
    if setting.wants("schedule") {
        rows.push(schedule::run(&setting).await?);
    }
    let args = &setting.args;
    let memory = |bytes: u64| bytes / 1_000_000;
    print(
        &format!(
            "{} workers on {} HTTP/2 connections, ConfigMaps of 0.5 KB; server resident {} MB before, {} MB after",
            args.workers,
            args.connections,
            memory(idle),
            memory(resident(&args.pid)?),
        ),
        &rows,
    );
    Ok(())
}

impl Setting {
    pub fn wants(&self, name: &str) -> bool {
        self.args.only.is_empty() || self.args.only.iter().any(|only| only == name)
    }

    /// One row: `operation` for every number, by all workers.
    async fn measure<F, Fut>(
        &self,
        name: &'static str,
        operations: usize,
        upstream: (f64, f64),
        operation: F,
    ) -> Result<Row>
    where
        F: Fn(Connection, usize) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send,
    {
        let work = run_all(&self.connections, self.args.workers, operations, operation);
        let (latency, elapsed, cpu) = timed(&self.args.pid, work).await?;
        Ok(Row {
            name,
            operations,
            elapsed,
            cpu,
            latency: Some(latency),
            upstream,
        })
    }
}

fn config_map(number: usize, marker: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("m{number}"), "labels": {"app": "bench"}},
        "data": {"marker": marker.to_string(), "text": "x".repeat(400)},
    })
}

async fn verbs(setting: &Setting) -> Result<Vec<Row>> {
    let operations = setting.args.operations;
    let mut rows = Vec::new();
    let path = |number: usize| format!("{MAPS}/m{number}");
    let create = move |c: Connection, n: usize| async move {
        c.post(MAPS, config_map(n, 0).to_string().into())
            .await
            .map(drop)
    };
    rows.push(
        setting
            .measure("create", operations, (1700.0, 1.1), create)
            .await?,
    );
    let get = move |c: Connection, n: usize| async move { c.get(&path(n)).await.map(drop) };
    rows.push(
        setting
            .measure("get", operations, (3900.0, 0.46), get)
            .await?,
    );
    let update = move |c: Connection, n: usize| async move {
        let body: Bytes = config_map(n, 1).to_string().into();
        c.call(Method::PUT, &path(n), "application/json", body)
            .await
            .map(drop)
    };
    rows.push(
        setting
            .measure("update", operations, (1630.0, 1.4), update)
            .await?,
    );
    let patch = move |c: Connection, n: usize| async move {
        let body = Bytes::from_static(br#"{"data":{"marker":"2"}}"#);
        c.call(
            Method::PATCH,
            &path(n),
            "application/merge-patch+json",
            body,
        )
        .await
        .map(drop)
    };
    rows.push(
        setting
            .measure("patch", operations, (1480.0, 1.2), patch)
            .await?,
    );
    if setting.wants("list") {
        rows.push(list(setting).await?);
    }
    let delete = move |c: Connection, n: usize| async move {
        c.call(Method::DELETE, &path(n), "", Bytes::new())
            .await
            .map(drop)
    };
    rows.push(
        setting
            .measure("delete", operations, (0.0, 0.8), delete)
            .await?,
    );
    rows.retain(|row| setting.wants(row.name));
    Ok(rows)
}

/// Lists of what `create` left, in the size that they have (10,000 objects are 10 MB upstream, managed fields included).
async fn list(setting: &Setting) -> Result<Row> {
    let size = setting.connections[0].get(MAPS).await?.len();
    println!("list: {:.1} MB each", size as f64 / 1e6);
    let operation = |c: Connection, _| async move { c.get(MAPS).await.map(drop) };
    setting.measure("list", 100, (13.0, 95.0), operation).await
}

/// Deletes everything that was made, in the background of nothing: the next run begins clean.
pub async fn delete_all(setting: &Setting, path: &'static str, count: usize) -> Result<()> {
    let path: Arc<str> = path.into();
    let operation = move |c: Connection, n: usize| {
        let path = format!("{path}/b{n}?gracePeriodSeconds=0");
        async move {
            c.call(Method::DELETE, &path, "", Bytes::new())
                .await
                .map(drop)
        }
    };
    run_all(&setting.connections, setting.args.workers, count, operation)
        .await
        .map(drop)
}
