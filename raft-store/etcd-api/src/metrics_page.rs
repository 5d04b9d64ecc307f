//! `/metrics` in Prometheus' text format: etcd's names where the meaning is the same.

use std::fmt::{Display, Write};

use prometheus_client::registry::Registry;

use crate::front::{CLUSTER_VERSION, ETCD_VERSION, Front};
use crate::methods::METHODS;
use crate::metrics::CODES;

/// The whole page.
pub(crate) fn render(front: &Front) -> String {
    let mut registry = Registry::default();
    front.store.metrics().register(&mut registry);
    let mut page = String::new();
    // Writing into a string does not fail.
    let _ = prometheus_client::encoding::text::encode(&mut page, &registry);
    let end = page.rfind("# EOF").unwrap_or(page.len());
    page.truncate(end);
    let mut page = Page(page);
    page.raft(front);
    page.identity(front);
    page.calls(front);
    page.process();
    page.0
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn raft(&mut self, front: &Front) {
        let status = front.store.status();
        let leads = status.leader == Some(status.member_id);
        let flag = u8::from;
        for (name, help, value) in [
            (
                "etcd_server_has_leader",
                "Whether a leader is known",
                flag(status.leader.is_some()),
            ),
            (
                "etcd_server_is_leader",
                "Whether this member leads",
                flag(leads),
            ),
            (
                "etcd_server_is_learner",
                "Whether this member is a learner",
                flag(status.is_learner),
            ),
        ] {
            self.value(name, "gauge", help, value);
        }
        for (name, help, value) in [
            (
                "etcd_server_proposals_committed_total",
                "Index of the last log entry known as committed here",
                status.raft_committed_index,
            ),
            (
                "etcd_server_proposals_applied_total",
                "Index of the last log entry applied here",
                status.raft_applied_index,
            ),
            (
                "etcd_server_proposals_pending",
                "Commands of this member's callers that are not decided",
                front.store.proposals_pending() as u64,
            ),
            (
                "etcd_mvcc_db_total_size_in_bytes",
                "Bytes of the state on disk",
                status.db_size,
            ),
            (
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Bytes of live data on disk, estimated",
                status.db_size_in_use,
            ),
            (
                "etcd_server_quota_backend_bytes",
                "Bytes that the state may take",
                front.options.quota_bytes.unsigned_abs(),
            ),
            (
                "etcd_debugging_mvcc_watch_stream_total",
                "Watch streams that are open",
                front.metrics.watch_streams(),
            ),
        ] {
            self.value(name, "gauge", help, value);
        }
    }

    fn identity(&mut self, front: &Front) {
        self.family("etcd_server_id", "gauge", "This member's id");
        let _ = writeln!(
            self.0,
            "etcd_server_id{{server_id=\"{:x}\"}} 1",
            front.member_id
        );
        self.family(
            "etcd_server_version",
            "gauge",
            "The version whose behaviour is served",
        );
        let _ = writeln!(
            self.0,
            "etcd_server_version{{server_version=\"{ETCD_VERSION}\"}} 1"
        );
        self.family(
            "etcd_cluster_version",
            "gauge",
            "The cluster's version, as clients are told",
        );
        // As etcd: without the last number.
        let version = CLUSTER_VERSION
            .rsplit_once('.')
            .map_or(CLUSTER_VERSION, |(version, _)| version);
        let _ = writeln!(
            self.0,
            "etcd_cluster_version{{cluster_version=\"{version}\"}} 1"
        );
    }

    fn calls(&mut self, front: &Front) {
        for (name, help, value) in front.metrics.counters() {
            self.value(name, "counter", help, value);
        }
        let labels = |method: usize| {
            let method = &METHODS[method];
            format!(
                "grpc_method=\"{}\",grpc_service=\"{}\",grpc_type=\"{}\"",
                method.name,
                method.service,
                method.kind.name()
            )
        };
        let name = "grpc_server_started_total";
        self.family(name, "counter", "Calls begun");
        for (method, count) in front.metrics.calls_started() {
            let _ = writeln!(self.0, "{name}{{{}}} {count}", labels(method));
        }
        let name = "grpc_server_handled_total";
        self.family(name, "counter", "Calls ended, by code");
        for (method, code, count) in front.metrics.calls_handled() {
            let (code, labels) = (CODES[code], labels(method));
            let _ = writeln!(self.0, "{name}{{grpc_code=\"{code}\",{labels}}} {count}");
        }
    }

    /// What the kernel tells of this process; nothing where it tells nothing.
    fn process(&mut self) {
        let Some(process) = Process::read() else {
            return;
        };
        let name = "process_cpu_seconds_total";
        self.value(name, "counter", "Seconds of CPU used", process.cpu_seconds);
        let name = "process_start_time_seconds";
        self.value(
            name,
            "gauge",
            "Start, seconds since 1970",
            process.start_seconds,
        );
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory",
                process.resident,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory",
                process.virtual_memory,
            ),
            ("process_open_fds", "Open files", process.open_files),
            ("process_max_fds", "Most open files", process.max_files),
        ] {
            self.value(name, "gauge", help, value);
        }
    }
}

struct Process {
    cpu_seconds: f64,
    start_seconds: f64,
    resident: u64,
    virtual_memory: u64,
    open_files: u64,
    max_files: u64,
}

impl Process {
    fn read() -> Option<Self> {
        /// The kernel's unit of time for programs, on every Linux.
        const TICKS_PER_SECOND: f64 = 100.0;
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).ok();
        let stat = file("self/stat")?;
        // The program's name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        let status = file("self/status")?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let boot = file("stat")?;
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
        let limits = file("self/limits")?;
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        Some(Self {
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
            start_seconds: boot.parse::<f64>().ok()? + ticks(19)? / TICKS_PER_SECOND,
            resident: kilobytes("VmRSS:")? * 1024,
            virtual_memory: kilobytes("VmSize:")? * 1024,
            open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            max_files: limit.split_whitespace().next()?.parse().ok()?,
        })
    }
}
