//! Streams that are carried through unread: SPDY clients of exec and attach, and port-forward in both of its forms (SPDY, and SPDY inside
//! a WebSocket, as kubectl does it since 1.31).

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Context, refuse, streams};
use crate::pod::spec;

/// The WebSocket protocol that carries SPDY.
const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// What a port-forward connection speaks inside.
const PORT_FORWARD: &str = "portforward.k8s.io";
/// The header by which SPDY's users agree.
const PROTOCOL_HEADER: &str = "x-stream-protocol-version";
/// Bytes carried at a time.
const CHUNK: usize = 32 * 1024;

/// Whether the client wants to speak SPDY.
pub(super) fn is_spdy(request: &Request) -> bool {
    let upgrade = request
        .headers()
        .get(http::header::UPGRADE)
        .and_then(|v| v.to_str().ok());
    upgrade.is_some_and(|v| v.eq_ignore_ascii_case("SPDY/3.1"))
}

/// Connects the client to the runtime's streaming URL.
pub(super) async fn raw(url: &str, mut request: Request) -> Response {
    let offered = request.headers().get_all(PROTOCOL_HEADER).iter();
    let protocols: Vec<String> = offered
        .filter_map(|v| v.to_str().ok())
        .map(str::to_string)
        .collect();
    let upgraded = match streams::upgrade(url, &protocols).await {
        Ok(upgraded) => upgraded,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let client = hyper::upgrade::on(&mut request);
    let mut runtime = upgraded.stream;
    tokio::spawn(async move {
        let Ok(client) = client.await else { return };
        let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut runtime).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "a stream ended");
        }
    });
    let mut response = refuse(StatusCode::SWITCHING_PROTOCOLS, String::new());
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(
        http::header::CONNECTION,
        HeaderValue::from_static("Upgrade"),
    );
    headers.insert(http::header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
    if let Some(protocol) = upgraded
        .protocol
        .and_then(|p| HeaderValue::from_str(&p).ok())
    {
        headers.insert(PROTOCOL_HEADER, protocol);
    }
    response
}

/// Answers `/portForward/NAMESPACE/POD`.
pub(super) async fn port_forward(
    State(context): State<Context>,
    Path((namespace, pod)): Path<(String, String)>,
    request: Request,
) -> Response {
    let url = match port_forward_url(&context, &namespace, &pod).await {
        Ok(url) => url,
        Err(response) => return *response,
    };
    if is_spdy(&request) {
        return raw(&url, request).await;
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols([TUNNEL_PROTOCOL]),
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "Upgrade request required"),
    };
    if upgrade.selected_protocol().is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!("only {TUNNEL_PROTOCOL} is spoken over WebSocket"),
        );
    }
    let runtime = match streams::upgrade(&url, &[PORT_FORWARD.to_string()]).await {
        Ok(upgraded) => upgraded.stream,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    upgrade.on_upgrade(move |socket| async move {
        if let Err(error) = carry(socket, runtime).await {
            tracing::debug!(%error, "a port-forward ended");
        }
    })
}

async fn port_forward_url(
    context: &Context,
    namespace: &str,
    pod: &str,
) -> Result<String, Box<Response>> {
    let not_found = || Box::new(refuse(StatusCode::NOT_FOUND, "pod does not exist"));
    let failed = |status: tonic::Status| {
        Box::new(refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_string(),
        ))
    };
    let found = context.pods.find(namespace, pod).ok_or_else(not_found)?;
    let selector = [(crate::labels::POD_UID, spec::uid(&found))];
    let sandboxes = context
        .shared
        .cri
        .list_sandboxes(&selector)
        .await
        .map_err(failed)?;
    let ready = sandboxes
        .iter()
        .filter(|s| s.state() == cri::PodSandboxState::SandboxReady);
    let sandbox = ready.max_by_key(|s| s.created_at).ok_or_else(not_found)?;
    let request = cri::PortForwardRequest {
        pod_sandbox_id: sandbox.id.clone(),
        port: Vec::new(),
    };
    context
        .shared
        .cri
        .port_forward_url(request)
        .await
        .map_err(failed)
}

/// The bytes of SPDY inside WebSocket messages.
async fn carry(mut socket: WebSocket, mut runtime: TcpStream) -> Result<(), axum::Error> {
    let mut chunk = vec![0; CHUNK];
    let (mut reader, mut writer) = runtime.split();
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                Some(Ok(Message::Binary(data))) => writer.write_all(&data).await.map_err(axum::Error::new)?,
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
            },
            count = reader.read(&mut chunk) => match count.map_err(axum::Error::new)? {
                0 => return socket.send(normal_close()).await,
                count => socket.send(Message::Binary(bytes::Bytes::copy_from_slice(&chunk[..count]))).await?,
            },
        }
    }
}

fn normal_close() -> Message {
    Message::Close(Some(CloseFrame {
        code: close_code::NORMAL,
        reason: "".into(),
    }))
}
