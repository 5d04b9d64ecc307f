//! Hands a request on to another HTTP server (a node's agent, a pod, a service) and its answer back, upgraded connections
//! byte for byte.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api_machinery::{Reason, Status};
use bytes::Bytes;
use futures::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::answer::{Answer, Context};
use crate::body::{AnswerBody, RequestBody};

/// How long connecting to another server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refusal's text that are passed on.
const REFUSAL_BYTES_LIMIT: usize = 2048;
/// What concerns only one connection, or is the client's secret.
const NOT_FORWARDED: [HeaderName; 5] = [
    HOST,
    AUTHORIZATION,
    CONNECTION,
    TRANSFER_ENCODING,
    CONTENT_LENGTH,
];

/// Where a request goes.
pub(crate) struct Target {
    pub host: IpAddr,
    pub port: u16,
    /// With TLS, verified against this; plain HTTP without it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Path and query.
    pub path: String,
}

fn unreachable(target: &Target, error: impl std::fmt::Display) -> Status {
    let scheme = if target.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let address = std::net::SocketAddr::new(target.host, target.port);
    Status::new(
        500,
        Reason::InternalError,
        format!("error dialing backend: {scheme}://{address}: {error}"),
    )
}

/// Sends the request of `cx` to `target`. With `as_status` a refusal becomes a `Status`.
///
/// # Errors
/// 500 where the other server cannot be reached, its own refusal with `as_status`.
pub(crate) async fn forward(
    cx: &Context,
    target: Target,
    body: RequestBody,
    as_status: bool,
) -> Result<Answer, Status> {
    let connect = async {
        let stream = TcpStream::connect((target.host, target.port)).await?;
        stream.set_nodelay(true)?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| unreachable(&target, "connection timed out"))?
        .map_err(|e| unreachable(&target, e))?;
    let Some(tls) = &target.tls else {
        return exchange(cx, &target, stream, body, as_status).await;
    };
    let name = ServerName::IpAddress(target.host.into());
    let handshake = TlsConnector::from(tls.clone()).connect(name, stream);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, handshake)
        .await
        .map_err(|_| unreachable(&target, "TLS handshake timeout"))?
        .map_err(|e| unreachable(&target, e))?;
    exchange(cx, &target, stream, body, as_status).await
}

async fn exchange<S>(
    cx: &Context,
    target: &Target,
    stream: S,
    body: RequestBody,
    as_status: bool,
) -> Result<Answer, Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(target, e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a forwarded connection ended");
        }
    });
    let upgrade = cx.upgrade.lock().take();
    let request = outgoing(cx, target, body, upgrade.is_some())?;
    let mut response = sender
        .send_request(request)
        .await
        .map_err(|e| unreachable(target, e))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = upgrade else {
            return Err(Status::internal_error("an upgrade that nobody asked for"));
        };
        let backend = hyper::upgrade::on(&mut response);
        tokio::spawn(tunnel(client, backend));
        let body = AnswerBody::Bytes(Bytes::new());
        return Ok(Answer {
            status: response.status(),
            headers: response.headers().clone(),
            body,
        });
    }
    let (parts, body) = response.into_parts();
    if as_status && !parts.status.is_success() {
        return Err(refusal(parts.status, body).await);
    }
    let mut headers = parts.headers;
    for name in [CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let pieces = BodyStream::new(body).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(error) => Some(Err(std::io::Error::other(error))),
        }
    });
    Ok(Answer {
        status: parts.status,
        headers,
        body: AnswerBody::Stream(Box::pin(pieces)),
    })
}

fn outgoing(
    cx: &Context,
    target: &Target,
    body: RequestBody,
    upgrades: bool,
) -> Result<Request<BoxBody<Bytes, hyper::Error>>, Status> {
    let body = match body {
        RequestBody::Incoming(body) if !upgrades => body.boxed(),
        RequestBody::Ready(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed(),
        RequestBody::Incoming(_) => Full::new(Bytes::new())
            .map_err(|never| match never {})
            .boxed(),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in &cx.headers {
        let hop = NOT_FORWARDED.contains(name) || name.as_str().starts_with("impersonate-");
        if !hop && (upgrades || name != UPGRADE) {
            headers.append(name.clone(), value.clone());
        }
    }
    if upgrades {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    let host = std::net::SocketAddr::new(target.host, target.port).to_string();
    headers.insert(
        HOST,
        HeaderValue::from_str(&host).map_err(Status::internal_error)?,
    );
    let mut request = Request::new(body);
    *request.method_mut() = cx.method.clone();
    *request.uri_mut() = target.path.parse().map_err(Status::internal_error)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// Copies both ways until both sides are done.
async fn tunnel(client: hyper::upgrade::OnUpgrade, backend: hyper::upgrade::OnUpgrade) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "an upgrade did not come about");
            return;
        }
    };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut backend).await {
        tracing::debug!(%error, "a tunnel ended");
    }
}

/// The other server's words as a `Status`.
async fn refusal(status: StatusCode, mut body: Incoming) -> Status {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() > REFUSAL_BYTES_LIMIT {
            text.truncate(REFUSAL_BYTES_LIMIT);
            break;
        }
    }
    if let Ok(status) = serde_json::from_slice::<Status>(&text)
        && !status.message.is_empty()
    {
        return status;
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let reason = match status.as_u16() {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        503 => Reason::ServiceUnavailable,
        _ => Reason::InternalError,
    };
    let message = if text.is_empty() {
        status.to_string()
    } else {
        text
    };
    Status::new(status.as_u16(), reason, message)
}
