//! Writes one pod's status to the API: only what changed, the latest only, again until it is accepted.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::conditions::OWNED;
use super::spec;
use crate::api;

/// First wait after the API did not take a status.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// The longest wait.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Writes a pod's status without keeping its worker waiting.
pub(crate) struct StatusWriter {
    latest: watch::Sender<Option<PodStatus>>,
    task: JoinHandle<()>,
}

impl StatusWriter {
    /// A writer for the pod, that knows the status that the pod has now.
    pub(crate) fn start(client: kube::Client, pod: &Pod) -> StatusWriter {
        let (latest, statuses) = watch::channel(None);
        let api = Api::namespaced(client, spec::namespace(pod));
        let written = pod.status.clone().unwrap_or_default();
        let task = Task {
            api,
            name: spec::name(pod).into(),
            uid: spec::uid(pod).into(),
            written,
        };
        StatusWriter {
            latest,
            task: tokio::spawn(task.run(statuses)),
        }
    }

    /// Writes the status soon.
    pub(crate) fn write(&self, status: PodStatus) {
        self.latest.send_replace(Some(status));
    }

    /// Returns when the last status is written, or the pod is gone.
    pub(crate) async fn finish(self) {
        drop(self.latest);
        let _ = self.task.await;
    }
}

struct Task {
    api: Api<Pod>,
    name: String,
    uid: String,
    written: PodStatus,
}

impl Task {
    async fn run(mut self, mut statuses: watch::Receiver<Option<PodStatus>>) {
        let mut retry = FIRST_RETRY;
        let mut closed = false;
        let mut accepted = None;
        loop {
            let status = statuses.borrow_and_update().clone();
            let news = status
                .as_ref()
                .filter(|_| status != accepted)
                .and_then(|s| patch(&self.written, s));
            if let Some(patch) = news {
                match self.send(patch).await {
                    Ok(true) => {
                        retry = FIRST_RETRY;
                        accepted = status;
                    }
                    Ok(false) => return,
                    Err(error) => {
                        tracing::debug!(%error, pod = self.name, "cannot write the pod's status");
                        tokio::select! {
                            () = tokio::time::sleep(retry) => {}
                            changed = statuses.changed(), if !closed => closed = changed.is_err(),
                        }
                        retry = (retry * 2).min(LAST_RETRY);
                        continue;
                    }
                }
            }
            // An end without an unseen status means that the last one is written.
            if closed || statuses.changed().await.is_err() {
                return;
            }
        }
    }

    /// False if the pod is gone.
    async fn send(&mut self, status: Value) -> Result<bool, kube::Error> {
        let body = json!({"metadata": {"uid": self.uid}, "status": status});
        match self
            .api
            .patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(body))
            .await
        {
            Ok(pod) => {
                self.written = pod.status.unwrap_or_default();
                Ok(true)
            }
            Err(error) if api::is_not_found(&error) || api::is_conflict(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The strategic merge patch that turns one status into the other, in what the node owns; None if there is nothing to say.
pub(super) fn patch(from: &PodStatus, to: &PodStatus) -> Option<Value> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, new) = (object(from), object(to));
    let mut out = Map::new();
    for (key, value) in &new {
        let before = old.get(key);
        if before == Some(value) {
            continue;
        }
        match key.as_str() {
            "conditions" => {
                let changed = changed_conditions(before, value);
                if !changed.is_empty() {
                    out.insert(key.clone(), Value::Array(changed));
                }
            }
            "podIPs" | "hostIPs" => {
                out.insert(key.clone(), Value::Array(replaced_addresses(before, value)));
            }
            _ => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    for key in ["reason", "message", "initContainerStatuses"] {
        if old.contains_key(key) && !new.contains_key(key) {
            out.insert(key.into(), Value::Null);
        }
    }
    (!out.is_empty()).then_some(Value::Object(out))
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn changed_conditions(before: Option<&Value>, now: &Value) -> Vec<Value> {
    let kind = |c: &Value| {
        c.get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let mut changed = Vec::new();
    for condition in list(Some(now))
        .iter()
        .filter(|c| OWNED.contains(&kind(c).as_str()))
    {
        let old = list(before).iter().find(|c| kind(c) == kind(condition));
        // The scheduler owns the details of its condition.
        let same = match old {
            Some(old) if kind(condition) == "PodScheduled" => {
                old.get("status") == condition.get("status")
            }
            Some(old) => ["status", "reason", "message", "observedGeneration"]
                .iter()
                .all(|f| old.get(f) == condition.get(f)),
            None => false,
        };
        if same {
            continue;
        }
        let mut condition = condition.clone();
        for field in ["reason", "message"] {
            if old.is_some_and(|o| o.get(field).is_some()) && condition.get(field).is_none() {
                condition[field] = Value::Null;
            }
        }
        changed.push(condition);
    }
    changed
}

/// Lists that are merged by address: those that went away are deleted by name.
fn replaced_addresses(before: Option<&Value>, now: &Value) -> Vec<Value> {
    let mut entries = list(Some(now)).to_vec();
    let gone = list(before)
        .iter()
        .filter(|old| !list(Some(now)).contains(old));
    entries.extend(gone.map(|old| json!({"$patch": "delete", "ip": old["ip"]})));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_what_changed() {
        let old = status(
            json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1.1.1.1"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "Mine", "status": "True"}]}),
        );
        let new = status(json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Mine", "status": "False"}]}));
        let expect = json!({"conditions": [{"type": "Ready", "status": "True", "reason": null}], "phase": "Running",
            "podIPs": [{"ip": "2.2.2.2"}, {"$patch": "delete", "ip": "1.1.1.1"}], "reason": null});
        let got = patch(&old, &new).expect("a patch");
        assert_eq!(serde_json::to_value(got).expect("json"), expect);
        assert_eq!(patch(&new, &new), None);
    }
}
