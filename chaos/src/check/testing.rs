//! Hand-made histories for the checkers' tests, told call by call: each begins after the one before has ended.

use super::Findings;
use crate::history::{
    By, Call, Condition, Event, History, Key, Nanos, Operation, Outcome, Seen, Space, Transaction,
    Value,
};

#[derive(Default)]
pub struct Story {
    pub history: History,
    clock: Nanos,
    pub space: Option<Space>,
}

/// Fails unless the findings are none (for "") or one that contains `want`.
pub fn expect(findings: &Findings, want: &str) {
    let texts = findings.texts();
    if want.is_empty() {
        assert!(texts.is_empty(), "{texts:#?}");
    } else {
        assert!(
            texts.iter().any(|text| text.contains(want)),
            "{want}: {texts:#?}"
        );
    }
}

fn value(text: Option<&str>) -> Option<Value> {
    text.map(Into::into)
}

impl Story {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn of(space: Space) -> Self {
        Self {
            space: Some(space),
            ..Self::default()
        }
    }

    /// A key by its letter: small letters are slot 0, capitals slot 1 of the same object.
    pub fn key(&self, name: &str) -> Key {
        let letter = name.as_bytes()[0];
        let slot = u8::from(letter.is_ascii_uppercase());
        let number = u32::from(letter.to_ascii_lowercase());
        Key::new(self.space.unwrap_or(Space::Register), number, slot)
    }

    fn call(mut self, transaction: Transaction, outcome: Outcome) -> Self {
        self.clock += 10;
        self.history.operations.push(Operation {
            client: 0,
            member: 0,
            invoke: self.clock,
            done: self.clock + 5,
            call: Call::Transaction(transaction),
            outcome,
        });
        self
    }

    /// When the last call began and ended.
    pub fn at(mut self, invoke: Nanos, done: Nanos) -> Self {
        let last = self.history.operations.last_mut().expect("a call");
        (last.invoke, last.done) = (invoke, done);
        self
    }

    fn wrote(revision: i64, succeeded: bool) -> Outcome {
        Outcome::Done {
            revision,
            succeeded,
            seen: Vec::new(),
        }
    }

    pub fn put(self, key: &str, to: &str, revision: i64) -> Self {
        let writes = vec![(self.key(key), value(Some(to)))];
        let transaction = Transaction {
            writes,
            ..Default::default()
        };
        self.call(transaction, Self::wrote(revision, true))
    }

    pub fn put_all(self, writes: &[(&str, &str)], revision: i64) -> Self {
        let writes = writes
            .iter()
            .map(|(key, to)| (self.key(key), value(Some(to))));
        let transaction = Transaction {
            writes: writes.collect(),
            ..Default::default()
        };
        self.call(transaction, Self::wrote(revision, true))
    }

    pub fn lost_put(self, key: &str, to: &str) -> Self {
        let story = self.put(key, to, 0);
        story.unknown()
    }

    /// The last call was not answered.
    pub fn unknown(mut self) -> Self {
        let last = self.history.operations.last_mut().expect("a call");
        last.outcome = Outcome::Unknown {
            error: "no answer".to_owned(),
        };
        self
    }

    pub fn cas(
        self,
        key: &str,
        from: Option<&str>,
        to: &str,
        succeeded: bool,
        revision: i64,
    ) -> Self {
        let key = self.key(key);
        let transaction = Transaction {
            conditions: vec![Condition {
                key,
                value: value(from),
                by: By::Value,
            }],
            writes: vec![(key, value(Some(to)))],
            ..Default::default()
        };
        self.call(transaction, Self::wrote(revision, succeeded))
    }

    pub fn delete(self, key: &str, from: &str, revision: i64) -> Self {
        let mut story = self.cas(key, Some(from), "", true, revision);
        let last = story.history.operations.last_mut().expect("a call");
        if let Call::Transaction(transaction) = &mut last.call {
            transaction.writes[0].1 = None;
        }
        story
    }

    /// A write under a condition on another key's create revision.
    pub fn fenced(
        self,
        key: &str,
        to: &str,
        by: (Key, i64),
        succeeded: bool,
        revision: i64,
    ) -> Self {
        let transaction = Transaction {
            conditions: vec![Condition {
                key: by.0,
                value: value(Some("any")),
                by: By::Created(by.1),
            }],
            writes: vec![(self.key(key), value(Some(to)))],
            ..Default::default()
        };
        self.call(transaction, Self::wrote(revision, succeeded))
    }

    pub fn read(self, key: &str, found: Option<&str>, revision: i64) -> Self {
        self.read_all(&[(key, found)], revision)
    }

    pub fn old_read(self, key: &str, found: Option<&str>, revision: i64) -> Self {
        let mut story = self.read(key, found, revision);
        let last = story.history.operations.last_mut().expect("a call");
        if let Call::Transaction(transaction) = &mut last.call {
            transaction.serializable = true;
        }
        story
    }

    pub fn read_all(self, found: &[(&str, Option<&str>)], revision: i64) -> Self {
        let transaction = Transaction {
            reads: found.iter().map(|(key, _)| self.key(key)).collect(),
            ..Default::default()
        };
        let seen = found.iter().map(|(_, found)| Self::seen(*found, revision));
        let outcome = Outcome::Done {
            revision,
            succeeded: true,
            seen: seen.collect(),
        };
        self.call(transaction, outcome)
    }

    fn seen(found: Option<&str>, revision: i64) -> Option<Seen> {
        Some(Seen {
            value: value(found)?,
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        })
    }

    /// The store's history goes on with a put; versions are those that belong there.
    pub fn event(mut self, key: &str, to: &str, revision: i64) -> Self {
        let key = self.key(key);
        let events = &self.history.events;
        let last = events.iter().rev().find(|event| event.key == key);
        let before = last.and_then(|event| event.put.as_ref());
        let put = Seen {
            value: to.into(),
            create_revision: before.map_or(revision, |seen| seen.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |seen| seen.version + 1),
            lease: 0,
        };
        self.history.events.push(Event {
            revision,
            key,
            put: Some(put),
        });
        self
    }

    pub fn gone(mut self, key: &str, revision: i64) -> Self {
        let key = self.key(key);
        self.history.events.push(Event {
            revision,
            key,
            put: None,
        });
        self
    }
}
