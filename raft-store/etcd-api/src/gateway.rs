//! The JSON gateway: `POST /v3/…` with the messages' proto3 JSON form, as grpc-gateway answers it in front of etcd.
//!
//! Streams answer one JSON text a line, `{"result": …}` or a last `{"error": …}`.

use std::future::Future;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::{Code, Request, Status};
use xebec_proto::etcdserverpb::auth_server::Auth;
use xebec_proto::etcdserverpb::cluster_server::Cluster;
use xebec_proto::etcdserverpb::kv_server::Kv;
use xebec_proto::etcdserverpb::lease_server::Lease;
use xebec_proto::etcdserverpb::maintenance_server::Maintenance;
use xebec_proto::v3electionpb::election_server::Election;
use xebec_proto::v3lockpb::lock_server::Lock;

use crate::front::{Front, no_leader, not_for_learners};
use crate::health::{json, text};

/// A method with one request and one answer.
macro_rules! unary {
    ($service:ident::$method:ident) => {
        unary(async |front: Front, request| $service::$method(&front, request).await)
    };
}

/// A method with one request and a stream of answers.
macro_rules! answers {
    ($service:ident::$method:ident) => {
        streaming(async |front: Front, mut requests: Vec<_>| {
            let request = requests.drain(..).next().unwrap_or_default();
            let answers = $service::$method(&front, Request::new(request)).await?;
            Ok(answers.into_inner())
        })
    };
}

/// The paths under `/v3`.
pub(crate) fn routes() -> Router<Front> {
    kv_and_leases()
        .merge(cluster_and_maintenance())
        .merge(auth())
        .route("/lock/lock", unary!(Lock::lock))
        .route("/lock/unlock", unary!(Lock::unlock))
        .route("/election/campaign", unary!(Election::campaign))
        .route("/election/proclaim", unary!(Election::proclaim))
        .route("/election/leader", unary!(Election::leader))
        .route("/election/observe", answers!(Election::observe))
        .route("/election/resign", unary!(Election::resign))
        .fallback(async || text(StatusCode::NOT_FOUND, "Not Found\n"))
}

fn kv_and_leases() -> Router<Front> {
    let watch = async |front: Front, requests: Vec<_>| {
        let requests = futures::stream::iter(requests.into_iter().map(Ok));
        let answers = front.watch_stream(requests);
        Ok(answers.map(|answer| answer.map(|answer| answer.into_message())))
    };
    let keep_alive = async |front: Front, requests: Vec<_>| {
        let requests = futures::stream::iter(requests.into_iter().map(Ok));
        Ok(Box::pin(front.keep_alive_stream(requests)))
    };
    Router::new()
        .route("/kv/range", unary!(Kv::range))
        .route("/kv/put", unary!(Kv::put))
        .route("/kv/deleterange", unary!(Kv::delete_range))
        .route("/kv/txn", unary!(Kv::txn))
        .route("/kv/compaction", unary!(Kv::compact))
        .route("/watch", streaming(watch))
        .route("/lease/grant", unary!(Lease::lease_grant))
        .route("/lease/revoke", unary!(Lease::lease_revoke))
        .route("/kv/lease/revoke", unary!(Lease::lease_revoke))
        .route("/lease/keepalive", streaming(keep_alive))
        .route("/lease/timetolive", unary!(Lease::lease_time_to_live))
        .route("/kv/lease/timetolive", unary!(Lease::lease_time_to_live))
        .route("/lease/leases", unary!(Lease::lease_leases))
        .route("/kv/lease/leases", unary!(Lease::lease_leases))
}

fn cluster_and_maintenance() -> Router<Front> {
    Router::new()
        .route("/cluster/member/add", unary!(Cluster::member_add))
        .route("/cluster/member/remove", unary!(Cluster::member_remove))
        .route("/cluster/member/update", unary!(Cluster::member_update))
        .route("/cluster/member/list", unary!(Cluster::member_list))
        .route("/cluster/member/promote", unary!(Cluster::member_promote))
        .route("/maintenance/alarm", unary!(Maintenance::alarm))
        .route("/maintenance/status", unary!(Maintenance::status))
        .route("/maintenance/defragment", unary!(Maintenance::defragment))
        .route("/maintenance/hash", unary!(Maintenance::hash))
        .route("/maintenance/hashkv", unary!(Maintenance::hash_kv))
        .route("/maintenance/snapshot", answers!(Maintenance::snapshot))
        .route(
            "/maintenance/transfer-leadership",
            unary!(Maintenance::move_leader),
        )
        .route("/maintenance/downgrade", unary!(Maintenance::downgrade))
}

fn auth() -> Router<Front> {
    Router::new()
        .route("/auth/enable", unary!(Auth::auth_enable))
        .route("/auth/disable", unary!(Auth::auth_disable))
        .route("/auth/status", unary!(Auth::auth_status))
        .route("/auth/authenticate", unary!(Auth::authenticate))
        .route("/auth/user/add", unary!(Auth::user_add))
        .route("/auth/user/get", unary!(Auth::user_get))
        .route("/auth/user/list", unary!(Auth::user_list))
        .route("/auth/user/delete", unary!(Auth::user_delete))
        .route("/auth/user/changepw", unary!(Auth::user_change_password))
        .route("/auth/user/grant", unary!(Auth::user_grant_role))
        .route("/auth/user/revoke", unary!(Auth::user_revoke_role))
        .route("/auth/role/add", unary!(Auth::role_add))
        .route("/auth/role/get", unary!(Auth::role_get))
        .route("/auth/role/list", unary!(Auth::role_list))
        .route("/auth/role/delete", unary!(Auth::role_delete))
        .route("/auth/role/grant", unary!(Auth::role_grant_permission))
        .route("/auth/role/revoke", unary!(Auth::role_revoke_permission))
}

/// Refuses what a learner does not serve, and what wants a leader while there is none.
pub(crate) async fn refuse_unserved(
    State(front): State<Front>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response<Body> {
    const SERVED: [&str; 3] = ["/kv/range", "/maintenance/status", "/maintenance/snapshot"];
    if front.store.is_learner() && !SERVED.contains(&request.uri().path()) {
        return refuse(&not_for_learners());
    }
    // As grpc-gateway hands metadata on.
    let wanted = request.headers().get("grpc-metadata-hasleader");
    if wanted.is_some_and(|value| value == "true") && front.store.leader().leader.is_none() {
        return refuse(&no_leader());
    }
    next.run(request).await
}

type Received = Result<Bytes, BytesRejection>;

fn only_post() -> Response<Body> {
    text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
}

fn unary<Q, A, F, Answered>(call: F) -> MethodRouter<Front>
where
    Q: DeserializeOwned + Default + Send + 'static,
    A: Serialize + Send + 'static,
    F: Fn(Front, Request<Q>) -> Answered + Clone + Send + Sync + 'static,
    Answered: Future<Output = Result<tonic::Response<A>, Status>> + Send,
{
    let handler = async move |State(front): State<Front>, body: Received| {
        let request = match parse::<Q>(body) {
            Ok(requests) => requests.into_iter().next().unwrap_or_default(),
            Err(status) => return refuse(&status),
        };
        match call(front, Request::new(request)).await {
            Ok(answer) => match serde_json::to_vec(answer.get_ref()) {
                Ok(body) => json(StatusCode::OK, body),
                Err(error) => refuse(&Status::internal(error.to_string())),
            },
            Err(status) => refuse(&status),
        }
    };
    post(handler).fallback(async || only_post())
}

fn streaming<Q, A, F, Answered, S>(call: F) -> MethodRouter<Front>
where
    Q: DeserializeOwned + Default + Send + 'static,
    A: Serialize + Send + 'static,
    F: Fn(Front, Vec<Q>) -> Answered + Clone + Send + Sync + 'static,
    Answered: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + Unpin + 'static,
{
    let handler = async move |State(front): State<Front>, body: Received| {
        let answers = match parse_stream::<Q>(body) {
            Ok(requests) => call(front, requests).await,
            Err(status) => return refuse(&status),
        };
        let mut answers = match answers {
            Ok(answers) => answers,
            Err(status) => return json(http_status(status.code()), line_of_error(&status)),
        };
        let first = match answers.next().await {
            None => return json(StatusCode::OK, Body::empty()),
            Some(Err(status)) => return json(http_status(status.code()), line_of_error(&status)),
            Some(first) => first,
        };
        let answers = futures::stream::iter([first]).chain(answers);
        let lines = answers.map(|answer| Ok::<_, std::convert::Infallible>(line(answer)));
        json(StatusCode::OK, Body::from_stream(lines))
    };
    post(handler).fallback(async || only_post())
}

/// The JSON texts of a body.
fn texts<Q: DeserializeOwned>(body: &[u8]) -> impl Iterator<Item = serde_json::Result<Q>> {
    let values = serde_json::Deserializer::from_slice(body).into_iter();
    values.map(|value: serde_json::Result<Value>| {
        let mut value = value?;
        drop_nulls(&mut value);
        serde_json::from_value(value)
    })
}

/// All JSON texts of a body; none in an empty one.
pub(crate) fn parse<Q: DeserializeOwned>(body: Received) -> Result<Vec<Q>, Status> {
    let body = body.map_err(|error| Status::invalid_argument(error.to_string()))?;
    texts(&body)
        .collect::<Result<_, _>>()
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The same of a stream: as in front of etcd, a request that cannot be read ends what is asked, and is an error of an unknown
/// kind only if it is the first.
fn parse_stream<Q: DeserializeOwned>(body: Received) -> Result<Vec<Q>, Status> {
    let body = body.map_err(|error| Status::invalid_argument(error.to_string()))?;
    let mut requests = Vec::new();
    for request in texts(&body) {
        match request {
            Ok(request) => requests.push(request),
            Err(error) if requests.is_empty() => return Err(Status::unknown(error.to_string())),
            Err(_) => break,
        }
    }
    Ok(requests)
}

/// A field that is null is a field that is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn line<A: Serialize>(answer: Result<A, Status>) -> String {
    let answer = answer.and_then(|answer| {
        let text = serde_json::to_string(&answer);
        text.map_err(|error| Status::internal(error.to_string()))
    });
    match answer {
        Ok(text) => format!("{{\"result\":{text}}}\n"),
        Err(status) => line_of_error(&status),
    }
}

fn line_of_error(status: &Status) -> String {
    let http = http_status(status.code());
    let error = serde_json::json!({"error": {
        "grpc_code": status.code() as i32,
        "http_code": http.as_u16(),
        "message": status.message(),
        "http_status": http.canonical_reason().unwrap_or_default(),
    }});
    format!("{error}\n")
}

fn refuse(status: &Status) -> Response<Body> {
    let body = serde_json::json!({
        "error": status.message(),
        "code": status.code() as i32,
        "message": status.message(),
    });
    json(http_status(status.code()), body.to_string())
}

/// As grpc-gateway maps gRPC's codes.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
