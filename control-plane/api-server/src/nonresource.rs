//! Paths that are no resources: health, version, metrics, discovery, OpenAPI. One row each.

mod discovery;
mod encryption;
mod health;
mod openapi;

use std::sync::Arc;

use api_machinery::Status;
use http::StatusCode;
use serde_json::json;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::negotiate::Accepted;
use crate::plugin::{Extension, ExtensionRequest};

type Handler = fn(&Core, &Context, &str) -> Result<Answer, Status>;

/// Path prefix and who answers what lies below it (the rest of the path is handed in, without a leading slash).
const TABLE: &[(&str, Handler)] = &[
    ("/healthz", health::run),
    ("/livez", health::run),
    ("/readyz", health::run),
    ("/version", version),
    ("/metrics", metrics),
    ("/api", discovery::api),
    ("/apis", discovery::apis),
    ("/openapi/v2", openapi::v2),
    ("/openapi/v3", openapi::v3),
];

/// Answers a request for a path.
///
/// # Errors
/// 404 for paths that nobody answers, 405 for methods other than GET.
pub(crate) async fn run(core: &Core, cx: Context, body: RequestBody) -> Result<Answer, Status> {
    if let Some((extension, rest)) = extension(core, &cx.info.path) {
        let request = ExtensionRequest {
            user: &cx.user,
            method: &cx.method,
            rest,
            headers: &cx.headers,
            body: body.read().await?,
        };
        let answer = extension.call(request).await?;
        return Ok(Answer::json(StatusCode::OK, answer.to_string()));
    }
    let path = cx.info.path.clone();
    let path = path.trim_end_matches('/');
    if path == encryption::PATH {
        return encryption::run(core, &cx).await;
    }
    if !matches!(cx.info.verb, "get" | "head") {
        return Err(Status::method_not_allowed());
    }
    if path.is_empty() {
        return Ok(index(core));
    }
    let cx = Context {
        accepted: Accepted::of(&cx.headers).unwrap_or_default(),
        ..cx
    };
    for (prefix, handler) in TABLE {
        let Some(rest) = path.strip_prefix(prefix) else {
            continue;
        };
        if rest.is_empty() || rest.starts_with('/') {
            return handler(core, &cx, rest.trim_start_matches('/'));
        }
    }
    let document = core.documents.iter().find(|(own, _)| *own == path);
    let (_, document) = document.ok_or_else(Status::no_such_path)?;
    Ok(Answer::json(StatusCode::OK, document().to_string()))
}

/// Whose path it is, and what follows.
fn extension<'a>(core: &'a Core, path: &'a str) -> Option<(&'a Arc<dyn Extension>, &'a str)> {
    core.extensions.iter().find_map(|extension| {
        let rest = path.strip_prefix(extension.path())?;
        let below = rest.is_empty() || rest.starts_with('/');
        below.then(|| (extension, rest.trim_matches('/')))
    })
}

fn index(core: &Core) -> Answer {
    let mut paths: Vec<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
    paths.push("/api/v1".into());
    for group in core
        .resources
        .table
        .groups()
        .into_iter()
        .filter(|g| !g.is_empty())
    {
        paths.push(format!("/apis/{group}"));
        paths.extend(
            core.resources
                .table
                .versions(group)
                .iter()
                .map(|v| format!("/apis/{group}/{v}")),
        );
    }
    paths.sort();
    Answer::json(StatusCode::OK, json!({"paths": paths}).to_string())
}

fn version(core: &Core, _cx: &Context, _rest: &str) -> Result<Answer, Status> {
    let body = json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": core.settings.version,
        "gitCommit": core.settings.commit,
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    });
    let body = serde_json::to_vec_pretty(&body).map_err(Status::internal_error)?;
    Ok(Answer::json(StatusCode::OK, body))
}

/// The machine's architecture in the words that Kubernetes uses.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn metrics(core: &Core, _cx: &Context, _rest: &str) -> Result<Answer, Status> {
    Ok(Answer::text(
        StatusCode::OK,
        core.metrics.text(core.flow.waiting()),
    ))
}
