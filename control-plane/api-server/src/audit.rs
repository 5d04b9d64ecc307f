//! The audit log: who did what when, one line of JSON (`audit.k8s.io/v1` Event) for each stage of a request that the
//! policy asks for.
//!
//! `policy` decides from what is known when a request's sender is; `record` follows one request; `event` is the line;
//! `log` writes. Requests never wait for the disk: lines go through a bounded queue, and what does not fit is counted.

mod event;
mod log;
mod policy;
mod record;

use std::path::PathBuf;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use crate::identity::UserInfo;
use crate::request::RequestInfo;

pub(crate) use record::{Received, Record};

use log::Log;
use policy::Policy;

/// Where the audit log goes, and what is in it. The defaults are kube-apiserver's, but that it is on.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// A Policy of `audit.k8s.io/v1`; without it writes from outside of this process and reads of Secrets are recorded.
    pub policy_file: Option<PathBuf>,
    /// `-` is standard output.
    pub path: PathBuf,
    /// Megabytes at which the file is put aside.
    pub max_size_megabytes: u64,
    /// Days after which old files are deleted; 0 never.
    pub max_age_days: u64,
    /// Old files that are kept; 0 all.
    pub max_backups: usize,
}

/// Why there can be no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit policy {} cannot be read: {source}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the audit policy {}: {reason}", path.display())]
    Policy { path: PathBuf, reason: String },
    #[error("the audit log {} cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
}

/// Lines that were made, and lines or writes that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuditCounters {
    pub events: Counter,
    pub errors: Counter,
}

/// The policy and the log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Auditor(Arc<Shared>);

struct Shared {
    policy: Policy,
    /// Whether callers in this process (scheduler, controllers) are judged by the policy too.
    in_process: bool,
    log: Log,
}

impl Auditor {
    /// # Errors
    /// When the policy or the log's file cannot be used.
    pub fn start(config: &AuditConfig, counters: AuditCounters) -> Result<Self, AuditError> {
        let policy = match &config.policy_file {
            Some(path) => Policy::load(path)?,
            None => Policy::standard(),
        };
        Ok(Self(Arc::new(Shared {
            policy,
            in_process: config.policy_file.is_some(),
            log: Log::start(config, counters)?,
        })))
    }

    /// Begins the record of a request, if the policy wants one. `user` is who was authenticated; none if nobody was.
    pub fn begin(
        &self,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        received: &Received<'_>,
    ) -> Option<Box<Record>> {
        if received.in_process && !self.0.in_process {
            return None;
        }
        let wanted = self.0.policy.judge(user, info)?;
        Some(Box::new(Record::new(
            self.0.log.clone(),
            wanted,
            user,
            info,
            received,
        )))
    }

    /// Waits until everything that was recorded before is written.
    pub async fn flush(&self) {
        self.0.log.flush().await;
    }
}

#[cfg(test)]
mod tests;
