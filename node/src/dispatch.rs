//! Brings pods to their workers: one worker for each uid, started when the pod is bound here or found in the runtime, ended when
//! nothing of it is left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::labels;
use crate::pod::{Desired, Wakers, Worker, spec};
use crate::shared::Shared;

/// A running worker.
struct Handle {
    desired: watch::Sender<Desired>,
    wakers: Wakers,
}

/// All pods of this node.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    handles: Arc<Mutex<HashMap<String, Handle>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Grows whenever something in the runtime changed.
    news: watch::Sender<u64>,
}

impl Pods {
    pub(crate) fn new(shared: Arc<Shared>, stop: CancellationToken) -> Arc<Pods> {
        Arc::new(Pods {
            shared,
            handles: Arc::default(),
            tasks: TaskTracker::new(),
            stop,
            news: watch::Sender::new(0),
        })
    }

    /// Wakes a pod's worker; false if there is none.
    pub(crate) fn wake(&self, uid: &str) -> bool {
        let handles = self.handles.lock();
        handles
            .get(uid)
            .map(|h| h.wakers.runtime.notify_one())
            .is_some()
    }

    /// Tells those who wait for any change in the runtime.
    pub(crate) fn announce(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Changes whenever something in the runtime changed.
    pub(crate) fn runtime_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whether there is any pod to look after.
    pub(crate) fn is_empty(&self) -> bool {
        self.handles.lock().is_empty()
    }

    /// The pods as they are known now.
    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        self.handles
            .lock()
            .values()
            .map(|h| h.desired.borrow().pod.clone())
            .collect()
    }

    /// The pod of that name, the newest if there are several.
    pub(crate) fn find(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let mut found = self.list();
        found.retain(|p| spec::namespace(p) == namespace && spec::name(p) == name);
        found
            .into_iter()
            .max_by_key(|p| p.metadata.creation_timestamp.clone())
    }

    /// Follows the pods that are bound to this node, until told to stop.
    pub(crate) async fn run(self: Arc<Self>) {
        let api: Api<Pod> = Api::all(self.shared.client.clone());
        let selector = format!("spec.nodeName={}", self.shared.config.node_name);
        let stream = watcher(api, watcher::Config::default().fields(&selector)).default_backoff();
        let mut stream = std::pin::pin!(stream);
        let mut listed: HashSet<String> = HashSet::new();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = self.stop.cancelled() => None,
            };
            match event {
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(pod))) => {
                    listed.insert(spec::uid(&pod).to_string());
                    self.apply(pod);
                }
                Some(Ok(Event::InitDone)) => self.forget_all_but(&listed).await,
                Some(Ok(Event::Apply(pod))) => self.apply(pod),
                Some(Ok(Event::Delete(pod))) => self.gone(pod),
                Some(Err(error)) => tracing::info!(%error, "watch of pods"),
                None => break,
            }
        }
    }

    fn apply(&self, pod: Pod) {
        let uid = spec::uid(&pod).to_string();
        let desired = Desired {
            pod: Arc::new(pod),
            gone: false,
        };
        let mut handles = self.handles.lock();
        match handles.get(&uid) {
            Some(handle) => {
                handle.desired.send_if_modified(|old| {
                    let news = matters(&old.pod, &desired.pod);
                    *old = desired;
                    news
                });
            }
            None => {
                let handle = self.start(uid.clone(), desired);
                handles.insert(uid, handle);
            }
        }
    }

    fn gone(&self, pod: Pod) {
        if let Some(handle) = self.handles.lock().get(spec::uid(&pod)) {
            handle.desired.send_replace(Desired {
                pod: Arc::new(pod),
                gone: true,
            });
        }
    }

    /// After a full list: pods that are not in it are gone, whether a worker or only the runtime knows them.
    async fn forget_all_but(&self, listed: &HashSet<String>) {
        for (uid, handle) in self
            .handles
            .lock()
            .iter()
            .filter(|(uid, _)| !listed.contains(*uid))
        {
            tracing::info!(uid, "a pod is gone from the API");
            handle.desired.send_modify(|d| d.gone = true);
        }
        let mut found: HashMap<String, Pod> = HashMap::new();
        match self.shared.cri.list_sandboxes(&[]).await {
            Ok(sandboxes) => found.extend(
                sandboxes
                    .iter()
                    .filter_map(|s| orphan(&s.labels, &s.annotations)),
            ),
            Err(error) => tracing::warn!(%error, "cannot list sandboxes"),
        }
        for uid in self.shared.volumes.known_pods() {
            let metadata = ObjectMeta {
                uid: Some(uid.clone()),
                ..Default::default()
            };
            found.entry(uid).or_insert_with(|| Pod {
                metadata,
                ..Default::default()
            });
        }
        let mut handles = self.handles.lock();
        for (uid, pod) in found {
            if !listed.contains(&uid) && !handles.contains_key(&uid) {
                tracing::info!(
                    uid,
                    pod = spec::format_pod(&pod),
                    "clearing away a pod that the API does not know"
                );
                let handle = self.start(
                    uid.clone(),
                    Desired {
                        pod: Arc::new(pod),
                        gone: true,
                    },
                );
                handles.insert(uid, handle);
            }
        }
    }

    fn start(&self, uid: String, desired: Desired) -> Handle {
        let (sender, receiver) = watch::channel(desired);
        let wakers = Wakers::default();
        let worker = Worker::new(self.shared.clone(), receiver, wakers.clone());
        let (handles, stop) = (self.handles.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = worker.run() => {
                    handles.lock().remove(&uid);
                }
                () = stop.cancelled() => {}
            }
        });
        Handle {
            desired: sender,
            wakers,
        }
    }
}

/// Whether a worker must hear of the change: what the node itself wrote into the status is no news.
fn matters(old: &Pod, new: &Pod) -> bool {
    let foreign = |pod: &Pod| -> Vec<(String, String)> {
        let conditions = pod
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        let gates = conditions.filter(|c| !crate::pod::status::is_own_condition(&c.type_));
        gates.map(|c| (c.type_.clone(), c.status.clone())).collect()
    };
    let (a, b) = (&old.metadata, &new.metadata);
    old.spec != new.spec
        || a.labels != b.labels
        || a.annotations != b.annotations
        || a.generation != b.generation
        || a.deletion_timestamp != b.deletion_timestamp
        || a.deletion_grace_period_seconds != b.deletion_grace_period_seconds
        || foreign(old) != foreign(new)
}

/// What the runtime remembers of a pod.
fn orphan(
    own: &HashMap<String, String>,
    annotations: &HashMap<String, String>,
) -> Option<(String, Pod)> {
    let uid = own.get(labels::POD_UID)?.clone();
    let grace = annotations
        .get(labels::POD_TERMINATION_GRACE)
        .and_then(|s| s.parse().ok());
    let pod = Pod {
        metadata: ObjectMeta {
            name: own.get(labels::POD_NAME).cloned(),
            namespace: own.get(labels::POD_NAMESPACE).cloned(),
            uid: Some(uid.clone()),
            ..Default::default()
        },
        spec: Some(PodSpec {
            termination_grace_period_seconds: grace,
            ..Default::default()
        }),
        status: None,
    };
    Some((uid, pod))
}
