//! What all services share, and how they are served.

use raft_store::Store;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use xebec_proto::etcdserverpb as pb;

/// The version that clients are told: that of the etcd release whose behaviour this API follows.
pub(crate) const ETCD_VERSION: &str = "3.6.8";
/// Room for a request beside its keys and values, as in etcd.
const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;

/// etcd's API over one member of the store. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    pub(crate) store: Store,
    cluster_id: u64,
    member_id: u64,
    /// Ends the streams that would go on forever.
    pub(crate) shutdown: CancellationToken,
}

impl Front {
    pub fn new(store: Store, shutdown: CancellationToken) -> Self {
        let status = store.status();
        Self {
            store,
            cluster_id: status.cluster_id,
            member_id: status.member_id,
            shutdown,
        }
    }

    /// The gRPC services, to be put behind a listener. `max_request_bytes` bounds what a client may send.
    pub fn routes(&self, max_request_bytes: usize) -> Routes {
        let limit = max_request_bytes + REQUEST_OVERHEAD_BYTES;
        let kv = pb::kv_server::KvServer::new(self.clone())
            .max_decoding_message_size(limit)
            .max_encoding_message_size(usize::MAX);
        let watch =
            pb::watch_server::WatchServer::new(self.clone()).max_encoding_message_size(usize::MAX);
        Routes::new(kv)
            .add_service(watch)
            .add_service(pb::lease_server::LeaseServer::new(self.clone()))
            .add_service(pb::cluster_server::ClusterServer::new(self.clone()))
            .add_service(pb::maintenance_server::MaintenanceServer::new(self.clone()))
    }

    /// The header that every answer carries.
    pub(crate) fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        let raft_term = self.store.leadership().borrow().term;
        Some(pb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term,
        })
    }

    /// The header of an answer that has no revision of its own.
    pub(crate) fn current_header(&self) -> Option<pb::ResponseHeader> {
        self.header(self.store.revision())
    }
}
