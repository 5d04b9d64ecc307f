//! `/stats/summary`: what node, pods and containers use, out of the runtime's and the kernel's own counters.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use k8s_cri::v1::ContainerStats;
use k8s_openapi::jiff;
use serde_json::{Value, json};

use super::{Context, refuse};
use crate::labels;

/// One container's use, as the runtime counts it.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) container: String,
    pub(super) cpu_nanoseconds: u64,
    pub(super) cpu_nanocores: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_usage_bytes: u64,
    pub(super) memory_rss_bytes: u64,
    pub(super) writable_bytes: u64,
}

impl Usage {
    fn from_cri(stats: &ContainerStats) -> Option<Usage> {
        let labels = &stats.attributes.as_ref()?.labels;
        let label = |key: &str| labels.get(key).cloned();
        let cpu = stats.cpu.unwrap_or_default();
        let memory = stats.memory.unwrap_or_default();
        let disk = stats.writable_layer.clone().unwrap_or_default();
        let number = |value: Option<k8s_cri::v1::UInt64Value>| value.map_or(0, |v| v.value);
        Some(Usage {
            namespace: label(labels::POD_NAMESPACE)?,
            pod: label(labels::POD_NAME)?,
            uid: label(labels::POD_UID)?,
            container: label(labels::CONTAINER_NAME)?,
            cpu_nanoseconds: number(cpu.usage_core_nano_seconds),
            cpu_nanocores: number(cpu.usage_nano_cores),
            memory_bytes: number(memory.working_set_bytes),
            memory_usage_bytes: number(memory.usage_bytes),
            memory_rss_bytes: number(memory.rss_bytes),
            writable_bytes: number(disk.used_bytes),
        })
    }
}

/// What the node as a whole uses.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NodeUsage {
    pub(super) cpu_nanoseconds: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_available_bytes: u64,
}

/// Reads the node's counters.
pub(super) fn node_usage() -> NodeUsage {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    // Everything but idle and waiting for I/O, in hundredths of a second.
    let busy: u64 = fields
        .iter()
        .enumerate()
        .filter(|(i, _)| !matches!(i, 3 | 4 | 8 | 9))
        .map(|(_, v)| v)
        .sum();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |key: &str| -> u64 {
        let line = meminfo
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    let (total, available) = (
        kilobytes("MemTotal") * 1024,
        kilobytes("MemAvailable") * 1024,
    );
    NodeUsage {
        cpu_nanoseconds: busy * 10_000_000,
        memory_bytes: total.saturating_sub(available),
        memory_available_bytes: available,
    }
}

/// All running containers' use.
pub(super) async fn usages(context: &Context) -> Result<Vec<Usage>, tonic::Status> {
    let stats = context.shared.cri.list_container_stats().await?;
    Ok(stats.iter().filter_map(Usage::from_cri).collect())
}

/// Answers `GET /stats/summary`.
pub(super) async fn summary(State(context): State<Context>) -> Response {
    match usages(&context).await {
        Ok(usages) => {
            let now = Timestamp::now().to_string();
            Json(document(
                &context.shared.config.node_name,
                &usages,
                node_usage(),
                &now,
            ))
            .into_response()
        }
        Err(status) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_string(),
        ),
    }
}

fn document(node: &str, usages: &[Usage], total: NodeUsage, now: &str) -> Value {
    let mut pods: BTreeMap<&str, Vec<&Usage>> = BTreeMap::new();
    usages
        .iter()
        .for_each(|u| pods.entry(&u.uid).or_default().push(u));
    let cpu = |nanoseconds: u64, cores: u64| json!({"time": now, "usageNanoCores": cores, "usageCoreNanoSeconds": nanoseconds});
    let container = |u: &&Usage| {
        json!({"name": u.container, "cpu": cpu(u.cpu_nanoseconds, u.cpu_nanocores),
            "memory": {"time": now, "workingSetBytes": u.memory_bytes, "usageBytes": u.memory_usage_bytes,
                "rssBytes": u.memory_rss_bytes},
            "rootfs": {"time": now, "usedBytes": u.writable_bytes}})
    };
    let pod = |list: &Vec<&Usage>| {
        let sum = |field: fn(&Usage) -> u64| list.iter().map(|u| field(u)).sum::<u64>();
        json!({"podRef": {"name": list[0].pod, "namespace": list[0].namespace, "uid": list[0].uid},
            "containers": list.iter().map(container).collect::<Vec<_>>(),
            "cpu": cpu(sum(|u| u.cpu_nanoseconds), sum(|u| u.cpu_nanocores)),
            "memory": {"time": now, "workingSetBytes": sum(|u| u.memory_bytes), "usageBytes": sum(|u| u.memory_usage_bytes)}})
    };
    json!({"node": {"nodeName": node,
            "cpu": {"time": now, "usageCoreNanoSeconds": total.cpu_nanoseconds},
            "memory": {"time": now, "workingSetBytes": total.memory_bytes, "availableBytes": total.memory_available_bytes}},
        "pods": pods.values().map(pod).collect::<Vec<_>>()})
}
