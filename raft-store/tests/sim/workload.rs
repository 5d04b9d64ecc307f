//! What clients of one member do until it goes away: reads and writes of a few registers, leases, and watches.

use std::time::Duration;

use bytes::Bytes;
use raft_store::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::history::{Held, Op};
use super::history::{Seen, Shared, held};
use super::network::{MILLI, Net};

const KEYS: u32 = 5;
/// Seconds a lease lasts.
const LEASE_TTL: i64 = 3;

/// One client, with a member of its own.
pub struct Client {
    pub id: u64,
    pub store: Store,
    pub net: Net,
    pub history: Shared,
    random: StdRng,
    count: u64,
    /// Modification revisions that it has seen, to compare with.
    known: Vec<i64>,
}

impl Client {
    pub fn new(id: u64, seed: u64, store: Store, net: Net, history: Shared) -> Self {
        Self {
            id,
            store,
            net,
            history,
            random: StdRng::seed_from_u64(seed),
            count: 0,
            known: vec![0; KEYS as usize],
        }
    }

    /// Works until it is told to stop.
    pub async fn run(mut self) {
        loop {
            let pause = self.random.random_range(1..250);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if self.history.lock().stop {
                return;
            }
            let begun = self.net.now();
            let seen = self.act().await;
            let ended = self.net.now();
            let digest = match &seen {
                Seen::Wrote { revision, .. } | Seen::Read { revision, .. } => *revision as u64,
                _ => 0,
            };
            self.net.note(&[self.id, begun, ended, digest]);
            self.history.lock().ops.push(Op {
                client: self.id,
                begun,
                ended,
                seen,
            });
        }
    }

    fn value(&mut self) -> String {
        self.count += 1;
        let padding = self.random.random_range(0..400);
        format!("{}-{}-{}", self.id, self.count, "x".repeat(padding))
    }

    async fn act(&mut self) -> Seen {
        let at = self.random.random_range(0..KEYS);
        let key = format!("k{at}");
        match self.random.random_range(0..100) {
            0..30 => self.put(&key).await,
            30..55 => self.compare_and_put(&key, at as usize).await,
            55..63 => self.delete(&key).await,
            63..70 => self.put_two(&key).await,
            70..74 => self.lease().await,
            74..92 => self.get(&key, at as usize, false).await,
            _ => self.get(&key, at as usize, true).await,
        }
    }

    fn failed(&self, error: &Error, values: Vec<String>) -> Seen {
        *self
            .history
            .lock()
            .errors
            .entry(error.to_string())
            .or_default() += 1;
        match error {
            Error::TimeoutLeaderFailed | Error::OutcomeUnknown(_) => Seen::Unknown,
            _ => Seen::Refused { values },
        }
    }

    async fn put(&mut self, key: &str) -> Seen {
        let value = self.value();
        match self.store.put(put_request(key, &value, 0)).await {
            Ok(answer) => Seen::Wrote {
                revision: answer.revision,
                puts: vec![(key.to_owned(), value)],
                deletes: Vec::new(),
                expected: None,
            },
            Err(error) => self.failed(&error, vec![value]),
        }
    }

    async fn put_two(&mut self, key: &str) -> Seen {
        let (one, other) = (self.value(), self.value());
        let request = TxnRequest {
            success: vec![
                RequestOp::Put(put_request(key, &one, 0)),
                RequestOp::Put(put_request("pair", &other, 0)),
            ],
            ..Default::default()
        };
        match self.store.txn(request).await {
            Ok(answer) => Seen::Wrote {
                revision: answer.revision,
                puts: vec![(key.to_owned(), one), ("pair".to_owned(), other)],
                deletes: Vec::new(),
                expected: None,
            },
            Err(error) => self.failed(&error, vec![one, other]),
        }
    }

    async fn compare_and_put(&mut self, key: &str, at: usize) -> Seen {
        let value = self.value();
        let modified = self.known[at];
        let request = TxnRequest {
            compare: vec![Compare {
                range: KeyRange::single(key.to_owned()),
                op: CompareOp::Equal,
                target: CompareTarget::ModRevision(modified),
            }],
            success: vec![RequestOp::Put(put_request(key, &value, 0))],
            failure: vec![RequestOp::Range(range_request(key, false))],
            ..Default::default()
        };
        match self.store.txn(request).await {
            Ok(answer) if answer.succeeded => {
                self.known[at] = answer.revision;
                Seen::Wrote {
                    revision: answer.revision,
                    puts: vec![(key.to_owned(), value)],
                    deletes: Vec::new(),
                    expected: Some((key.to_owned(), modified)),
                }
            }
            Ok(answer) => match answer.responses.first() {
                Some(ResponseOp::Range(range)) => {
                    let found = range.kvs.first().map(|kv| held(kv).1);
                    self.known[at] = found.as_ref().map_or(0, |held| held.modified);
                    read(key, answer.revision, found, true)
                }
                other => panic!("a range was answered by {other:?}"),
            },
            Err(error) => self.failed(&error, vec![value]),
        }
    }

    async fn delete(&mut self, key: &str) -> Seen {
        let request = DeleteRangeRequest {
            range: KeyRange::single(key.to_owned()),
            ..Default::default()
        };
        match self.store.delete_range(request).await {
            Ok(answer) if answer.deleted == 1 => Seen::Wrote {
                revision: answer.revision,
                puts: Vec::new(),
                deletes: vec![key.to_owned()],
                expected: None,
            },
            Ok(answer) => read(key, answer.revision, None, true),
            Err(error) => self.failed(&error, Vec::new()),
        }
    }

    async fn get(&mut self, key: &str, at: usize, serializable: bool) -> Seen {
        match self.store.range(range_request(key, serializable)).await {
            Ok(answer) => {
                let found = answer.kvs.first().map(|kv| held(kv).1);
                self.known[at] = found.as_ref().map_or(0, |held| held.modified);
                read(key, answer.revision, found, !serializable)
            }
            Err(error) => self.failed(&error, Vec::new()),
        }
    }

    /// A key of its own under a lease, which is renewed sometimes.
    async fn lease(&mut self) -> Seen {
        let request = LeaseGrantRequest {
            id: 0,
            ttl: LEASE_TTL,
        };
        let granted = match self.store.lease_grant(request).await {
            Ok(granted) => granted,
            Err(error) => return self.failed(&error, Vec::new()),
        };
        let value = self.value();
        let key = format!("lease/{}-{}", self.id, self.count);
        let renew = self.random.random_bool(0.3);
        if renew {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let asked = self.net.now();
        let renewed = match renew {
            true => self.store.lease_keep_alive(granted.id).await,
            false => Err(Error::LeaseNotFound),
        };
        if renewed.is_ok_and(|renewed| renewed.ttl > 0) {
            let lasts = LEASE_TTL as u64 * 1_000 * MILLI;
            self.history
                .lock()
                .leased
                .insert(key.clone(), (asked, lasts));
        }
        match self.store.put(put_request(&key, &value, granted.id)).await {
            Ok(answer) => Seen::Wrote {
                revision: answer.revision,
                puts: vec![(key, value)],
                deletes: Vec::new(),
                expected: None,
            },
            Err(error) => self.failed(&error, vec![value]),
        }
    }
}

fn read(key: &str, revision: i64, found: Option<Held>, linearizable: bool) -> Seen {
    Seen::Read {
        revision,
        key: key.to_owned(),
        found,
        linearizable,
    }
}

fn put_request(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        lease,
        ..Default::default()
    }
}

fn range_request(key: &str, serializable: bool) -> RangeRequest {
    RangeRequest {
        range: KeyRange::single(Bytes::from(key.to_owned())),
        serializable,
        ..Default::default()
    }
}

/// Goes on with watch number `at`, at this member, until the member goes away.
pub async fn watch(at: usize, store: Store, net: Net, history: Shared) {
    let (key, next) = {
        let history = history.lock();
        let watch = &history.watches[at];
        (watch.key.clone(), watch.next)
    };
    let range = match key {
        Some(key) => KeyRange::single(key),
        None => KeyRange::all(),
    };
    let watcher = store.watch(WatchRequest {
        range,
        start_revision: next,
        progress: at.is_multiple_of(2),
        ..Default::default()
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(Error::Compacted { compact_revision }) => {
            // It begins again where history does.
            let mut history = history.lock();
            history.watches[at].next = compact_revision;
            history.watches[at].attached = false;
            return;
        }
        Err(error) => return history.violation(format!("watch {at}: {error}")),
    };
    loop {
        match watcher.next().await {
            Ok(batch) => {
                let now = net.now();
                net.note(&[at as u64, batch.revision as u64, batch.events.len() as u64]);
                history.lock().take_batch(at, &batch, now);
            }
            Err(error) => {
                let mut history = history.lock();
                let watch = &mut history.watches[at];
                watch.attached = false;
                if let WatchError::Compacted { compact_revision } = error {
                    watch.next = compact_revision;
                }
                return;
            }
        }
    }
}
