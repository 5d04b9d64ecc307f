//! The loopback health endpoint: plain HTTP, for the node's own supervisor.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::error::AgentError;

/// Binds the port on loopback; None for port 0.
pub(crate) async fn bind(port: u16) -> Result<Option<TcpListener>, AgentError> {
    if port == 0 {
        return Ok(None);
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| AgentError::Listen { address, source })?;
    Ok(Some(listener))
}

/// Answers until `stop`.
pub(crate) async fn serve(listener: Option<TcpListener>, stop: CancellationToken) {
    let Some(listener) = listener else { return };
    let router = Router::new().route("/healthz", get(|| async { "ok" }));
    if let Err(error) = axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
    {
        tracing::warn!(%error, "the health endpoint ended");
    }
}
