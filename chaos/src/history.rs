//! The one format of what a run did and saw; workloads write it, checkers read it.
//!
//! Times are nanoseconds on the one monotonic clock of the run. Must not know how anything was called or is checked.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub type Nanos = u64;
pub type Value = Arc<str>;

/// What the keys of a run are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Space {
    /// Put, get, compare-and-swap, delete: one key by itself.
    Register,
    /// Numbers separated by commas, appended to by compare-and-swap.
    List,
    /// Two keys that are only written together.
    Pair,
    /// Bound to a lease.
    Lease,
    /// Whoever holds it, bound to a lease, leads.
    Leader,
    /// Written only by who leads.
    Fenced,
}

const SPACES: [(Space, &str); 6] = [
    (Space::Register, "register"),
    (Space::List, "list"),
    (Space::Pair, "pair"),
    (Space::Lease, "lease"),
    (Space::Leader, "leader"),
    (Space::Fenced, "fenced"),
];

/// All keys of a run begin with this.
pub const PREFIX: &str = "/chaos/";

impl Space {
    /// What the keys of this space begin with, and no others.
    pub fn prefix(self) -> String {
        let named = SPACES.iter().find(|(space, _)| *space == self);
        let name = named.expect("every space has a name").1;
        format!("{PREFIX}{name}/")
    }
}

/// Keys of one space and number make one object; `slot` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub space: Space,
    pub number: u32,
    pub slot: u8,
}

impl Key {
    pub fn new(space: Space, number: u32, slot: u8) -> Self {
        Self {
            space,
            number,
            slot,
        }
    }

    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.strip_prefix(PREFIX)?;
        let mut parts = text.split('/');
        let name = parts.next()?;
        let (space, _) = SPACES.iter().find(|(_, known)| *known == name)?;
        let key = Self::new(
            *space,
            parts.next()?.parse().ok()?,
            parts.next()?.parse().ok()?,
        );
        parts.next().is_none().then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:06}/{}", self.space.prefix(), self.number, self.slot)
    }
}

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One call of one client.
#[derive(Clone, Debug, Serialize)]
pub struct Operation {
    pub client: u32,
    /// Which member was called.
    pub member: usize,
    pub invoke: Nanos,
    /// When it was answered or given up.
    pub done: Nanos,
    pub call: Call,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    Transaction(Transaction),
    Grant { ttl_seconds: i64 },
    KeepAlive { lease: i64 },
    Revoke { lease: i64 },
}

/// Writes if all conditions hold; reads if it does not write.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Transaction {
    pub conditions: Vec<Condition>,
    /// `None` deletes. The lease is that of all puts, 0 for none.
    pub writes: Vec<(Key, Option<Value>)>,
    pub lease: i64,
    pub reads: Vec<Key>,
    /// A read that may be old.
    pub serializable: bool,
}

/// The key holds the value; `by` is how the server is asked.
#[derive(Clone, Debug, Serialize)]
pub struct Condition {
    pub key: Key,
    /// `None`: there is no such key.
    pub value: Option<Value>,
    pub by: By,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    Value,
    Modified(i64),
    Created(i64),
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done {
        /// Of the answer's header; 0 if it names none.
        revision: i64,
        succeeded: bool,
        /// One for each read, if it did not write.
        seen: Vec<Option<Seen>>,
    },
    /// A lease and for how long it was promised; 0 seconds: there is none.
    Lease { lease: i64, ttl_seconds: i64 },
    /// No answer, or an error: it may have happened, may still happen, or never.
    Unknown { error: String },
}

/// A key as an answer showed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Seen {
    pub value: Value,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// One change as the store's own history holds it: a put, or a deletion if there is nothing left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Event {
    pub revision: i64,
    pub key: Key,
    pub put: Option<Seen>,
}

/// What one watcher got over one stream.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    pub watcher: u32,
    pub member: usize,
    pub start_revision: i64,
    pub prev_kv: bool,
    /// Only this space, or all.
    pub space: Option<Space>,
    pub responses: Vec<Response>,
    /// Where history began if that was why it ended.
    pub compacted: Option<i64>,
    /// It went on until the end of the run.
    pub to_the_end: bool,
}

/// Events that came in one message; none: a notice of progress up to the revision.
#[derive(Clone, Debug, Serialize)]
pub struct Response {
    pub at: Nanos,
    pub header_revision: i64,
    pub events: Vec<Mark>,
}

/// An event, small enough to keep millions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    pub revision: i64,
    pub digest: u64,
}

impl Mark {
    /// `before`: the key as it was, for watchers that ask for it.
    pub fn of(event: &Event, before: Option<&Seen>) -> Self {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (event, before).hash(&mut hasher);
        Self {
            revision: event.revision,
            digest: hasher.finish(),
        }
    }
}

/// A key that a watcher saw go away.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Gone {
    pub key: Key,
    pub revision: i64,
    pub at: Nanos,
}

/// A member at the end of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemberEnd {
    pub name: String,
    pub hash: u32,
    pub hash_revision: i64,
    /// A digest of the history that it told.
    pub events: u64,
    /// Why nothing is known of it.
    pub missing: Option<String>,
}

/// Everything that was recorded.
#[derive(Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub sessions: Vec<Session>,
    pub gone: Vec<Gone>,
    /// The store's own history from the first revision of the run to the last, in order.
    pub events: Vec<Event>,
    pub members: Vec<MemberEnd>,
    /// When the workload had ended and the faults were healed.
    pub ended: Nanos,
}

impl Operation {
    /// The transaction and its answer, if it has one.
    pub fn answered(&self) -> Option<(&Transaction, i64, bool, &[Option<Seen>])> {
        match (&self.call, &self.outcome) {
            (
                Call::Transaction(transaction),
                Outcome::Done {
                    revision,
                    succeeded,
                    seen,
                },
            ) => Some((transaction, *revision, *succeeded, seen)),
            _ => None,
        }
    }

    /// Whether it wrote something, as far as is known.
    pub fn wrote(&self) -> bool {
        self.answered()
            .is_some_and(|(transaction, _, succeeded, _)| {
                succeeded && !transaction.writes.is_empty()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for (space, _) in SPACES {
            let key = Key::new(space, 17, 1);
            assert_eq!(Key::parse(key.to_string().as_bytes()), Some(key));
        }
        assert_eq!(Key::parse(b"/other/1"), None);
    }
}
