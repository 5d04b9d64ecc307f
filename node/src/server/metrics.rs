//! `/metrics` and `/metrics/resource` in Prometheus' text form, with the kubelet's own names.

use std::fmt::Write;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::stats::{Usage, node_usage, usages};
use super::{Context, refuse};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}");
}

/// Answers `GET /metrics/resource`, what metrics-server reads.
pub(super) async fn resource(State(context): State<Context>) -> Response {
    match usages(&context).await {
        Ok(usages) => (
            [(header::CONTENT_TYPE, CONTENT_TYPE)],
            resource_text(&usages),
        )
            .into_response(),
        Err(status) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_string(),
        ),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus counts in floating point"
)]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn resource_text(usages: &[Usage]) -> String {
    let mut out = String::new();
    let node = node_usage();
    head(
        &mut out,
        "node_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the node in core-seconds",
    );
    let _ = writeln!(
        out,
        "node_cpu_usage_seconds_total {}",
        seconds(node.cpu_nanoseconds)
    );
    head(
        &mut out,
        "node_memory_working_set_bytes",
        "gauge",
        "Current working set of the node in bytes",
    );
    let _ = writeln!(out, "node_memory_working_set_bytes {}", node.memory_bytes);
    let labels = |u: &Usage| {
        format!(
            "container=\"{}\",namespace=\"{}\",pod=\"{}\"",
            u.container, u.namespace, u.pod
        )
    };
    let name = "container_cpu_usage_seconds_total";
    head(
        &mut out,
        name,
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    for usage in usages {
        let _ = writeln!(
            out,
            "{name}{{{}}} {}",
            labels(usage),
            seconds(usage.cpu_nanoseconds)
        );
    }
    let name = "container_memory_working_set_bytes";
    head(
        &mut out,
        name,
        "gauge",
        "Current working set of the container in bytes",
    );
    for usage in usages {
        let _ = writeln!(out, "{name}{{{}}} {}", labels(usage), usage.memory_bytes);
    }
    out
}

/// Answers `GET /metrics`.
pub(super) async fn metrics(State(context): State<Context>) -> Response {
    let pods = context.pods.list();
    let running = match context.shared.cri.list_containers(&[]).await {
        Ok(containers) => containers,
        Err(status) => {
            return refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                status.message().to_string(),
            );
        }
    };
    let mut out = String::new();
    let name = "kubelet_desired_pods";
    let _ = writeln!(
        out,
        "# HELP {name} The number of pods the kubelet is being instructed to run.\n# TYPE {name} gauge"
    );
    let _ = writeln!(out, "{name} {}", pods.len());
    let name = "kubelet_running_containers";
    let _ = writeln!(
        out,
        "# HELP {name} Number of containers currently running\n# TYPE {name} gauge"
    );
    let states = [
        (0, "created"),
        (1, "running"),
        (2, "exited"),
        (3, "unknown"),
    ];
    for (state, text) in states {
        let count = running.iter().filter(|c| c.state == state).count();
        let _ = writeln!(out, "{name}{{container_state=\"{text}\"}} {count}");
    }
    let name = "kubelet_node_name";
    let _ = writeln!(
        out,
        "# HELP {name} The node's name. The count is always 1.\n# TYPE {name} gauge"
    );
    let _ = writeln!(
        out,
        "{name}{{node=\"{}\"}} 1",
        context.shared.config.node_name
    );
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], out).into_response()
}
