//! The agent's API: what the API server asks of a node for logs, exec, port-forward and statistics. TLS; every request is
//! authenticated and authorized by the cluster.

mod auth;
mod exec;
mod log_reader;
mod logs;
mod metrics;
mod run;
mod spdy;
mod stats;
mod streams;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use k8s_openapi::api::core::v1::Pod;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::AgentConfig;
use crate::dispatch::Pods;
use crate::error::AgentError;
use crate::pod::spec;
use crate::shared::Shared;
use crate::tls;

/// The most connections at a time; further ones wait in the kernel.
const MAX_CONNECTIONS: usize = 512;
/// How long a peer may take for the TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may take to send a request's headers.
const HEADER_LIMIT: Duration = Duration::from_secs(30);

/// What handlers use.
#[derive(Clone)]
struct Context {
    shared: Arc<Shared>,
    pods: Arc<Pods>,
    access: Arc<auth::Access>,
}

/// The certificates that the peer showed.
#[derive(Clone, Default)]
struct PeerCertificates(Vec<CertificateDer<'static>>);

/// The listening socket; its certificates are checked before anything starts.
pub(crate) async fn bind(config: &AgentConfig) -> Result<TcpListener, AgentError> {
    tls::server_config(&config.serving_identity, &config.client_ca)?;
    let unspecified: std::net::IpAddr = if config.node_ip.is_ipv6() {
        [0u16; 8].into()
    } else {
        [0u8; 4].into()
    };
    let address = SocketAddr::from((unspecified, config.kubelet_port));
    TcpListener::bind(address)
        .await
        .map_err(|source| AgentError::Listen { address, source })
}

/// Answers until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    pods: Arc<Pods>,
    stop: CancellationToken,
) {
    let access = Arc::new(auth::Access::new(
        shared.client.clone(),
        &shared.config.node_name,
    ));
    let router = router(Context {
        shared: shared.clone(),
        pods,
        access,
    });
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: what is open must end first.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (router, shared, stop) = (router.clone(), shared.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = connection(stream, router, &shared.config) => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, router: Router, config: &AgentConfig) {
    // Read for each connection, so that a renewed certificate is shown at once.
    let tls = match tls::server_config(&config.serving_identity, &config.client_ca) {
        Ok(tls) => TlsAcceptor::from(Arc::new(tls)),
        Err(error) => return tracing::error!(%error, "no serving certificate"),
    };
    let stream = match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = PeerCertificates(
        certificates
            .iter()
            .map(|c| c.clone().into_owned())
            .collect(),
    );
    let service = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(axum::body::Body::new)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", get(list_pods))
        .route("/runningpods/", get(list_pods))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(logs::handle),
        )
        .route("/exec/{namespace}/{pod}/{container}", any(exec::exec))
        .route(
            "/exec/{namespace}/{pod}/{uid}/{container}",
            any(exec::exec_with_uid),
        )
        .route("/attach/{namespace}/{pod}/{container}", any(exec::attach))
        .route("/portForward/{namespace}/{pod}", any(tunnel::port_forward))
        .route("/run/{namespace}/{pod}/{container}", post(run::handle))
        .route("/stats/summary", get(stats::summary))
        .route("/metrics", get(metrics::metrics))
        .route("/metrics/resource", get(metrics::resource))
        .layer(from_fn_with_state(context.clone(), auth::require))
        .with_state(context)
}

async fn list_pods(State(context): State<Context>) -> Response {
    let items: Vec<Pod> = context
        .pods
        .list()
        .iter()
        .map(|p| p.as_ref().clone())
        .collect();
    let list =
        serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    axum::Json(list).into_response()
}

/// A plain-text error, as the kubelet answers it.
fn refuse(code: StatusCode, message: impl Into<String>) -> Response {
    (code, message.into()).into_response()
}

impl Context {
    /// The running container of that name, newest first, or the kubelet's words for its absence.
    async fn running_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<String, Box<Response>> {
        let not_found = |message: String| Box::new(refuse(StatusCode::NOT_FOUND, message));
        let found = self
            .pods
            .find(namespace, pod)
            .ok_or_else(|| not_found("pod does not exist".into()))?;
        let selector = [
            (crate::labels::POD_UID, spec::uid(&found)),
            (crate::labels::CONTAINER_NAME, container),
        ];
        let listed = self
            .shared
            .cri
            .list_containers(&selector)
            .await
            .map_err(|status| {
                Box::new(refuse(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    status.message().to_string(),
                ))
            })?;
        let running = listed
            .iter()
            .filter(|c| c.state() == k8s_cri::v1::ContainerState::ContainerRunning);
        let newest = running.max_by_key(|c| c.created_at);
        newest
            .map(|c| c.id.clone())
            .ok_or_else(|| not_found(format!("container not found (\"{container}\")")))
    }
}
