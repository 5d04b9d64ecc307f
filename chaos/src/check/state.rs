//! The store's history, replayed: what each key was at each revision.

use std::collections::{BTreeMap, HashMap};

use crate::history::{Event, Key, Seen};

pub struct States<'a> {
    /// Per key: from which revision on it was this.
    versions: HashMap<Key, BTreeMap<i64, Option<&'a Seen>>>,
}

impl<'a> States<'a> {
    pub fn of(events: &'a [Event]) -> Self {
        let mut versions: HashMap<Key, BTreeMap<i64, Option<&Seen>>> = HashMap::new();
        for event in events {
            let key = versions.entry(event.key).or_default();
            key.insert(event.revision, event.put.as_ref());
        }
        Self { versions }
    }

    /// The key as of `revision`.
    pub fn at(&self, key: Key, revision: i64) -> Option<&'a Seen> {
        let versions = self.versions.get(&key)?;
        versions.range(..=revision).next_back()?.1.as_ref().copied()
    }

    /// What was done to the key at exactly `revision`.
    pub fn change(&self, key: Key, revision: i64) -> Option<Option<&'a Seen>> {
        self.versions.get(&key)?.get(&revision).copied()
    }
}
