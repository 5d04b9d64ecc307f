//! Flags of the audit log, named as kube-apiserver's.

use std::path::{Path, PathBuf};

use clap::Args;

/// Flags of the audit log.
#[derive(Args, Debug, Clone)]
pub struct AuditArgs {
    /// Policy of the audit log (audit.k8s.io/v1) [default: changes by clients, and reads of Secrets, without bodies].
    #[arg(long, value_name = "FILE")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where the audit log goes: a file, - for standard output, or nothing for no audit log
    /// [default: server/audit.log in the data directory].
    #[arg(long, value_name = "FILE")]
    pub audit_log_path: Option<PathBuf>,
    /// Size at which the audit log's file is put aside, megabytes.
    #[arg(long, value_name = "MB", default_value_t = 10)]
    pub audit_log_maxsize: u64,
    /// Days after which files that were put aside are deleted; 0 never.
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u64,
    /// Files that are kept aside; 0 all.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    pub audit_log_maxbackup: usize,
}

impl AuditArgs {
    /// The configuration that the flags mean; none turns the log off. `server` is `DATA_DIR/server`.
    pub fn config(&self, server: &Path) -> Option<api_server::AuditConfig> {
        let path = match &self.audit_log_path {
            Some(path) if path.as_os_str().is_empty() => return None,
            Some(path) => path.clone(),
            None => server.join("audit.log"),
        };
        Some(api_server::AuditConfig {
            policy_file: self.audit_policy_file.clone(),
            path,
            max_size_megabytes: self.audit_log_maxsize,
            max_age_days: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
        })
    }
}
