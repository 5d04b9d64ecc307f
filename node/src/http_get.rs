//! One HTTP GET to a container: what httpGet probes and hooks do. Certificates are not checked, as Kubernetes defines.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The most of an answer that is read, in bytes, as the kubelet's.
const BODY_LIMIT: usize = 10 * 1024;

/// Where a GET goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    https: bool,
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
}

/// A port by number, or by the name that the container gives it.
pub(crate) fn port(container: &Container, port: &IntOrString) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .and_then(|p| u16::try_from(p.container_port).ok())
            .or_else(|| name.parse().ok()),
    }
}

impl Target {
    /// The target of an action on a container of the pod at `pod_ip`.
    pub(crate) fn new(
        container: &Container,
        action: &HTTPGetAction,
        pod_ip: &str,
    ) -> Option<Target> {
        let headers = action
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect();
        let path = action.path.clone().unwrap_or_default();
        Some(Target {
            https: action
                .scheme
                .as_deref()
                .is_some_and(|s| s.eq_ignore_ascii_case("https")),
            host: action
                .host
                .clone()
                .filter(|h| !h.is_empty())
                .unwrap_or_else(|| pod_ip.to_string()),
            port: port(container, &action.port)?,
            path: if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            },
            headers,
        })
    }

    /// The address as messages show it.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.path)
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The answer's status and the beginning of its body, or what went wrong in Go's words.
    pub(crate) async fn get(
        &self,
        user_agent: &str,
        limit: Duration,
    ) -> Result<(u16, String), String> {
        let failed = |e: &dyn std::fmt::Display| format!("Get \"{}\": {e}", self.url());
        match tokio::time::timeout(limit, self.exchange(user_agent)).await {
            Ok(answer) => answer.map_err(|e| failed(&e)),
            Err(_) => Err(failed(
                &"context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            )),
        }
    }

    async fn exchange(&self, user_agent: &str) -> Result<(u16, String), String> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|e| dial_error(&self.authority(), &e))?;
        if !self.https {
            return self.request(tcp, user_agent).await;
        }
        let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
        let tls =
            tokio_rustls::TlsConnector::from(Arc::new(crate::tls::unverified_client_config()));
        self.request(
            tls.connect(name, tcp).await.map_err(|e| e.to_string())?,
            user_agent,
        )
        .await
    }

    async fn request<S>(&self, stream: S, user_agent: &str) -> Result<(u16, String), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let text = |e: hyper::Error| e.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(text)?;
        let driver = tokio::spawn(connection);
        let own = |name: &str| {
            self.headers
                .iter()
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.clone())
        };
        let mut request = http::Request::get(&self.path)
            .header("Host", own("Host").unwrap_or_else(|| self.authority()))
            .header(
                "User-Agent",
                own("User-Agent").unwrap_or_else(|| user_agent.to_string()),
            )
            .header("Accept", own("Accept").unwrap_or_else(|| "*/*".into()))
            .header("Connection", "close");
        let set = ["host", "user-agent", "accept"];
        for (name, value) in self
            .headers
            .iter()
            .filter(|(n, _)| !set.contains(&n.to_lowercase().as_str()))
        {
            request = request.header(name, value);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status().as_u16();
        // A body that is longer than what is read, or never ends, is no failure.
        let body = Limited::new(answer.into_body(), BODY_LIMIT).collect().await;
        driver.abort();
        let bytes = body.map(|b| b.to_bytes()).unwrap_or_default();
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A failed connection in Go's words, which users search for.
pub(crate) fn dial_error(authority: &str, error: &std::io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => "connect: connection refused".to_string(),
        Some(libc::EHOSTUNREACH) => "connect: no route to host".to_string(),
        Some(libc::ETIMEDOUT) => "i/o timeout".to_string(),
        _ => error.to_string(),
    };
    format!("dial tcp {authority}: {why}")
}
