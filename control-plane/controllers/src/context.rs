//! What every controller is handed: its view of the API, the shared informers, its event recorder, the clock.
//!
//! A controller gets nothing else, so all it can depend on is the state of the cluster.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api_client::{Client, EventRecorder, Informer, Informers, Kind, ObjectKey, WorkQueue};
use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Outcome;
use crate::options::Options;

/// The time, handed in so that tests can move it.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The keys that a controller has to look at.
pub(crate) type Queue = WorkQueue<ObjectKey>;

/// One controller: brings what belongs to one key closer to what its object asks for. Called again for every change,
/// never twice at once for the same key.
#[async_trait]
pub(crate) trait Controller: Send + Sync + 'static {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome;
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) informers: Informers,
    pub(crate) recorder: EventRecorder,
    pub(crate) clock: Clock,
    pub(crate) options: Arc<Options>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Context {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn informer<K: Kind>(&self) -> Informer<K> {
        self.informers.get::<K>()
    }

    /// Runs `task` beside the workers; it ends at shutdown.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! { () = shutdown.cancelled() => {}, () = task => {} }
        });
    }
}

/// Every change of a `K` puts the object's own key into the queue.
pub(crate) fn enqueue_on_change<K: Kind>(informer: &Informer<K>, queue: &Queue) {
    let queue = queue.clone();
    informer.on_change(move |change| queue.add(ObjectKey::of(change.object().as_ref())));
}

/// From now until `at`; zero when that has passed.
pub(crate) fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
