//! `/exec` and `/attach`: a command's streams between a client's WebSocket (`v5.channel.k8s.io`, `v4.channel.k8s.io`) and the runtime.
//! A client that still speaks SPDY is connected through byte by byte.

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use k8s_cri::v1 as cri;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::spdy::{self, Encoder, Frame, StreamId};
use super::streams::{self, read_frame};
use super::{Context, refuse, tunnel};

/// WebSocket protocols, the preferred first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// What the runtime is spoken to in.
const RUNTIME_PROTOCOL: &str = "v4.channel.k8s.io";

/// Channels of the WebSocket protocol.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the channel in the next byte has ended.
const CLOSE: u8 = 255;

/// Which streams a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    command: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

impl Wanted {
    /// Reads `command=a&command=b&input=1&output=1&error=1&tty=1`, in the kubelet's names or the API's.
    fn parse(query: &str) -> Wanted {
        let mut wanted = Wanted::default();
        for (name, value) in form(query) {
            let on = matches!(value.as_str(), "1" | "true");
            match name.as_str() {
                "command" => wanted.command.push(value),
                "input" | "stdin" => wanted.stdin |= on,
                "output" | "stdout" => wanted.stdout |= on,
                "error" | "stderr" => wanted.stderr |= on,
                "tty" => wanted.tty |= on,
                _ => {}
            }
        }
        // A terminal has one output.
        wanted.stderr &= !wanted.tty;
        wanted
    }

    fn any(&self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// The pairs of a query, decoded.
pub(super) fn form(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let mut out = Vec::with_capacity(bytes.len());
        let mut index = 0;
        while index < bytes.len() {
            let hex = bytes
                .get(index + 1..index + 3)
                .and_then(|h| std::str::from_utf8(h).ok());
            match (
                bytes[index],
                hex.and_then(|h| u8::from_str_radix(h, 16).ok()),
            ) {
                (b'%', Some(byte)) => {
                    out.push(byte);
                    index += 2;
                }
                (b'+', _) => out.push(b' '),
                (byte, _) => out.push(byte),
            }
            index += 1;
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    };
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(pair)
        .collect()
}

/// Answers `/exec/NAMESPACE/POD/CONTAINER`.
pub(super) async fn exec(
    State(context): State<Context>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let wanted = Wanted::parse(request.uri().query().unwrap_or_default());
    if !wanted.any() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        );
    }
    let id = match context
        .running_container(&namespace, &pod, &container)
        .await
    {
        Ok(id) => id,
        Err(response) => return *response,
    };
    let exec = cri::ExecRequest {
        container_id: id,
        cmd: wanted.command.clone(),
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let url = context.shared.cri.exec_url(exec).await;
    stream(url, wanted, request).await
}

/// Answers `/exec/NAMESPACE/POD/UID/CONTAINER`.
pub(super) async fn exec_with_uid(
    state: State<Context>,
    Path((namespace, pod, _, container)): Path<(String, String, String, String)>,
    request: Request,
) -> Response {
    exec(state, Path((namespace, pod, container)), request).await
}

/// Answers `/attach/NAMESPACE/POD/CONTAINER`.
pub(super) async fn attach(
    State(context): State<Context>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let wanted = Wanted::parse(request.uri().query().unwrap_or_default());
    if !wanted.any() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "you must specify at least 1 of stdin, stdout, stderr",
        );
    }
    let id = match context
        .running_container(&namespace, &pod, &container)
        .await
    {
        Ok(id) => id,
        Err(response) => return *response,
    };
    let attach = cri::AttachRequest {
        container_id: id,
        tty: wanted.tty,
        stdin: wanted.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr,
    };
    let url = context.shared.cri.attach_url(attach).await;
    stream(url, wanted, request).await
}

async fn stream(url: Result<String, tonic::Status>, wanted: Wanted, request: Request) -> Response {
    let url = match url {
        Ok(url) => url,
        Err(status) => {
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                status.message().to_string(),
            );
        }
    };
    if tunnel::is_spdy(&request) {
        return tunnel::raw(&url, request).await;
    }
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols(PROTOCOLS),
        Err(_) => return refuse(StatusCode::BAD_REQUEST, "Upgrade request required"),
    };
    let Some(protocol) = upgrade
        .selected_protocol()
        .and_then(|p| p.to_str().ok())
        .map(str::to_string)
    else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "Upgrade request required: v5.channel.k8s.io or v4.channel.k8s.io",
        );
    };
    let session = match Session::open(&url, &wanted).await {
        Ok(session) => session,
        Err(error) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    let closes = protocol == PROTOCOLS[0];
    upgrade.on_upgrade(move |socket| async move {
        if let Err(error) = session.run(socket, closes).await {
            tracing::debug!(%error, "a command's streams ended");
        }
    })
}

/// Streams of a command in the runtime.
struct Session {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// Stream and the client's channel for it.
    streams: Vec<(StreamId, u8)>,
}

impl Session {
    async fn open(url: &str, wanted: &Wanted) -> std::io::Result<Session> {
        let upgraded = streams::upgrade(url, &[RUNTIME_PROTOCOL.to_string()]).await?;
        let (reader, mut writer) = upgraded.stream.into_split();
        let all = [
            ("error", ERROR, true),
            ("stdin", STDIN, wanted.stdin),
            ("stdout", STDOUT, wanted.stdout),
            ("stderr", STDERR, wanted.stderr),
            ("resize", RESIZE, wanted.tty),
        ];
        let mut encoder = Encoder::default();
        let mut streams = Vec::new();
        for (name, channel, _) in all.into_iter().filter(|(_, _, on)| *on) {
            let stream = streams.len() as StreamId * 2 + 1;
            writer
                .write_all(&encoder.open(stream, &[("streamType", name)]))
                .await?;
            streams.push((stream, channel));
        }
        Ok(Session {
            reader,
            writer,
            streams,
        })
    }

    async fn run(self, mut socket: WebSocket, closes: bool) -> std::io::Result<()> {
        let Session {
            mut reader,
            mut writer,
            streams,
        } = self;
        let (frames, mut incoming) = tokio::sync::mpsc::channel(16);
        let pump = tokio::spawn(async move {
            while let Ok(frame) = read_frame(&mut reader).await {
                if frames.send(frame).await.is_err() {
                    break;
                }
            }
        });
        let mut relay = Relay {
            streams,
            status: Vec::new(),
            closes,
        };
        let result = relay.run(&mut socket, &mut incoming, &mut writer).await;
        pump.abort();
        // Clients take any other code, even none, for a failure.
        let normal = CloseFrame {
            code: close_code::NORMAL,
            reason: "".into(),
        };
        let _ = socket.send(Message::Close(Some(normal))).await;
        result
    }
}

/// Carries messages both ways.
struct Relay {
    streams: Vec<(StreamId, u8)>,
    /// The command's end, as a Status, gathered until it is whole.
    status: Vec<u8>,
    closes: bool,
}

impl Relay {
    async fn run(
        &mut self,
        socket: &mut WebSocket,
        incoming: &mut tokio::sync::mpsc::Receiver<Frame>,
        writer: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        loop {
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(Message::Binary(data))) => self.send_to_runtime(&data, writer).await?,
                    Some(Ok(Message::Text(text))) => self.send_to_runtime(text.as_bytes(), writer).await?,
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                },
                frame = incoming.recv() => match frame {
                    Some(Frame::Ping { payload }) => writer.write_all(&spdy::pong(&payload)).await?,
                    Some(Frame::Data { stream, fin, payload }) => {
                        self.send_to_client(stream, fin, payload, socket).await.map_err(std::io::Error::other)?;
                    }
                    Some(Frame::Reset { .. } | Frame::Other) => {}
                    Some(Frame::GoAway) | None => {
                        return self.send_status(socket).await.map_err(std::io::Error::other);
                    }
                },
            }
        }
    }

    fn stream(&self, channel: u8) -> Option<StreamId> {
        self.streams
            .iter()
            .find(|(_, c)| *c == channel)
            .map(|(stream, _)| *stream)
    }

    async fn send_to_runtime(
        &mut self,
        data: &[u8],
        writer: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let Some((channel, payload)) = data.split_first() else {
            return Ok(());
        };
        if *channel == CLOSE && self.closes {
            let ended = payload
                .first()
                .copied()
                .filter(|c| *c == STDIN)
                .and_then(|c| self.stream(c));
            return match ended {
                Some(stream) => writer.write_all(&spdy::data(stream, &[], true)).await,
                None => Ok(()),
            };
        }
        let Some(stream) = self
            .stream(*channel)
            .filter(|_| matches!(*channel, STDIN | RESIZE))
        else {
            return Ok(());
        };
        for chunk in payload.chunks(spdy::MAX_DATA) {
            writer.write_all(&spdy::data(stream, chunk, false)).await?;
        }
        Ok(())
    }

    async fn send_to_client(
        &mut self,
        stream: StreamId,
        fin: bool,
        payload: Vec<u8>,
        socket: &mut WebSocket,
    ) -> Result<(), axum::Error> {
        let Some(channel) = self
            .streams
            .iter()
            .find(|(s, _)| *s == stream)
            .map(|(_, c)| *c)
        else {
            return Ok(());
        };
        if channel == ERROR {
            self.status.extend(payload);
            return if fin {
                self.send_status(socket).await
            } else {
                Ok(())
            };
        }
        if payload.is_empty() {
            return Ok(());
        }
        let mut message = Vec::with_capacity(payload.len() + 1);
        message.push(channel);
        message.extend(payload);
        socket.send(Message::Binary(Bytes::from(message))).await
    }

    /// The Status goes out once, whole.
    async fn send_status(&mut self, socket: &mut WebSocket) -> Result<(), axum::Error> {
        if self.status.is_empty() {
            return Ok(());
        }
        let mut message = vec![ERROR];
        message.append(&mut self.status);
        socket.send(Message::Binary(Bytes::from(message))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let wanted = Wanted::parse(
            "command=sh&command=-c&command=echo+%22a%20b%22&input=1&output=1&error=1&tty=1",
        );
        assert_eq!(wanted.command, ["sh", "-c", "echo \"a b\""]);
        assert!(wanted.stdin && wanted.stdout && wanted.tty && !wanted.stderr);
        assert!(!Wanted::parse("command=a").any());
    }
}
