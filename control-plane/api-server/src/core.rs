//! What every request needs: the parts of the API server, put together once.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::audit::Auditor;
use crate::cache::Caches;
use crate::config::Settings;
use crate::encryption::SealedStore;
use crate::flow::FlowControl;
use crate::identity::{Authenticator, Authorizer, Impersonation};
use crate::metrics::Metrics;
use crate::plugin::{Admission, Extension, VirtualResource};
use crate::resource::Resources;
use crate::store::Store;
use crate::ttl::EventLeases;

/// The API server without its listeners.
pub(crate) struct Core {
    pub store: Arc<dyn Store>,
    pub caches: Arc<Caches>,
    pub resources: Resources,
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub impersonation: Arc<dyn Impersonation>,
    /// In the order in which they run.
    pub plugins: Vec<Arc<dyn Admission>>,
    pub virtual_resources: Vec<Arc<dyn VirtualResource>>,
    pub flow: FlowControl,
    pub metrics: Metrics,
    pub settings: Settings,
    /// Paths that are answered with a fixed document.
    pub documents: Vec<(&'static str, crate::config::Document)>,
    /// Further paths that are answered by others.
    pub extensions: Vec<Arc<dyn Extension>>,
    pub event_leases: EventLeases,
    pub audit: Option<Auditor>,
    /// Where secrets are encrypted in the store: the same store as `store`.
    pub encryption: Option<SealedStore>,
    /// For connections to nodes' agents.
    pub kubelet_tls: Option<Arc<rustls::ClientConfig>>,
    pub stop: CancellationToken,
}

impl Core {
    /// Whether a shutdown has begun.
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}
