//! One master's Kubernetes API: calls with a limit, over a connection that is made again after a failure.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::timeout;

use crate::bench::{Connection, Kubeconfig};

pub struct Api {
    config: Kubeconfig,
    connection: Option<Connection>,
}

/// Items of a watch are lines.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Api {
    pub fn new(config: Kubeconfig) -> Self {
        Self {
            config,
            connection: None,
        }
    }

    async fn connection(&mut self) -> Result<Connection> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(&self.config).await?);
        }
        self.connection.clone().context("made above")
    }

    /// Status and body. An error: nothing is known of what became of it.
    pub async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<(u16, Bytes)> {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let answer = async {
            let connection = self.connection().await?;
            let body = Bytes::copy_from_slice(body.as_bytes());
            let response = connection.send(method, path, kind, body).await?;
            let status = response.status().as_u16();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let answer = timeout(limit, answer)
            .await
            .unwrap_or_else(|_| bail!("no answer in time"));
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    /// The body, if the answer says that all is well.
    pub async fn ok(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
        limit: Duration,
    ) -> Result<Bytes> {
        let (status, body) = self.call(method, path, body, limit).await?;
        if !(200..300).contains(&status) {
            let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            bail!("{path}: {status}: {said}");
        }
        Ok(body)
    }

    pub async fn get(&mut self, path: &str, limit: Duration) -> Result<Bytes> {
        self.ok(Method::GET, path, "", limit).await
    }

    pub async fn watch(&mut self, path: &str, limit: Duration) -> Result<Lines> {
        let opened = async {
            let connection = self.connection().await?;
            let response = connection.send(Method::GET, path, "", Bytes::new()).await?;
            let status = response.status();
            anyhow::ensure!(status.is_success(), "{path}: {status}");
            Ok(Lines {
                body: response.into_body(),
                buffer: Vec::new(),
            })
        };
        let opened = timeout(limit, opened)
            .await
            .unwrap_or_else(|_| bail!("no answer in time"));
        if opened.is_err() {
            self.connection = None;
        }
        opened
    }
}

impl Lines {
    /// The next event; none at the end.
    pub async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
