//! Plain HTTP/1.1 as curl would speak it: one request per connection, the answer in parts as they come.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::session::{Session, comparable};

/// How long an answer may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Answer {
    pub status: String,
    content_type: String,
    length: Option<usize>,
    reader: BufReader<TcpStream>,
}

/// Sends a request and reads the head of its answer.
pub async fn send(port: u16, method: &str, path: &str, body: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).await?;
    let (mut content_type, mut length) = (String::new(), None);
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).await?;
        anyhow::ensure!(read > 0, "the connection ended in the head of the answer");
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-type" => content_type = value.to_owned(),
            "content-length" => length = Some(value.parse()?),
            _ => {}
        }
    }
    Ok(Answer {
        status: status.trim().to_owned(),
        content_type,
        length,
        reader,
    })
}

impl Answer {
    /// The whole body, put together from its chunks.
    pub async fn body(mut self) -> Result<String> {
        let mut body = Vec::new();
        if let Some(length) = self.length {
            body.resize(length, 0);
            self.reader.read_exact(&mut body).await?;
        } else {
            while let Some(chunk) = self.chunk().await? {
                body.extend(chunk.into_bytes());
            }
        }
        Ok(String::from_utf8(body)?)
    }

    /// The next chunk of a stream.
    pub async fn chunk(&mut self) -> Result<Option<String>> {
        let read = async {
            let mut size = String::new();
            self.reader.read_line(&mut size).await?;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).await?;
            chunk.truncate(size);
            anyhow::Ok((size > 0).then(|| String::from_utf8(chunk)).transpose()?)
        };
        tokio::time::timeout(LIMIT, read)
            .await
            .context("no chunk")?
    }
}

/// Sends a request and records status, type and JSON or text.
pub async fn exchange(
    session: &mut Session,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Value> {
    let answer = send(session.port, method, path, body).await?;
    let (status, content_type) = (answer.status.clone(), answer.content_type.clone());
    let text = answer.body().await?;
    let mut value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    let raw = value.clone();
    comparable(&mut value, session.base());
    session.note(format!(
        "{method} {path}: {status} {content_type:?} {value}"
    ));
    Ok(raw)
}
