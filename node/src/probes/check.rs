//! One check of a container: a command in it, an HTTP GET, a TCP connection or a gRPC health call.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::net::TcpStream;

use crate::cri::Cri;
use crate::http_get::{self, Target};

/// How probes name themselves to the container.
const USER_AGENT: &str = "kube-probe/1.36";
/// The longest output that an event shows, in bytes.
const OUTPUT_LIMIT: usize = 10 * 1024;

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure(String),
    /// The check itself could not be made.
    Unknown(String),
}

/// Makes the check that the probe asks for.
pub(super) async fn check(
    cri: &Cri,
    probe: &Probe,
    container: &Container,
    id: &str,
    pod_ip: &str,
    limit: Duration,
) -> Outcome {
    if let Some(action) = &probe.exec {
        return exec(cri, id, action.command.clone().unwrap_or_default(), limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match Target::new(container, action, pod_ip) {
            Some(target) => http(&target, limit).await,
            None => Outcome::Unknown("invalid port".into()),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let Some(port) = http_get::port(container, &action.port) else {
            return Outcome::Unknown("invalid port".into());
        };
        let host = action
            .host
            .as_deref()
            .filter(|h| !h.is_empty())
            .unwrap_or(pod_ip);
        return tcp(host, port, limit).await;
    }
    if let Some(action) = &probe.grpc {
        let Ok(port) = u16::try_from(action.port) else {
            return Outcome::Unknown("invalid port".into());
        };
        return grpc(
            pod_ip,
            port,
            action.service.clone().unwrap_or_default(),
            limit,
        )
        .await;
    }
    Outcome::Unknown(format!(
        "missing probe handler for container {}",
        container.name
    ))
}

async fn exec(cri: &Cri, id: &str, command: Vec<String>, limit: Duration) -> Outcome {
    match cri.exec_sync(id, command, limit).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = String::from_utf8_lossy(&answer.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&answer.stderr));
            let end = (0..=OUTPUT_LIMIT.min(output.len()))
                .rev()
                .find(|i| output.is_char_boundary(*i));
            output.truncate(end.unwrap_or(0));
            Outcome::Failure(output)
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            Outcome::Failure(format!("command timed out after {limit:?}"))
        }
        Err(status) => Outcome::Unknown(crate::pull::describe(&status)),
    }
}

async fn http(target: &Target, limit: Duration) -> Outcome {
    match target.get(USER_AGENT, limit).await {
        Ok((status, _)) if (200..400).contains(&status) => Outcome::Success,
        Ok((status, _)) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        Err(why) => Outcome::Failure(why),
    }
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(http_get::dial_error(&format!("{host}:{port}"), &error)),
        Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

async fn grpc(host: &str, port: u16, service: String, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, crate::grpc_health::check(host, port, service)).await {
        Ok(Ok(true)) => Outcome::Success,
        Ok(Ok(false)) => {
            Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into())
        }
        Ok(Err(why)) => Outcome::Failure(why),
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {limit:?}"
        )),
    }
}
