//! All objects of one kind, in key order, with their recent changes and those who watch them.
//!
//! One writer (the feed), many readers. Every read tells the revision that it is the exact state of.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::event::CacheEvent;
use super::history::History;
use super::object::CachedObject;
use super::watcher::{Interest, Watcher, Watchers};
use crate::store::{Revision, StoreEvent};

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct KindCache {
    /// The key prefix of the kind, with its slash: `/registry/pods/`.
    pub prefix: String,
    /// A field by whose value watchers are told apart (`spec.nodeName`).
    index: Option<&'static str>,
    state: RwLock<State>,
    watchers: Mutex<Watchers>,
    /// Up to where all caches hold every change; shared by all kinds.
    revision: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<CachedObject>>,
    history: History,
    /// Revision of the newest change.
    changed: Revision,
}

/// Objects that a list asked for.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    pub objects: Vec<Arc<CachedObject>>,
    /// The objects are the exact state at this revision.
    pub revision: Revision,
    /// There are more behind the last one.
    pub more: bool,
    /// How many keys there are behind the last object, matching or not.
    pub remaining: usize,
}

/// What part of a kind a list or watch is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// A key prefix: empty, or `NAMESPACE/`.
    pub prefix: String,
    /// Only keys from here on, inclusive.
    pub from: Option<String>,
    /// 0 is none.
    pub limit: usize,
}

/// Where a watch starts.
#[derive(Debug)]
pub(crate) struct WatchStart {
    pub watcher: Watcher,
    /// Existing objects to be told first; empty where the watch resumes.
    pub objects: Vec<Arc<CachedObject>>,
    pub revision: Revision,
}

impl KindCache {
    pub fn new(prefix: String, index: Option<&'static str>, revision: Arc<AtomicU64>) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            history: History::new(0),
            changed: 0,
        };
        Self {
            prefix,
            index,
            state: RwLock::new(state),
            watchers: Mutex::default(),
            revision,
        }
    }

    pub fn get(&self, key: &str) -> Option<Arc<CachedObject>> {
        self.state.read().objects.get(key).cloned()
    }

    /// Revision of the newest change of any object.
    pub fn changed(&self) -> Revision {
        self.state.read().changed
    }

    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// The newest state.
    pub fn select(&self, held: &Held, matches: impl Fn(&CachedObject) -> bool) -> Selected {
        let state = self.state.read();
        let objects = state.objects.range::<str, _>(held.bounds()).map(|(_, o)| o);
        take(objects, held, matches, self.exact(&state))
    }

    /// The state at an older revision; `None` if that is no longer (or not yet) held.
    pub fn select_at(
        &self,
        revision: Revision,
        held: &Held,
        matches: impl Fn(&CachedObject) -> bool,
    ) -> Option<Selected> {
        let state = self.state.read();
        if revision > self.exact(&state) || revision < state.history.since() {
            return None;
        }
        let objects = state.objects.range::<str, _>(held.bounds());
        if revision >= state.changed {
            return Some(take(objects.map(|(_, o)| o), held, matches, revision));
        }
        let undone = state.history.undo(revision, &held.prefix);
        let mut then: BTreeMap<&str, &Arc<CachedObject>> = objects
            .map(|(k, o)| (k.as_ref(), o))
            .take_while(|(key, _)| key.starts_with(&held.prefix))
            .collect();
        for (key, object) in undone {
            match object {
                Some(object) if held.from.as_deref().is_none_or(|from| key >= from) => {
                    then.insert(key, object);
                }
                _ => {
                    then.remove(key);
                }
            }
        }
        Some(take(then.into_values(), held, matches, revision))
    }

    /// A watch of what changes from now on, with the objects that exist now if `initial`.
    pub fn watch_from_now(&self, held: &Held, interest: Interest, initial: bool) -> WatchStart {
        let state = self.state.read();
        let revision = self.exact(&state);
        let objects = match initial {
            true => state
                .objects
                .range::<str, _>(held.bounds())
                .map(|(_, o)| o.clone())
                .collect(),
            false => Vec::new(),
        };
        let watcher = self
            .watchers
            .lock()
            .add(interest, revision, VecDeque::new());
        WatchStart {
            watcher,
            objects,
            revision,
        }
    }

    /// A watch of the changes after `revision`.
    ///
    /// # Errors
    /// The oldest revision that can be resumed from, where the changes are no longer all held.
    pub fn watch_after(
        &self,
        revision: Revision,
        held: &Held,
        interest: Interest,
    ) -> Result<WatchStart, Revision> {
        let state = self.state.read();
        if revision < state.history.since() {
            return Err(state.history.since());
        }
        let concerns = |e: &&Arc<CacheEvent>| e.key().starts_with(&held.prefix);
        let backlog: VecDeque<_> = state
            .history
            .after(revision)
            .filter(concerns)
            .cloned()
            .collect();
        let start = self.exact(&state);
        let watcher = self
            .watchers
            .lock()
            .add(interest, start.max(revision), backlog);
        Ok(WatchStart {
            watcher,
            objects: Vec::new(),
            revision: start,
        })
    }

    /// Replaces everything: the first load, or a new one after history was lost.
    pub fn reset(&self, objects: BTreeMap<Arc<str>, Arc<CachedObject>>, revision: Revision) {
        let mut state = self.state.write();
        *state = State {
            objects,
            history: History::new(revision),
            changed: revision,
        };
        self.watchers.lock().close();
    }

    /// Applies changes, all of those at a revision at once, and tells the watchers.
    pub fn apply(&self, changes: &[StoreEvent]) {
        let mut state = self.state.write();
        let events: Vec<Arc<CacheEvent>> = changes
            .iter()
            .filter_map(|change| state.apply(change, &self.prefix))
            .collect();
        drop(state);
        let mut watchers = self.watchers.lock();
        if watchers.is_empty() {
            return;
        }
        for event in &events {
            self.dispatch(&mut watchers, event);
        }
    }

    fn dispatch(&self, watchers: &mut Watchers, event: &Arc<CacheEvent>) {
        watchers.dispatch(event, Interest::All);
        let key = event.key();
        watchers.dispatch(event, Interest::Object(key.into()));
        if let Some((namespace, _)) = key.split_once('/') {
            watchers.dispatch(event, Interest::Namespace(namespace.into()));
        }
        let Some(index) = self.index else { return };
        let value = |o: &Option<Arc<CachedObject>>| {
            o.as_ref()
                .and_then(|o| o.field(index).map(|v| v.as_ref().into()))
        };
        let (now, before): (Option<Box<str>>, Option<Box<str>>) =
            (value(&event.current), value(&event.previous));
        if let Some(before) = before.filter(|b| now.as_ref() != Some(b)) {
            watchers.dispatch(event, Interest::Node(before));
        }
        if let Some(now) = now {
            watchers.dispatch(event, Interest::Node(now));
        }
    }

    /// The revision that the locked state is exact at.
    fn exact(&self, state: &State) -> Revision {
        self.revision.load(Ordering::Acquire).max(state.changed)
    }
}

impl State {
    fn apply(&mut self, change: &StoreEvent, prefix: &str) -> Option<Arc<CacheEvent>> {
        let key = std::str::from_utf8(&change.key)
            .ok()?
            .strip_prefix(prefix)?;
        let key: Arc<str> = key.into();
        let current = change.current.as_ref().and_then(|entry| {
            let object = CachedObject::new(key.clone(), entry);
            if object.is_none() {
                tracing::warn!(key = %String::from_utf8_lossy(&change.key), "a stored value is no object that can be read");
            }
            object.map(Arc::new)
        });
        let previous = match &current {
            Some(object) => self.objects.insert(key, object.clone()),
            None => self.objects.remove(&key),
        };
        self.changed = change.revision;
        if current.is_none() && previous.is_none() {
            return None;
        }
        let event = Arc::new(CacheEvent::new(change.revision, current, previous));
        self.history.push(event.clone());
        Some(event)
    }
}

impl Held {
    /// Where to begin; the prefix also says where to end.
    fn bounds(&self) -> (Bound<&str>, Bound<&str>) {
        let start = match &self.from {
            Some(from) if *from > self.prefix => Bound::Included(from.as_str()),
            _ => Bound::Included(self.prefix.as_str()),
        };
        (start, Bound::Unbounded)
    }
}

fn take<'a>(
    objects: impl Iterator<Item = &'a Arc<CachedObject>>,
    held: &Held,
    matches: impl Fn(&CachedObject) -> bool,
    revision: Revision,
) -> Selected {
    let mut selected = Selected {
        revision,
        ..Selected::default()
    };
    for object in objects.take_while(|o| o.key.starts_with(&held.prefix)) {
        let full = held.limit > 0 && selected.objects.len() >= held.limit;
        if full {
            selected.remaining += 1;
        }
        if (full && selected.more) || !matches(object) {
            continue;
        }
        match full {
            true => selected.more = true,
            false => selected.objects.push(object.clone()),
        }
    }
    selected
}
