//! Shared informers: one local, typed copy of each resource, kept current by one stream, used by everyone.
//!
//! A reader sees a state that was true a moment ago; whoever must not act on stale state writes with a
//! resourceVersion or uid precondition, as with client-go.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::backend::{Backend, RawEvent};
use crate::client::Kind;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub fn of<K: Kind>(object: &K) -> Self {
        let meta = object.metadata();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }

    /// The namespace as typed calls take it.
    pub fn namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|n| !n.is_empty())
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What happened to one object.
#[derive(Debug)]
pub enum Change<K> {
    Applied { old: Option<Arc<K>>, new: Arc<K> },
    Deleted(Arc<K>),
}

impl<K> Change<K> {
    /// The newest known form of the object.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Applied { new, .. } => new,
            Self::Deleted(last) => last,
        }
    }
}

type Callback<K> = Arc<dyn Fn(&Change<K>) + Send + Sync>;
type IndexFunction<K> = fn(&K) -> Vec<String>;

struct Index<K> {
    values: IndexFunction<K>,
    keys: HashMap<String, BTreeSet<ObjectKey>>,
}

struct State<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: HashMap<&'static str, Index<K>>,
}

struct Shared<K> {
    state: RwLock<State<K>>,
    callbacks: RwLock<Vec<Callback<K>>>,
    synced: watch::Sender<bool>,
}

/// The local copy of one resource. Cheap to clone.
pub struct Informer<K>(Arc<Shared<K>>);

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The index that every informer has: uid of each owner.
const BY_OWNER: &str = "owner";

impl<K: Kind> Informer<K> {
    fn new() -> Self {
        let owners: IndexFunction<K> = |o| {
            o.metadata()
                .owner_references
                .iter()
                .flatten()
                .map(|owner| owner.uid.clone())
                .collect()
        };
        let indexes = HashMap::from([(
            BY_OWNER,
            Index {
                values: owners,
                keys: HashMap::new(),
            },
        )]);
        Self(Arc::new(Shared {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                indexes,
            }),
            callbacks: RwLock::new(Vec::new()),
            synced: watch::Sender::new(false),
        }))
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.0.state.read().objects.get(key).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.0.state.read().objects.values().cloned().collect()
    }

    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        let from = ObjectKey::new(namespace, "");
        state
            .objects
            .range(from..)
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, o)| o.clone())
            .collect()
    }

    /// Objects with an owner reference to `uid`.
    pub fn by_owner(&self, uid: &str) -> Vec<Arc<K>> {
        self.by_index(BY_OWNER, uid)
    }

    /// Objects for which the named index answered `value`; none if there is no such index.
    pub fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let state = self.0.state.read();
        let keys = state.indexes.get(index).and_then(|i| i.keys.get(value));
        keys.into_iter()
            .flatten()
            .filter_map(|k| state.objects.get(k).cloned())
            .collect()
    }

    /// Adds an index; what is there already is indexed at once. The same name twice is the same index.
    pub fn add_index(&self, name: &'static str, values: IndexFunction<K>) {
        let mut state = self.0.state.write();
        if state.indexes.contains_key(name) {
            return;
        }
        let mut index = Index {
            values,
            keys: HashMap::new(),
        };
        for (key, object) in &state.objects {
            for value in values(object) {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
        state.indexes.insert(name, index);
    }

    /// Calls `callback` for every object that is there and for every change from now on, in order. It runs in the
    /// stream's task, so it only takes note (puts a key into a queue) and returns.
    pub fn on_change(&self, callback: impl Fn(&Change<K>) + Send + Sync + 'static) {
        // Under the callbacks' lock no change is delivered, so none is missed between the replay and the registration.
        let mut callbacks = self.0.callbacks.write();
        for object in self.list() {
            callback(&Change::Applied {
                old: None,
                new: object,
            });
        }
        callbacks.push(Arc::new(callback));
    }

    pub fn has_synced(&self) -> bool {
        *self.0.synced.borrow()
    }

    /// Waits until everything that existed at the start is here.
    pub async fn wait_synced(&self) {
        // The sender lives in self, so this cannot fail.
        let _ = self.0.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn apply(&self, object: K) {
        let key = ObjectKey::of(&object);
        let new = Arc::new(object);
        let callbacks = self.0.callbacks.read();
        let old = {
            let mut state = self.0.state.write();
            let old = state.objects.insert(key.clone(), new.clone());
            state.reindex(&key, old.as_deref(), Some(&new));
            old
        };
        let change = Change::Applied { old, new };
        callbacks.iter().for_each(|callback| callback(&change));
    }

    fn remove(&self, key: &ObjectKey) {
        let callbacks = self.0.callbacks.read();
        let old = {
            let mut state = self.0.state.write();
            let Some(old) = state.objects.remove(key) else {
                return;
            };
            state.reindex(key, Some(&old), None);
            old
        };
        let change = Change::Deleted(old);
        callbacks.iter().for_each(|callback| callback(&change));
    }

    async fn run(self, backend: Arc<dyn Backend>) {
        let mut stream = match backend.watch(K::GROUP, K::URL_PATH_SEGMENT) {
            Ok(stream) => stream,
            Err(status) => {
                tracing::error!(kind = K::KIND, %status, "informer cannot start");
                return;
            }
        };
        // Keys that a restarted stream has not confirmed yet.
        let mut unconfirmed = BTreeSet::new();
        while let Some(event) = stream.next().await {
            match event {
                RawEvent::Applied { json } => {
                    if let Some(object) = parse::<K>(&json) {
                        unconfirmed.remove(&ObjectKey::of(&object));
                        self.apply(object);
                    }
                }
                RawEvent::Deleted { json } => {
                    if let Some(object) = parse::<K>(&json) {
                        self.remove(&ObjectKey::of(&object));
                    }
                }
                RawEvent::Restarted => {
                    unconfirmed = self.0.state.read().objects.keys().cloned().collect()
                }
                RawEvent::Synced => {
                    std::mem::take(&mut unconfirmed)
                        .iter()
                        .for_each(|key| self.remove(key));
                    self.0.synced.send_replace(true);
                }
            }
        }
    }
}

impl<K> State<K> {
    fn reindex(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&K>) {
        for index in self.indexes.values_mut() {
            for value in old.map(index.values).unwrap_or_default() {
                if let Some(keys) = index.keys.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.keys.remove(&value);
                    }
                }
            }
            for value in new.map(index.values).unwrap_or_default() {
                index.keys.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

fn parse<K: Kind>(json: &[u8]) -> Option<K> {
    serde_json::from_slice(json)
        .inspect_err(|error| tracing::error!(kind = K::KIND, %error, "an object in the store cannot be read"))
        .ok()
}

/// All shared informers of the process: one per kind, started when first asked for.
#[derive(Clone)]
pub struct Informers {
    backend: Arc<dyn Backend>,
    started: Arc<Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>>,
    synced: Arc<Mutex<Vec<watch::Receiver<bool>>>>,
    tasks: Arc<Mutex<tokio::task::JoinSet<()>>>,
}

impl Informers {
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            started: Arc::default(),
            synced: Arc::default(),
            tasks: Arc::default(),
        }
    }

    pub fn get<K: Kind>(&self) -> Informer<K> {
        let mut started = self.started.lock();
        let informer = started.entry(TypeId::of::<K>()).or_insert_with(|| {
            let informer = Informer::<K>::new();
            self.synced.lock().push(informer.0.synced.subscribe());
            self.tasks
                .lock()
                .spawn(informer.clone().run(self.backend.clone()));
            Arc::new(informer)
        });
        informer
            .downcast_ref::<Informer<K>>()
            .expect("the map's key is the type")
            .clone()
    }

    /// Waits until everything that existed at the start is here, for every informer that was asked for so far.
    pub async fn wait_synced(&self) {
        let all = self.synced.lock().clone();
        for mut synced in all {
            // The sender lives as long as the informer, and that as long as self.
            let _ = synced.wait_for(|synced| *synced).await;
        }
    }

    /// Ends every stream; the informers keep their last state.
    pub fn stop(&self) {
        self.tasks.lock().abort_all();
    }
}
