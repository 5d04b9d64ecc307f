//! Clients that write to a store, and remember by how much its disk's record had grown when they asked and when they were
//! answered: so it is known what a store that lost power at a moment of the record must have, and what it may have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use xebec_proto::etcdserverpb as pb;

use crate::bench::store::Client;
use crate::random::Random;

const CLIENTS: usize = 8;
/// Each client's own.
const KEYS: u64 = 12;
const COMPACT_EVERY: usize = 300;
/// Bytes of values: small, middling and large ones.
const VALUE_BYTES: [u64; 4] = [40, 2_000, 60_000, 900_000];

/// One write to one key; the next to this key is asked for after this one's end.
struct Attempt {
    /// None: the key is deleted.
    value: Option<Bytes>,
    /// Length of the record when it was asked for.
    asked: u64,
    /// And when it was acknowledged, if it was.
    acknowledged: Option<u64>,
}

pub struct Clients {
    pub url: String,
    trace: PathBuf,
    attempts: RefCell<BTreeMap<String, Vec<Attempt>>>,
    random: RefCell<Random>,
    answers: Cell<usize>,
    /// Of values.
    bytes: watch::Sender<u64>,
    tasks: RefCell<JoinSet<()>>,
}

impl Clients {
    pub fn new(url: String, trace: PathBuf, seed: u64) -> Self {
        Self {
            url,
            trace,
            attempts: RefCell::default(),
            random: RefCell::new(Random::new(seed)),
            answers: Cell::new(0),
            bytes: watch::Sender::new(0),
            tasks: RefCell::default(),
        }
    }

    /// Writes that were acknowledged.
    pub fn answers(&self) -> usize {
        self.answers.get()
    }

    /// Reads everything: whatever was read once must stay, acknowledged or not.
    pub async fn read(&self) -> Result<()> {
        let found = everything(&self.url).await?;
        let now = self.recorded()?;
        for (key, attempts) in self.attempts.borrow_mut().iter_mut() {
            let found = found.get(key.as_bytes());
            let seen = attempts.iter_mut().rev();
            let mut seen = seen.filter(|attempt| attempt.value.as_ref() == found);
            if let Some(attempt) = seen.next() {
                attempt.acknowledged.get_or_insert(now);
            }
        }
        Ok(())
    }

    /// Starts clients that write until the store ends, and waits until so much was acknowledged.
    pub async fn write(self: Rc<Self>, bytes: u64) -> Result<()> {
        let mut acknowledged = self.bytes.subscribe();
        let until = *acknowledged.borrow() + bytes;
        for number in 0..CLIENTS {
            let clients = self.clone();
            self.tasks.borrow_mut().spawn_local(async move {
                // The store's end.
                drop(clients.write_on(number).await);
            });
        }
        acknowledged.wait_for(|bytes| *bytes >= until).await?;
        Ok(())
    }

    /// Waits until the clients have noticed that the store has ended.
    pub async fn ended(&self) {
        let mut tasks = self.tasks.take();
        while tasks.join_next().await.is_some() {}
    }

    /// Ends the clients, whatever they wait for.
    pub async fn stop(&self) {
        self.tasks.take().shutdown().await;
    }

    async fn write_on(&self, number: usize) -> Result<()> {
        let client = Client::connect(&self.url).await?;
        loop {
            let (key, value) = self.next(number);
            self.begin(&key, value.clone())?;
            let revision = match value {
                Some(value) => {
                    let request = pb::PutRequest {
                        key: key.clone().into(),
                        value,
                        ..Default::default()
                    };
                    client.put(&request).await?.header
                }
                None => {
                    let request = pb::DeleteRangeRequest {
                        key: key.clone().into(),
                        ..Default::default()
                    };
                    let answer: pb::DeleteRangeResponse =
                        client.unary("KV/DeleteRange", &request).await?;
                    answer.header
                }
            };
            self.acknowledge(&key)?;
            if self.answers.get().is_multiple_of(COMPACT_EVERY) {
                let request = pb::CompactionRequest {
                    revision: revision.map_or(0, |header| header.revision),
                    ..Default::default()
                };
                // Another client may have compacted further.
                let done: Result<pb::CompactionResponse> =
                    client.unary("KV/Compact", &request).await;
                drop(done);
            }
        }
    }

    fn next(&self, client: usize) -> (String, Option<Bytes>) {
        let mut random = self.random.borrow_mut();
        let key = format!("{client}/{}", random.below(KEYS));
        if random.percent(10) {
            return (key, None);
        }
        let bytes = match random.below(100) {
            0..60 => VALUE_BYTES[0],
            60..85 => VALUE_BYTES[1],
            85..98 => VALUE_BYTES[2],
            _ => VALUE_BYTES[3],
        };
        let len = random.between(8, bytes);
        let words = (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
        (key, Some(words.collect()))
    }

    fn recorded(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.trace)?.len())
    }

    fn begin(&self, key: &str, value: Option<Bytes>) -> Result<()> {
        let attempt = Attempt {
            value,
            asked: self.recorded()?,
            acknowledged: None,
        };
        let mut attempts = self.attempts.borrow_mut();
        attempts.entry(key.to_owned()).or_default().push(attempt);
        Ok(())
    }

    fn acknowledge(&self, key: &str) -> Result<()> {
        let now = self.recorded()?;
        let mut attempts = self.attempts.borrow_mut();
        let last = attempts
            .get_mut(key)
            .and_then(|attempts| attempts.last_mut());
        if let Some(attempt) = last {
            attempt.acknowledged = Some(now);
            let bytes = attempt.value.as_ref().map_or(0, Bytes::len) as u64;
            self.bytes.send_modify(|sum| *sum += bytes);
        }
        self.answers.set(self.answers.get() + 1);
        Ok(())
    }

    /// Whether the store has what it must have, and nothing that it cannot have, if power was lost when the record had
    /// this length.
    pub async fn check(&self, url: &str, moment: u64) -> Result<()> {
        let found = everything(url).await?;
        let attempts = self.attempts.borrow();
        for (key, attempts) in attempts.iter() {
            check_key(attempts, moment, found.get(key.as_bytes()))
                .map_err(|error| error.context(key.clone()))?;
        }
        for key in found.keys() {
            let known = std::str::from_utf8(key).is_ok_and(|key| attempts.contains_key(key));
            ensure!(known, "a key that nobody wrote: {key:?}");
        }
        Ok(())
    }
}

async fn everything(url: &str) -> Result<BTreeMap<Bytes, Bytes>> {
    let all = pb::RangeRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        ..Default::default()
    };
    let answer = Client::connect(url).await?.range(&all).await?;
    let found = answer.kvs.into_iter().map(|kv| (kv.key, kv.value));
    Ok(found.collect())
}

fn check_key(attempts: &[Attempt], moment: u64, found: Option<&Bytes>) -> Result<()> {
    let acknowledged = |attempt: &Attempt| attempt.acknowledged.is_some_and(|at| at <= moment);
    let newest = attempts.iter().rposition(acknowledged);
    let mut may_be = attempts[newest.unwrap_or(0)..]
        .iter()
        .filter(|attempt| attempt.asked <= moment);
    if newest.is_none() && found.is_none() {
        return Ok(());
    }
    if may_be.any(|attempt| attempt.value.as_ref() == found) {
        return Ok(());
    }
    let len = found.map(Bytes::len);
    match attempts
        .iter()
        .rposition(|attempt| attempt.value.as_ref() == found)
    {
        Some(which) => {
            bail!("write {which} of {len:?} bytes is there, {newest:?} was acknowledged")
        }
        None => bail!("{len:?} bytes that nobody wrote"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(value: Option<&'static str>, asked: u64, acknowledged: Option<u64>) -> Attempt {
        Attempt {
            value: value.map(|text| Bytes::from_static(text.as_bytes())),
            asked,
            acknowledged,
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_asked_for_may_be() {
        let attempts = [
            attempt(Some("a"), 10, Some(20)),
            attempt(None, 30, Some(40)),
            attempt(Some("b"), 50, None),
        ];
        let check = |moment, found: Option<&'static str>| {
            let found = found.map(|text| Bytes::from_static(text.as_bytes()));
            check_key(&attempts, moment, found.as_ref()).is_ok()
        };
        assert!(check(5, None) && !check(5, Some("a")));
        assert!(check(15, None) && check(15, Some("a")));
        assert!(!check(25, None) && check(25, Some("a")));
        assert!(check(35, None) && check(35, Some("a")));
        assert!(check(45, None) && !check(45, Some("a")) && !check(45, Some("b")));
        assert!(check(55, None) && check(55, Some("b")) && !check(55, Some("c")));
    }
}
