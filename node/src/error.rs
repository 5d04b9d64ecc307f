//! Why an agent could not start or had to stop. Faults of single pods are no agent errors: they become events and status.

use std::path::PathBuf;

/// An error that ends the agent.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The list of API servers is empty or an entry is no `https://HOST:PORT`.
    #[error("API server address {0:?} is not of the form https://HOST:PORT")]
    ServerAddress(String),
    /// A certificate or key cannot be read or does not fit.
    #[error("TLS identity: {0}")]
    Identity(String),
    /// A file or directory of the agent's own.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A port cannot be bound.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The container runtime cannot be reached or does not speak CRI v1.
    #[error("container runtime {endpoint}: {message}")]
    Runtime {
        /// The endpoint asked for.
        endpoint: String,
        /// What it said.
        message: String,
    },
    /// The API refuses the node.
    #[error("register node {name}: {source}")]
    Register {
        /// The node's name.
        name: String,
        /// The API's answer.
        #[source]
        source: Box<kube::Error>,
    },
}

impl AgentError {
    /// Wraps an I/O error with the path that it is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> AgentError {
        let path = path.into();
        move |source| AgentError::Io { path, source }
    }
}
