//! What all services share: the store, who this member is, and the options of the API.

use std::sync::Arc;
use std::time::Duration;

use raft_store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use xebec_proto::etcdserverpb as pb;

use crate::limits;
use crate::metrics::Metrics;

/// The version that clients are told: that of the etcd release whose behaviour this API follows.
pub(crate) const ETCD_VERSION: &str = "3.6.8";
/// What clients are told of the cluster's and the storage's version.
pub(crate) const CLUSTER_VERSION: &str = "3.6.0";
/// Room for a request beside its keys and values, as in etcd.
const REQUEST_OVERHEAD_BYTES: usize = 512 * 1024;
/// Streams without a leader go on for so many election timeouts, as in etcd.
const NO_LEADER_ELECTIONS: u32 = 3;

/// What a member's API may be told from outside; the defaults are etcd's.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest write request, bytes (`--max-request-bytes`).
    pub max_request_bytes: usize,
    /// Most streams that one connection may have open (`--max-concurrent-streams`).
    pub max_concurrent_streams: u32,
    /// Most watchers on one stream; further ones are refused.
    pub max_watchers_per_stream: usize,
    /// Most watchers of all clients together; further ones are refused.
    pub max_watchers: usize,
    /// How long a stream that asked for a leader goes on without one is counted in these.
    pub election_timeout: Duration,
    /// How often an idle watcher that asked for it is told the revision (`--watch-progress-notify-interval`).
    pub watch_progress_notify_interval: Duration,
    /// What `Status` tells as the quota, bytes (`--quota-backend-bytes`).
    pub quota_bytes: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_request_bytes: raft_store::limits::MAX_REQUEST_BYTES,
            max_concurrent_streams: u32::MAX,
            max_watchers_per_stream: limits::MAX_WATCHERS_PER_STREAM,
            max_watchers: limits::MAX_WATCHERS,
            election_timeout: raft_store::limits::ELECTION_TIMEOUT,
            watch_progress_notify_interval: Duration::from_secs(600),
            quota_bytes: 2 * 1024 * 1024 * 1024,
        }
    }
}

/// etcd's API over one member of the store. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    pub(crate) store: Store,
    cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) options: Arc<Options>,
    pub(crate) metrics: Metrics,
    /// Places for watchers.
    pub(crate) watchers: Arc<Semaphore>,
    /// Ends the streams that would go on forever.
    pub(crate) shutdown: CancellationToken,
}

impl Front {
    /// `shutdown` ends every stream and listener of this front.
    pub fn new(store: Store, options: Options, shutdown: CancellationToken) -> Self {
        let status = store.status();
        Self {
            metrics: Metrics::new(&store),
            watchers: Arc::new(Semaphore::new(options.max_watchers)),
            store,
            cluster_id: status.cluster_id,
            member_id: status.member_id,
            options: Arc::new(options),
            shutdown,
        }
    }

    /// Largest message that a client may send, and largest part of a watch's answer that may be split; bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.options.max_request_bytes + REQUEST_OVERHEAD_BYTES
    }

    /// The header that every answer carries.
    pub(crate) fn header(&self, revision: i64) -> Option<pb::ResponseHeader> {
        let raft_term = self.store.leader().term;
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

    /// Returns once this front is shut down, with what its streams end with.
    pub(crate) fn stopped(&self) -> impl Future<Output = Status> + Send + 'static + use<> {
        let shutdown = self.shutdown.clone().cancelled_owned();
        async move {
            shutdown.await;
            crate::error::status(raft_store::Error::Stopped)
        }
    }

    /// Returns once there was no leader for so long that streams which asked for one must end.
    pub(crate) async fn leader_lost(&self) -> Status {
        let limit = self.options.election_timeout * NO_LEADER_ELECTIONS;
        let mut leadership = self.store.leadership();
        loop {
            if leadership
                .wait_for(|now| now.leader.is_none())
                .await
                .is_err()
            {
                // The store ends, which its streams are told otherwise.
                return std::future::pending().await;
            }
            let found = leadership.wait_for(|now| now.leader.is_some());
            if tokio::time::timeout(limit, found).await.is_err() {
                return no_leader();
            }
        }
    }
}

pub(crate) fn not_for_learners() -> Status {
    crate::error::status(raft_store::Error::NotForLearners)
}

pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// Whether the client wants no answer without a leader (`WithRequireLeader` of etcd's clients).
pub(crate) fn requires_leader(headers: &http::HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value == "true")
}
