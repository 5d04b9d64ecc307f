//! A connection to the runtime's streaming server: upgraded to SPDY, either raw or as the streams of a command.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::spdy;

/// The most bytes of an answer's head.
const MAX_HEAD: usize = 16 * 1024;

/// An upgraded connection and the protocol that was agreed.
pub(super) struct Upgraded {
    pub(super) stream: TcpStream,
    pub(super) protocol: Option<String>,
}

/// Opens a streaming URL of the runtime and upgrades it to SPDY/3.1, offering `protocols`.
pub(super) async fn upgrade(url: &str, protocols: &[String]) -> io::Result<Upgraded> {
    let uri: http::Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri
        .authority()
        .ok_or_else(|| io::Error::other(format!("no address in {url}")))?;
    let mut stream =
        TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    );
    for protocol in protocols {
        request += &format!("X-Stream-Protocol-Version: {protocol}\r\n");
    }
    request += "Content-Length: 0\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let head = read_head(&mut stream).await?;
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(io::Error::other(format!(
            "the container runtime refused to stream: {status}"
        )));
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-stream-protocol-version")
            .then(|| value.trim().to_string())
    };
    let protocol = lines.find_map(header);
    Ok(Upgraded { stream, protocol })
}

/// Byte by byte, so that nothing behind the head is taken.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the answer's head is too long",
            ));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Reads one frame.
pub(super) async fn read_frame(
    stream: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<spdy::Frame> {
    let mut head = [0; spdy::HEAD];
    stream.read_exact(&mut head).await?;
    let mut body = vec![0; spdy::body_length(&head)];
    stream.read_exact(&mut body).await?;
    spdy::decode(&head, body)
}
