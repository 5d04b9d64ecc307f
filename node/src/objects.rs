//! ConfigMaps and Secrets that this node's pods refer to, each followed by its own watch (so the node needs no right to others).
//!
//! It is here so that volumes follow their objects at once and nothing is fetched for every container start. A pod holds what it
//! refers to; the last pod that lets go ends the watch. It must not know what the objects are used for.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long the first answer about an object may take, as the kubelet's.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// None until the first answer, then the object if it exists.
type Value<K> = Option<Option<Arc<K>>>;

struct Entry<K> {
    value: watch::Receiver<Value<K>>,
    holders: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
    _watching: DropGuard,
}

/// Followed objects of one kind.
pub(crate) struct Objects<K> {
    client: kube::Client,
    entries: Mutex<HashMap<(String, String), Entry<K>>>,
}

impl<K> Objects<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    pub(crate) fn new(client: kube::Client) -> Self {
        Objects {
            client,
            entries: Mutex::default(),
        }
    }

    /// Makes a pod hold exactly `names`; `changed` is woken whenever one of them changes.
    pub(crate) fn hold(
        &self,
        pod_uid: &str,
        namespace: &str,
        names: &BTreeSet<String>,
        changed: &Arc<Notify>,
    ) {
        let mut entries = self.entries.lock();
        for name in names {
            let key = (namespace.to_string(), name.clone());
            let entry = entries
                .entry(key)
                .or_insert_with(|| self.follow(namespace, name));
            entry
                .holders
                .lock()
                .insert(pod_uid.to_string(), changed.clone());
        }
        entries.retain(|(ns, name), entry| {
            let mut holders = entry.holders.lock();
            if !(ns == namespace && names.contains(name)) {
                holders.remove(pod_uid);
            }
            !holders.is_empty()
        });
    }

    /// Lets go of all that a pod holds.
    pub(crate) fn release(&self, pod_uid: &str) {
        self.entries.lock().retain(|_, entry| {
            let mut holders = entry.holders.lock();
            holders.remove(pod_uid);
            !holders.is_empty()
        });
    }

    /// The object if it exists; Err if that is not known yet.
    pub(crate) async fn get(&self, namespace: &str, name: &str) -> Result<Option<Arc<K>>, String> {
        let key = (namespace.to_string(), name.to_string());
        let receiver = self.entries.lock().get(&key).map(|e| e.value.clone());
        let Some(mut receiver) = receiver else {
            return Err(format!("object \"{namespace}\"/\"{name}\" not registered"));
        };
        let known =
            tokio::time::timeout(FIRST_ANSWER_LIMIT, receiver.wait_for(Option::is_some)).await;
        match known {
            Ok(Ok(value)) => Ok(value.clone().flatten()),
            _ => Err(
                "failed to sync configmap cache: timed out waiting for the condition".replace(
                    "configmap",
                    if K::kind(&()) == "Secret" {
                        "secret"
                    } else {
                        "configmap"
                    },
                ),
            ),
        }
    }

    fn follow(&self, namespace: &str, name: &str) -> Entry<K> {
        let (sender, value) = watch::channel(None);
        let holders: Arc<Mutex<HashMap<String, Arc<Notify>>>> = Arc::default();
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let (name, to_wake) = (name.to_string(), holders.clone());
        tokio::spawn(async move {
            let stream = watcher::watch_object(api, &name).default_backoff();
            let mut stream = std::pin::pin!(stream);
            loop {
                let item = tokio::select! {
                    item = stream.next() => item,
                    () = stop.cancelled() => return,
                };
                match item {
                    Some(Ok(object)) => {
                        sender.send_replace(Some(object.map(Arc::new)));
                        to_wake.lock().values().for_each(|n| n.notify_one());
                    }
                    Some(Err(error)) => {
                        tracing::debug!(%error, kind = %K::kind(&()), name, "watch")
                    }
                    None => return,
                }
            }
        });
        Entry {
            value,
            holders,
            _watching: cancel.drop_guard(),
        }
    }
}
