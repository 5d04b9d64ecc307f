//! Gives back what is no longer used: the resource quota controller. Runs where the leader runs.
//!
//! Admission only ever adds. This counts a namespace anew when something in it has gone or ended, when a quota has
//! changed, and all of them now and then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Client, RawEvent, User, Verb};
use api_machinery::{ObjectExt, Status};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;

use super::count::{MEASURED, quota_status};
use crate::plugin::ObjectReader;

/// Counts everything anew this often, as upstream: some kinds are counted without being followed.
const RESYNC: Duration = Duration::from_secs(300);
/// Events that are taken together.
const BATCH: usize = 1024;

/// Follows what quotas count and corrects their status. Ends only when it is dropped.
///
/// # Errors
/// When objects cannot be followed.
pub async fn keep_quotas(client: Client, reader: Arc<dyn ObjectReader>) -> Result<(), Status> {
    let client = client.as_user(User::controller("resourcequota-controller"));
    let mut streams = Vec::new();
    for plural in MEASURED {
        let stream = client.backend().watch("", plural)?;
        streams.push(
            stream
                .filter_map(move |event| async move { touched(plural, &event) })
                .boxed(),
        );
    }
    let mut touched = futures::stream::select_all(streams).ready_chunks(BATCH);
    let mut resync = tokio::time::interval(RESYNC);
    loop {
        let quotas = tokio::select! {
            batch = touched.next() => {
                let Some(batch) = batch else { return Ok(()) };
                let namespaces: BTreeSet<String> = batch.into_iter().collect();
                namespaces.iter().flat_map(|n| reader.list("", "resourcequotas", Some(n))).collect()
            }
            _ = resync.tick() => reader.list("", "resourcequotas", None),
        };
        for quota in quotas {
            correct(&client, &*reader, &quota).await;
        }
    }
}

/// The namespace in which an event may have freed something.
fn touched(plural: &str, event: &RawEvent) -> Option<String> {
    let (json, gone) = match event {
        RawEvent::Deleted { json } => (json, true),
        RawEvent::Applied { json } => (json, false),
        RawEvent::Synced | RawEvent::Restarted => return None,
    };
    // Most events are changes of objects that go on; a look at the text spares parsing them.
    let relevant = gone || plural == "resourcequotas" || (plural == "pods" && has_ended(json));
    if !relevant {
        return None;
    }
    let object: Value = serde_json::from_slice(json).ok()?;
    Some(object.namespace().to_owned())
}

fn has_ended(json: &[u8]) -> bool {
    [&b"\"Succeeded\""[..], b"\"Failed\""]
        .iter()
        .any(|phase| memchr::memmem::find(json, phase).is_some())
}

async fn correct(client: &Client, reader: &dyn ObjectReader, quota: &Value) {
    let Some(status) = quota_status(reader, quota) else {
        return;
    };
    let mut quota = quota.clone();
    quota["status"] = status;
    let path = format!(
        "/api/v1/namespaces/{}/resourcequotas/{}/status",
        quota.namespace(),
        quota.name()
    );
    match client
        .raw(
            Verb::Put,
            path,
            "application/json",
            Bytes::from(quota.to_string()),
        )
        .await
    {
        // Its own change comes as an event and is looked at then.
        Err(status) if !status.is_conflict() && !status.is_not_found() => {
            tracing::warn!(%status, quota = quota.name(), "a quota could not be counted");
        }
        _ => {}
    }
}
