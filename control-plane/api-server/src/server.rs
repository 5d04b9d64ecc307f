//! Where the parts of the API server meet: start and stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api_client::Backend;
use api_machinery::{KindTable, Status};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::audit::{AuditError, Auditor};
use crate::backend::CoreBackend;
use crate::cache::{CacheReader, Caches, FeedError};
use crate::config::{Config, Inside};
use crate::core::Core;
use crate::encryption::{EncryptionError, SealedStore};
use crate::flow::FlowControl;
use crate::metrics::Metrics;
use crate::plugin::ObjectReader;
use crate::resource::Resources;
use crate::store::{Store, StoreError};
use crate::ttl::EventLeases;
use crate::{bootstrap, compaction, listener};

/// How long running requests may go on after a shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a start waits before it asks a store again that did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why an API server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the first objects of the cluster cannot be made: {0}")]
    Bootstrap(Status),
}

/// A running API server.
pub struct ApiServer {
    core: Arc<Core>,
    backend: Arc<CoreBackend>,
    reader: Arc<CacheReader>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    /// Nothing goes on without it, least of all after a start that broke off.
    _ends_with_it: DropGuard,
    tasks: TaskTracker,
}

impl ApiServer {
    /// Loads the caches, makes what every cluster has, and listens.
    ///
    /// # Errors
    /// When the address is taken, or the store does not answer.
    pub async fn start(config: Config, store: Arc<dyn Store>) -> Result<Self, StartError> {
        let listener = bound(config.listen).await?;
        let root_key = config.encryption_key.as_deref();
        let (store, encryption) = patiently(|| sealed(store.clone(), root_key)).await?;
        let stop = CancellationToken::new();
        let ends_with_it = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let table = Arc::new(KindTable::builtin());
        let caches = Arc::new(Caches::new(store.clone(), &table));
        let feed = caches.clone();
        let stopped = stop.clone();
        tasks.spawn(async move { feed.run(stopped).await });
        patiently(|| synced(&caches)).await?;
        let backend = Arc::new(CoreBackend::default());
        let reader = Arc::new(CacheReader::new(caches.clone(), table.clone()));
        let inside = Inside {
            reader: reader.clone(),
            backend: backend.clone(),
        };
        let security = (config.security)(inside);
        let metrics = Metrics::default();
        let start_audit = |audit| Auditor::start(&audit, metrics.audit.clone());
        let audit = config.audit.map(start_audit).transpose()?;
        let core = Arc::new(Core {
            resources: Resources::new(table, &caches),
            store,
            caches,
            authenticator: security.authenticator,
            authorizer: security.authorizer,
            impersonation: security.impersonation,
            plugins: security.admission,
            virtual_resources: security.virtual_resources,
            flow: FlowControl::default(),
            metrics,
            audit,
            settings: config.settings,
            documents: config.documents,
            extensions: config.extensions,
            event_leases: EventLeases::default(),
            encryption,
            kubelet_tls: config.kubelet_tls,
            stop: stop.clone(),
        });
        backend.fill(core.clone());
        patiently(|| bootstrap(&core)).await?;
        tasks.spawn(compaction::run(core.store.clone(), stop.clone()));
        let address = listener.as_ref().and_then(|l| l.local_addr().ok());
        if let Some(listener) = listener {
            let (core, stop) = (core.clone(), stop.clone());
            tasks.spawn(listener::serve(
                listener,
                config.tls,
                core,
                stop,
                tasks.clone(),
            ));
        }
        Ok(Self {
            core,
            backend,
            reader,
            address,
            stop,
            _ends_with_it: ends_with_it,
            tasks,
        })
    }

    /// The API for callers in the process.
    pub fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// The caches, for readers in the process that need no request.
    pub fn reader(&self) -> Arc<dyn ObjectReader> {
        self.reader.clone()
    }

    /// Where it listens, with the port that was chosen for 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Objects in all caches.
    pub fn object_count(&self) -> usize {
        self.core.caches.iter().map(|cache| cache.len()).sum()
    }

    /// Accepts no more and ends watches; waits for running requests for a while.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.tasks.wait()).await;
        if let Some(audit) = &self.core.audit {
            audit.flush().await;
        }
    }
}

async fn bound(address: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) => Err(StartError::Listen { address, source }),
    }
}

/// The store with secrets encrypted, where there is a root key's file.
async fn sealed(
    store: Arc<dyn Store>,
    root_key: Option<&Path>,
) -> Result<(Arc<dyn Store>, Option<SealedStore>), StartError> {
    let Some(root_key) = root_key else {
        return Ok((store, None));
    };
    let sealed = SealedStore::open(store, root_key).await?;
    Ok((Arc::new(sealed.clone()), Some(sealed)))
}

/// Waits until the caches hold all that the store has.
async fn synced(caches: &Caches) -> Result<(), StartError> {
    loop {
        match caches.catch_up().await {
            Ok(_) => return Ok(()),
            // A large store takes its time; the wait itself is bounded, so look again.
            Err(FeedError::Behind { wanted, current }) => {
                tracing::info!(wanted, current, "the caches are being filled");
            }
            Err(FeedError::Store(error)) => return Err(error.into()),
        }
    }
}

async fn bootstrap(core: &Arc<Core>) -> Result<(), StartError> {
    bootstrap::run(core).await.map_err(StartError::Bootstrap)
}

impl StartError {
    /// Whether the store may answer later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Store(error) | Self::Encryption(EncryptionError::Store(error)) => {
                matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_))
            }
            Self::Bootstrap(status) => matches!(status.code, 503 | 504),
            _ => false,
        }
    }
}

/// A step of the start, again as long as the store has no majority: it finds it again, or whoever starts this gives up.
async fn patiently<T>(
    mut step: impl AsyncFnMut() -> Result<T, StartError>,
) -> Result<T, StartError> {
    loop {
        match step().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "the store does not answer; trying again");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            answer => return answer,
        }
    }
}
