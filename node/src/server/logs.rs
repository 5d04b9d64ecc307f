//! `/containerLogs`: finds the container that is meant and streams its log as asked.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff;
use serde::Deserialize;

use super::log_reader::{self, Options};
use super::{Context, refuse};
use crate::pod::spec;

/// The query of `/containerLogs`, as the API server sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LogQuery {
    follow: Option<String>,
    previous: Option<String>,
    timestamps: Option<String>,
    tail_lines: Option<String>,
    since_seconds: Option<String>,
    since_time: Option<String>,
    limit_bytes: Option<String>,
    stream: Option<String>,
}

fn flag(value: &Option<String>) -> bool {
    value
        .as_deref()
        .is_some_and(|v| !matches!(v, "false" | "0"))
}

impl LogQuery {
    fn options(&self, now: Timestamp) -> Result<Options, String> {
        let number =
            |value: &Option<String>, name: &str| match value.as_deref().filter(|v| !v.is_empty()) {
                None => Ok(None),
                Some(text) => text
                    .parse::<i64>()
                    .map(Some)
                    .map_err(|_| format!("invalid {name} \"{text}\"")),
            };
        let since = match (
            number(&self.since_seconds, "sinceSeconds")?,
            self.since_time.as_deref(),
        ) {
            (Some(seconds), _) => Some(now - SignedDuration::from_secs(seconds)),
            (None, Some(text)) if !text.is_empty() => Some(
                text.parse()
                    .map_err(|_| format!("invalid sinceTime \"{text}\""))?,
            ),
            _ => None,
        };
        let positive = |value: Option<i64>| value.map(|v| u64::try_from(v).unwrap_or(0));
        Ok(Options {
            follow: flag(&self.follow),
            timestamps: flag(&self.timestamps),
            tail_lines: positive(number(&self.tail_lines, "tailLines")?),
            since,
            limit_bytes: positive(number(&self.limit_bytes, "limitBytes")?),
            stream: self
                .stream
                .as_deref()
                .filter(|s| *s != "All")
                .map(str::to_lowercase),
        })
    }
}

/// Answers `GET /containerLogs/NAMESPACE/POD/CONTAINER`.
pub(super) async fn handle(
    State(context): State<Context>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<LogQuery>,
) -> Response {
    let Some(found) = context.pods.find(&namespace, &pod) else {
        return refuse(
            StatusCode::NOT_FOUND,
            format!("pod \"{pod}\" does not exist\n"),
        );
    };
    let options = match query.options(Timestamp::now()) {
        Ok(options) => options,
        Err(message) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                format!("{{\"message\": {message:?}}}"),
            );
        }
    };
    if spec::container(&found, &container).is_none() {
        return refuse(
            StatusCode::NOT_FOUND,
            format!("container \"{container}\" not found in pod \"{pod}\"\n"),
        );
    }
    let id = match container_id(&found, &container, flag(&query.previous)) {
        Ok(id) => id,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, message),
    };
    let status = match context.shared.cri.container_status(&id).await {
        Ok(Some(status)) => status,
        Ok(None) => {
            let message = format!(
                "unable to retrieve container logs for {}://{id}",
                context.shared.facts.runtime_name
            );
            return refuse(StatusCode::OK, message);
        }
        Err(status) => {
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                status.message().to_string(),
            );
        }
    };
    let stream = log_reader::stream(
        PathBuf::from(status.log_path),
        options,
        context.pods.clone(),
        context.shared.cri.clone(),
        id,
    );
    let mut response = Response::new(Body::from_stream(stream));
    let plain = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, plain);
    response
}

/// The id of the container whose log is meant: by the pod's status, as the kubelet decides it.
fn container_id(pod: &Pod, container: &str, previous: bool) -> Result<String, String> {
    let status = pod.status.as_ref();
    let statuses = status.into_iter().flat_map(|s| {
        s.container_statuses
            .iter()
            .flatten()
            .chain(s.init_container_statuses.iter().flatten())
    });
    let name = spec::name(pod);
    let waiting = |reason: &str| {
        format!("container \"{container}\" in pod \"{name}\" is waiting to start: {reason}")
    };
    let Some(found) = statuses.into_iter().find(|s| s.name == container) else {
        return Err(format!(
            "container \"{container}\" in pod \"{name}\" is not available"
        ));
    };
    let last = found
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref())
        .and_then(|t| t.container_id.as_deref());
    if previous {
        let missing =
            || format!("previous terminated container \"{container}\" in pod \"{name}\" not found");
        return last.map(plain_id).ok_or_else(missing);
    }
    present_id(found, last).map(plain_id).ok_or_else(|| {
        let reason = found.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.as_deref());
        match reason {
            Some("ErrImagePull") => {
                format!("container \"{container}\" in pod \"{name}\" is waiting to start: image can't be pulled")
            }
            Some("ImagePullBackOff") => {
                format!("container \"{container}\" in pod \"{name}\" is waiting to start: trying and failing to pull image")
            }
            reason => waiting(reason.unwrap_or("ContainerCreating")),
        }
    })
}

fn present_id<'a>(status: &'a ContainerStatus, last: Option<&'a str>) -> Option<&'a str> {
    let state = status.state.as_ref()?;
    if state.running.is_some() {
        return status.container_id.as_deref();
    }
    match &state.terminated {
        Some(terminated) => terminated.container_id.as_deref().or(last),
        None => last,
    }
}

/// `containerd://ID` without its scheme.
fn plain_id(id: &str) -> String {
    id.split_once("://").map_or(id, |(_, id)| id).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(state: Value, last: Value, previous: bool, expect: Result<&str, &str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"name": "c", "containerID": "containerd://now", "state": state, "lastState": last, "image": "", "imageID": "",
             "ready": false, "restartCount": 0}]}}))
        .expect("a pod");
        let got = container_id(&pod, "c", previous);
        assert_eq!(got, expect.map(str::to_string).map_err(str::to_string));
    }

    #[test]
    fn which_container() {
        let dead = json!({"terminated": {"exitCode": 1, "containerID": "containerd://old"}});
        check(json!({"running": {}}), json!({}), false, Ok("now"));
        check(json!({"running": {}}), dead.clone(), true, Ok("old"));
        check(
            json!({"waiting": {"reason": "CrashLoopBackOff"}}),
            dead,
            false,
            Ok("old"),
        );
        check(
            json!({"waiting": {"reason": "ContainerCreating"}}),
            json!({}),
            false,
            Err("container \"c\" in pod \"p\" is waiting to start: ContainerCreating"),
        );
        check(
            json!({"running": {}}),
            json!({}),
            true,
            Err("previous terminated container \"c\" in pod \"p\" not found"),
        );
    }
}
