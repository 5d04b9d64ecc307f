//! Watch fan-out: many watchers of one resource, a few writers; counts events delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;
use tokio::sync::Notify;

use super::api::{Setting, delete_all};
use super::connection::Connection;
use super::measure::{Row, timed};

const PATH: &str = "/api/v1/namespaces/bench/configmaps";
/// Changes that every watcher must see.
const CHANGES: usize = 200;
/// Watch streams per connection: servers commonly allow 100 to 250 streams.
const STREAMS: usize = 100;

pub async fn run(setting: &Setting) -> Result<Row> {
    let watchers = setting.args.watchers;
    let expected = watchers * CHANGES;
    let seen = Arc::new(AtomicUsize::new(0));
    let all_seen = Arc::new(Notify::new());
    let list = setting.connections[0]
        .get(&format!("{PATH}?limit=1"))
        .await?;
    let list: serde_json::Value = serde_json::from_slice(&list)?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("a list has a resourceVersion")?
        .to_owned();
    let mut tasks = Vec::new();
    let mut connection = None;
    for number in 0..watchers {
        if number % STREAMS == 0 {
            connection = Some(Connection::open(&setting.config).await?);
        }
        let connection = connection.clone().context("opened above")?;
        let path = format!("{PATH}?watch=1&resourceVersion={version}");
        let mut response = connection
            .send(Method::GET, &path, "", Bytes::new())
            .await?;
        let (seen, all_seen) = (seen.clone(), all_seen.clone());
        tasks.push(tokio::spawn(async move {
            while let Some(Ok(frame)) = response.body_mut().frame().await {
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                // Each event is one line.
                let events = data.iter().filter(|byte| **byte == b'\n').count();
                if seen.fetch_add(events, Ordering::Relaxed) + events >= expected {
                    all_seen.notify_one();
                }
            }
        }));
    }
    let work = async {
        for number in 0..CHANGES {
            let body = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("b{number}")},
                "data": {"text": "x".repeat(400)},
            });
            setting.connections[number % setting.connections.len()]
                .post(PATH, body.to_string().into())
                .await?;
        }
        all_seen.notified().await;
        Ok(())
    };
    let ((), elapsed, cpu) = timed(&setting.args.pid, work).await?;
    tasks.iter().for_each(|task| task.abort());
    delete_all(setting, PATH, CHANGES).await?;
    Ok(Row {
        name: "watch",
        operations: expected,
        elapsed,
        cpu,
        latency: None,
        upstream: (57_000.0, 0.04),
    })
}
