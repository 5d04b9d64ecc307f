//! One client: a connection to one member, another one after a failure, and a record of every call.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Shared, wire};
use crate::bench::store::Client;
use crate::cluster::connect;
use crate::history::{Call, Condition, Key, Operation, Outcome, Seen, Transaction, Value};
use crate::random::Random;

/// A call without an answer is given up after this.
const CALL_LIMIT: Duration = Duration::from_secs(4);
/// Before the next member is tried when one cannot be reached.
const RETRY: Duration = Duration::from_millis(50);
/// Calls after which a client moves to another member though nothing failed, in the mean.
const MOVE_EVERY: u64 = 50;

pub struct Caller {
    pub shared: Rc<Shared>,
    pub random: Random,
    number: u32,
    member: usize,
    client: Option<Client>,
}

impl Caller {
    pub fn new(shared: Rc<Shared>, number: u32, mut random: Random) -> Self {
        let member = random.index(shared.urls.len());
        Self {
            shared,
            random,
            number,
            member,
            client: None,
        }
    }

    pub fn stopping(&self) -> bool {
        self.shared.stopping.get()
    }

    pub fn value(&self) -> Value {
        self.shared.value()
    }

    /// A connection to some member; none if the run ends first.
    async fn client(&mut self) -> Option<Client> {
        if self.random.below(MOVE_EVERY) == 0 {
            self.leave();
        }
        while self.client.is_none() {
            if self.stopping() {
                return None;
            }
            match connect(&self.shared.urls[self.member]).await {
                Ok(client) => self.client = Some(client),
                Err(_) => {
                    self.leave();
                    sleep(RETRY).await;
                }
            }
        }
        self.client.clone()
    }

    /// The next call goes to another member.
    fn leave(&mut self) {
        self.client = None;
        let step = 1 + self.random.index(self.shared.urls.len().max(2) - 1);
        self.member = (self.member + step) % self.shared.urls.len();
    }

    /// Calls and records; none if the run ends before the call is made.
    pub async fn call(&mut self, call: Call) -> Option<Outcome> {
        let client = self.client().await?;
        let member = self.member;
        let invoke = self.shared.now();
        let answer = timeout(CALL_LIMIT, wire::call(&client, &call)).await;
        let done = self.shared.now();
        let outcome = match answer {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => self.unknown(format!("{error:#}")),
            Err(_) => self.unknown("no answer in time".to_owned()),
        };
        self.shared.operations.borrow_mut().push(Operation {
            client: self.number,
            member,
            invoke,
            done,
            call,
            outcome: outcome.clone(),
        });
        Some(outcome)
    }

    fn unknown(&mut self, error: String) -> Outcome {
        self.leave();
        Outcome::Unknown { error }
    }

    /// What the transaction saw, and whether it succeeded; none without an answer.
    pub async fn transact(
        &mut self,
        transaction: Transaction,
    ) -> Option<(bool, Vec<Option<Seen>>)> {
        match self.call(Call::Transaction(transaction)).await? {
            Outcome::Done {
                succeeded, seen, ..
            } => Some((succeeded, seen)),
            _ => None,
        }
    }

    pub async fn read(&mut self, keys: &[Key]) -> Option<Vec<Option<Seen>>> {
        let transaction = Transaction {
            reads: keys.to_vec(),
            ..Default::default()
        };
        self.transact(transaction).await.map(|(_, seen)| seen)
    }

    /// Writes under conditions; without success it sees what is there instead.
    pub async fn write(
        &mut self,
        conditions: Vec<Condition>,
        writes: Vec<(Key, Option<Value>)>,
    ) -> Option<bool> {
        let reads = match conditions.is_empty() {
            true => Vec::new(),
            false => writes.iter().map(|(key, _)| *key).collect(),
        };
        let transaction = Transaction {
            conditions,
            writes,
            reads,
            ..Default::default()
        };
        self.transact(transaction)
            .await
            .map(|(succeeded, _)| succeeded)
    }

    /// A lease and the seconds it was promised for.
    pub async fn lease(&mut self, call: Call) -> Option<(i64, i64)> {
        match self.call(call).await? {
            Outcome::Lease { lease, ttl_seconds } => Some((lease, ttl_seconds)),
            _ => None,
        }
    }
}
