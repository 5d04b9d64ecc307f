//! Plain HTTP on the client port: version, health, liveness, readiness, metrics; paths and answers are etcd's.

use std::collections::HashSet;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware;
use axum::routing::get;
use http::{HeaderValue, Response, StatusCode, Uri, header};
use raft_store::{KeyRange, RangeRequest};

use crate::front::{CLUSTER_VERSION, ETCD_VERSION, Front};
use crate::serve::Offer;
use crate::{gateway, metrics_page};

/// All paths of a listener.
pub(crate) fn routes(front: &Front, offer: Offer) -> Router {
    let mut routes = Router::new()
        .route("/health", get(health).fallback(only_get))
        .route("/livez", get(probe).fallback(only_get))
        .route("/livez/{check}", get(probe).fallback(only_get))
        .route("/readyz", get(probe).fallback(only_get))
        .route("/readyz/{check}", get(probe).fallback(only_get))
        .route("/metrics", get(metrics).fallback(only_get));
    if offer == Offer::Everything {
        // JSON takes more room than the message that it stands for.
        let limit = DefaultBodyLimit::max(front.max_message_bytes() * 2);
        let learners = middleware::from_fn_with_state(front.clone(), gateway::refuse_unserved);
        let gateway = gateway::routes().layer(limit).layer(learners);
        routes = routes
            .route("/version", get(version).fallback(only_get))
            .nest("/v3", gateway.clone())
            .nest("/v3beta", gateway);
    }
    routes
        .fallback(async || text(StatusCode::NOT_FOUND, "404 page not found\n"))
        .with_state(front.clone())
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    let nosniff = HeaderValue::from_static("nosniff");
    answer
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    answer
}

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body)
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    answer(status, "application/json", body)
}

async fn only_get() -> Response<Body> {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static("GET"));
    answer
}

async fn version() -> Response<Body> {
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{CLUSTER_VERSION}"}}"#
    );
    json(StatusCode::OK, body)
}

async fn metrics(State(front): State<Front>) -> Response<Body> {
    let body = metrics_page::render(&front);
    answer(
        StatusCode::OK,
        "text/plain; version=0.0.4; charset=utf-8",
        body,
    )
}

/// The values of one name in the query.
fn values<'a>(uri: &'a Uri, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}

/// Whether a read goes through; linearizable ones need a leader and a quorum.
async fn read(front: &Front, serializable: bool) -> Result<(), raft_store::Error> {
    let request = RangeRequest {
        range: KeyRange::single(&b"\0"[..]),
        limit: 1,
        keys_only: true,
        serializable,
        ..Default::default()
    };
    front.store.range(request).await.map(drop)
}

async fn health(State(front): State<Front>, uri: Uri) -> Response<Body> {
    let serializable = values(&uri, "serializable").next() == Some("true");
    let excluded: HashSet<&str> = values(&uri, "exclude").collect();
    let reason = unhealthy(&front, serializable, &excluded).await;
    front.metrics.checked(reason.is_none());
    let healthy = reason.is_none();
    let body =
        serde_json::json!({"health": healthy.to_string(), "reason": reason.unwrap_or_default()});
    if healthy {
        text(StatusCode::OK, body.to_string())
    } else {
        tracing::warn!(%body, "a check of health failed");
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
    }
}

/// What is wrong, in etcd's words.
async fn unhealthy(front: &Front, serializable: bool, excluded: &HashSet<&str>) -> Option<String> {
    let mut alarms = front.alarms().into_iter();
    if let Some(alarm) = alarms.find(|alarm| !excluded.contains(alarm)) {
        return Some(format!("ALARM {alarm}"));
    }
    if !serializable && front.store.leadership().borrow().leader.is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    let read = read(front, serializable).await;
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

const LIVEZ: &[&str] = &["serializable_read"];
const READYZ: &[&str] = &[
    "data_corruption",
    "serializable_read",
    "linearizable_read",
    "non_learner",
];

async fn check(front: &Front, name: &str) -> Result<(), String> {
    let error = |error: raft_store::Error| error.to_string();
    match name {
        "serializable_read" => read(front, true).await.map_err(error),
        "linearizable_read" => read(front, false).await.map_err(error),
        "data_corruption" if front.alarms().contains(&"CORRUPT") => {
            Err("alarm activated: CORRUPT".to_owned())
        }
        "non_learner" if front.store.status().is_learner => {
            Err("not supported for learner".to_owned())
        }
        _ => Ok(()),
    }
}

/// `/livez`, `/readyz`, and each of their checks alone; `?verbose`, `?exclude=NAME`.
async fn probe(State(front): State<Front>, uri: Uri) -> Response<Body> {
    let mut path = uri.path().trim_start_matches('/').split('/');
    let all = if path.next() == Some("livez") {
        LIVEZ
    } else {
        READYZ
    };
    let excluded: HashSet<&str> = values(&uri, "exclude").collect();
    let checks: Vec<&str> = match path.next() {
        None => all
            .iter()
            .copied()
            .filter(|name| !excluded.contains(name))
            .collect(),
        Some(one) => all.iter().copied().filter(|name| *name == one).collect(),
    };
    if checks.is_empty() && excluded.is_empty() {
        return text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let (mut report, mut failed) = (String::new(), false);
    for name in checks {
        match check(&front, name).await {
            Ok(()) => report += &format!("[+]{name} ok\n"),
            Err(reason) => {
                failed = true;
                report += &format!("[-]{name} failed: {reason}\n");
            }
        }
    }
    if failed {
        tracing::warn!(%report, "a check of health failed");
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{report}\n"));
    }
    let verbose = values(&uri, "verbose").next().is_some();
    text(
        StatusCode::OK,
        if verbose {
            report + "ok\n"
        } else {
            "ok\n".to_owned()
        },
    )
}
