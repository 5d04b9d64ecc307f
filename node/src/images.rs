//! Images that come without a registry: the built-in pause image and the archives in `DATA_DIR/agent/images/`.
//!
//! Imports go through containerd's own `ctr` tool, which is part of every containerd package: an import is a
//! content upload, an index walk, a diff per layer and a snapshot, all of which `ctr` already does inside one lease.
//! It must not know pods or the Kubernetes API.

mod archive;
mod importer;
mod pause;
mod record;
mod watcher;

use std::path::{Path, PathBuf};

pub use importer::Imported;
use tokio_util::sync::CancellationToken;

/// The name of the pause image that travels inside the binary. The tag changes whenever its bytes do.
pub const PAUSE_IMAGE: &str = "localhost/xebec/pause:1";

/// The containerd namespace that CRI looks at.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// Where images come from and go to.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// `DATA_DIR/agent`: archives are read from `images/` below it.
    pub agent_dir: PathBuf,
    /// containerd's socket, from [`crate::containerd::Containerd::address`].
    pub containerd: PathBuf,
}

impl ImagesConfig {
    fn archives(&self) -> PathBuf {
        self.agent_dir.join("images")
    }

    fn record(&self) -> PathBuf {
        // Beside containerd's content, so that wiping the one also wipes the memory of the other.
        self.agent_dir.join("containerd/root/xebec-imported.json")
    }
}

/// Why an image could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// `ctr` is missing although containerd is there.
    #[error("ctr is not installed: install it with `apt-get install containerd`")]
    NotInstalled,
    /// `ctr` refused; the text is its own.
    #[error("cannot import {what}: {reason}")]
    Import {
        /// The archive or image.
        what: String,
        /// What `ctr` said.
        reason: String,
    },
    /// The processor has no built-in pause program.
    #[error("there is no built-in pause image for the processor {0}")]
    Architecture(String),
    /// A file could not be read or written.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl ImageError {
    fn file(action: &'static str, path: &Path, source: std::io::Error) -> ImageError {
        ImageError::File {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Imports the pause image unless containerd has it already.
pub async fn import_pause(config: &ImagesConfig) -> Result<(), ImageError> {
    importer::import_pause(config).await
}

/// Imports every archive in `images/` that is new or has changed since it was last imported.
///
/// One broken archive does not hold up the others: its entry carries the error.
pub async fn import_all(config: &ImagesConfig) -> Result<Vec<Imported>, ImageError> {
    importer::import_all(config).await
}

/// Imports archives that are put into `images/` later, until `shutdown`.
pub async fn watch(config: ImagesConfig, shutdown: CancellationToken) -> Result<(), ImageError> {
    watcher::watch(config, shutdown).await
}
