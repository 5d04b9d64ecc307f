//! The API under `/xebec/certificates`: GET tells this master's CAs and keys, POST changes them, for all masters at once, or
//! issues this master's own certificates again. For administrators: no default role names the path.

use std::path::PathBuf;
use std::time::SystemTime;

use api_machinery::{Reason, Status};
use api_server::{Extension, ExtensionRequest, Pki, Rotated, RotationError, RotationStep, rotate};
use async_trait::async_trait;
use http::Method;
use raft_store::Store;
use serde_json::Value;

use super::kept;

pub const PATH: &str = "/xebec/certificates";

/// Answers for this master's certificates.
pub struct CertificatesApi {
    pub store: Store,
    /// `DATA_DIR/server`
    pub server: PathBuf,
    pub pki: Pki,
}

#[async_trait]
impl Extension for CertificatesApi {
    fn path(&self) -> &'static str {
        PATH
    }

    async fn call(&self, request: ExtensionRequest<'_>) -> Result<Value, Status> {
        let parts: Vec<&str> = request.rest.split('/').filter(|p| !p.is_empty()).collect();
        match (request.method, parts.as_slice()) {
            (&Method::GET, []) => self.status(),
            (&Method::POST, ["leaves"]) => {
                self.pki.issue_again().map_err(Status::internal_error)?;
                tracing::info!("this master's certificates were issued again");
                self.status()
            }
            (&Method::POST, [what, step]) => {
                let what = match *what {
                    "ca" => Rotated::Ca,
                    "service-account-key" => Rotated::ServiceAccountKey,
                    _ => return Err(Status::no_such_path()),
                };
                let step = match *step {
                    "begin" => RotationStep::Begin,
                    "revert" => RotationStep::Revert,
                    "finish" => RotationStep::Finish,
                    _ => return Err(Status::no_such_path()),
                };
                self.rotate(what, step).await
            }
            (_, [] | ["leaves"] | [_, _]) => Err(Status::method_not_allowed()),
            _ => Err(Status::no_such_path()),
        }
    }
}

impl CertificatesApi {
    fn status(&self) -> Result<Value, Status> {
        serde_json::to_value(self.pki.rotation()).map_err(Status::internal_error)
    }

    async fn rotate(&self, what: Rotated, step: RotationStep) -> Result<Value, Status> {
        let mut reloads = self.pki.reloads();
        reloads.mark_unchanged();
        let change = |files: &_| rotate(files, what, step, SystemTime::now());
        let changed = kept::replace(&self.store, &self.server, change).await;
        changed
            .map_err(|error| Status::service_unavailable(format!("{error:#}")))?
            .map_err(refused)?;
        tracing::info!(?what, ?step, "the cluster's CA or key was changed");
        // This master follows as all do; the answer tells the state after it.
        let _ = reloads.changed().await;
        self.status()
    }
}

fn refused(error: RotationError) -> Status {
    match error {
        RotationError::Missing(_) | RotationError::Pki(_) => Status::internal_error(error),
        error => Status::new(409, Reason::Conflict, error.to_string()),
    }
}
