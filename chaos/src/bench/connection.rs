//! HTTP/2 connections to an API server, a fixed number shared by many workers, as client-go does it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::kubeconfig::Kubeconfig;

/// One connection; clones share it.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: Arc<str>,
    token: Option<Arc<str>>,
}

/// Large windows, so that the client is not what is measured.
const WINDOW: u32 = 16 << 20;

impl Connection {
    pub async fn open(config: &Kubeconfig) -> Result<Self> {
        let stream = TcpStream::connect((config.host.as_str(), config.port)).await;
        let stream =
            stream.with_context(|| format!("cannot connect to {}:{}", config.host, config.port))?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(config.host.clone())?;
        let stream = TlsConnector::from(Arc::new(tls(config)?))
            .connect(name, stream)
            .await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(1 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        // Its end shows in the calls.
        tokio::spawn(async move { drop(connection.await) });
        let authority = format!("{}:{}", config.host, config.port).into();
        Ok(Self {
            sender,
            authority,
            token: config.token.as_deref().map(Into::into),
        })
    }

    /// Sends a request; the answer's body is still to be read.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.authority))
            .header("accept", "application/json");
        if !body.is_empty() {
            request = request.header("content-type", kind);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut sender = self.sender.clone();
        sender.ready().await?;
        Ok(sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends and reads all of it; anything but success is an error.
    pub async fn call(&self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Bytes> {
        let response = self.send(method.clone(), path, kind, body).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!(
                "{method} {path}: {status}: {}",
                String::from_utf8_lossy(&body[..body.len().min(300)])
            );
        }
        Ok(body)
    }

    pub async fn get(&self, path: &str) -> Result<Bytes> {
        self.call(Method::GET, path, "", Bytes::new()).await
    }

    pub async fn post(&self, path: &str, body: Bytes) -> Result<Bytes> {
        self.call(Method::POST, path, "application/json", body)
            .await
    }
}

fn tls(config: &Kubeconfig) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut config.ca_pem.as_slice()) {
        roots.add(certificate?)?;
    }
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut tls = match &config.client {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Vec<CertificateDer<'static>> =
                rustls_pemfile::certs(&mut chain.as_slice()).collect::<Result<_, _>>()?;
            let key: PrivateKeyDer<'static> = rustls_pemfile::private_key(&mut key.as_slice())?
                .context("the kubeconfig's key is no PEM key")?;
            builder.with_client_auth_cert(chain, key)?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(tls)
}
