//! A lean gRPC client over one HTTP/2 connection, for all that is not the load itself (see `wire.rs`). Only plain HTTP.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Uri, Version};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use xebec_proto::etcdserverpb as pb;

/// One connection; clones share it.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Bytes>,
    base: String,
    uris: Uris,
}

/// The methods that the load uses, parsed once.
#[derive(Clone)]
struct Uris {
    put: Uri,
    range: Uri,
    txn: Uri,
}

/// Large windows, so that the client is not what is measured.
const WINDOW: u32 = 16 << 20;

impl Client {
    /// # Errors
    /// Nobody listens at `url` (`http://HOST:PORT`), or not as HTTP/2.
    pub async fn connect(url: &str) -> Result<Self> {
        let address = url
            .strip_prefix("http://")
            .with_context(|| format!("{url}: only http:// can be measured"))?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(1 << 20)
            .handshake(stream)
            .await?;
        // Its end shows in the calls.
        tokio::spawn(async move { drop(connection.await) });
        let base = format!("http://{address}");
        let uri = |method: &str| format!("{base}/etcdserverpb.KV/{method}").parse::<Uri>();
        let uris = Uris {
            put: uri("Put")?,
            range: uri("Range")?,
            txn: uri("Txn")?,
        };
        Ok(Self { sender, base, uris })
    }

    /// Connects to a server that is still starting and waits until it answers a linearizable read.
    pub async fn wait_ready(url: &str, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let probe = pb::RangeRequest {
            key: Bytes::from_static(b"ready"),
            ..Default::default()
        };
        loop {
            let error = match Self::connect(url).await {
                Ok(client) => match client.range(&probe).await {
                    Ok(_) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if Instant::now() > deadline {
                return Err(error.context(format!("{url} does not answer")));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn put(&self, request: &pb::PutRequest) -> Result<pb::PutResponse> {
        self.call(&self.uris.put, request).await
    }

    pub async fn range(&self, request: &pb::RangeRequest) -> Result<pb::RangeResponse> {
        self.call(&self.uris.range, request).await
    }

    pub async fn txn(&self, request: &pb::TxnRequest) -> Result<pb::TxnResponse> {
        self.call(&self.uris.txn, request).await
    }

    /// What the member says of itself.
    pub async fn status(&self) -> Result<pb::StatusResponse> {
        let request = pb::StatusRequest::default();
        self.unary("Maintenance/Status", &request).await
    }

    /// Any unary method, e.g. `KV/Compact`.
    pub async fn unary<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<A> {
        let uri = format!("{}/etcdserverpb.{method}", self.base).parse()?;
        self.call(&uri, request).await
    }

    async fn call<A: Message + Default>(&self, uri: &Uri, request: &impl Message) -> Result<A> {
        let mut stream = self.open(uri, request, true).await?;
        let answer: A = stream
            .next()
            .await?
            .context("an answer without a message")?;
        stream.finish().await?;
        Ok(answer)
    }

    /// Opens a stream and sends its first message; it goes on until it is dropped.
    pub async fn stream(&self, method: &str, first: &impl Message) -> Result<Stream> {
        let uri = format!("{}/etcdserverpb.{method}", self.base).parse()?;
        self.open(&uri, first, false).await
    }

    async fn open(&self, uri: &Uri, first: &impl Message, last: bool) -> Result<Stream> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.insert(
            "content-type",
            http::HeaderValue::from_static("application/grpc"),
        );
        headers.insert("te", http::HeaderValue::from_static("trailers"));
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut requests) = sender.send_request(request, false)?;
        requests.send_data(frame(first), last)?;
        let response = response.await?;
        if let Some(error) = failure(response.headers()) {
            return Err(error);
        }
        Ok(Stream {
            body: response.into_body(),
            buffer: Bytes::new(),
            _requests: requests,
        })
    }
}

/// Whether the member says of itself that it leads.
pub fn says_it_leads(status: &pb::StatusResponse) -> bool {
    let own = status.header.as_ref().map_or(0, |header| header.member_id);
    status.leader == own && own != 0
}

/// A call's answers.
pub struct Stream {
    body: RecvStream,
    /// What has arrived and is not taken.
    buffer: Bytes,
    /// Ends the call when dropped.
    _requests: SendStream<Bytes>,
}

impl Stream {
    /// The next message, none at the end.
    pub async fn next<A: Message + Default>(&mut self) -> Result<Option<A>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(data) = self.body.data().await else {
                return self.finish().await.map(|()| None);
            };
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
            // Mostly one frame brings one message.
            self.buffer = match std::mem::take(&mut self.buffer) {
                empty if empty.is_empty() => data,
                begun => {
                    let mut begun = begun.try_into_mut().unwrap_or_else(|b| b[..].into());
                    begun.extend_from_slice(&data);
                    begun.freeze()
                }
            };
        }
    }

    fn take<A: Message + Default>(&mut self) -> Result<Option<A>> {
        let Some((head, rest)) = self.buffer.split_at_checked(5) else {
            return Ok(None);
        };
        if head[0] != 0 {
            bail!("a compressed message that nobody asked for");
        }
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if rest.len() < len {
            return Ok(None);
        }
        let mut message = self.buffer.split_to(5 + len);
        message.advance(5);
        Ok(Some(A::decode(message)?))
    }

    /// Reads to the end; an error if the server says so there.
    async fn finish(&mut self) -> Result<()> {
        while let Some(data) = self.body.data().await {
            let data = data?;
            self.body.flow_control().release_capacity(data.len())?;
        }
        match self.body.trailers().await? {
            Some(trailers) => failure(&trailers).map_or(Ok(()), Err),
            None => Ok(()),
        }
    }
}

fn frame(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut out = BytesMut::with_capacity(5 + len);
    out.put_u8(0);
    out.put_u32(u32::try_from(len).expect("messages are small"));
    message.encode(&mut out).expect("there is room");
    out.freeze()
}

/// What the server says went wrong.
fn failure(headers: &HeaderMap) -> Option<anyhow::Error> {
    let status = headers.get("grpc-status")?;
    if status == "0" {
        return None;
    }
    let message = headers.get("grpc-message");
    Some(anyhow!(
        "gRPC status {}: {}",
        status.to_str().unwrap_or("?"),
        message.and_then(|m| m.to_str().ok()).unwrap_or("")
    ))
}
