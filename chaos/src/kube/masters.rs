//! One client: a connection to one master, another one after a failure.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use hyper::Method;
use tokio::time::sleep;

use super::{CALL_LIMIT, Kube};
use crate::cluster::{Api, Lines};
use crate::history::{Call, Operation, Outcome, Transaction};
use crate::random::Random;

const RETRY: Duration = Duration::from_millis(50);
/// Calls after which a client moves though nothing failed, in the mean.
const MOVE_EVERY: u64 = 50;

pub struct Masters {
    pub kube: Rc<Kube>,
    pub random: Random,
    pub member: usize,
    number: u32,
    api: Api,
}

impl Masters {
    pub fn new(kube: Rc<Kube>, number: u32, mut random: Random) -> Self {
        let member = random.index(kube.masters.len());
        let api = kube.api(member);
        Self {
            kube,
            random,
            member,
            number,
            api,
        }
    }

    pub fn stopping(&self) -> bool {
        self.kube.shared.stopping.get()
    }

    /// The next call goes to another master.
    pub async fn leave(&mut self) {
        let count = self.kube.masters.len();
        self.member = (self.member + 1 + self.random.index(count.max(2) - 1)) % count;
        self.api = self.kube.api(self.member);
        sleep(RETRY).await;
    }

    /// One attempt, without a record.
    pub async fn call(&mut self, method: Method, path: &str, body: &str) -> Result<(u16, Bytes)> {
        if self.random.below(MOVE_EVERY) == 0 {
            self.leave().await;
        }
        let answer = self.api.call(method, path, body, CALL_LIMIT).await;
        if answer.is_err() {
            self.leave().await;
        }
        answer
    }

    pub async fn watch(&mut self, path: &str) -> Result<Lines> {
        self.api.watch(path, CALL_LIMIT).await
    }

    /// One attempt, recorded. `outcome` reads the answer; what it does not understand is unknown.
    pub async fn record(
        &mut self,
        (method, path, body): (Method, &str, &str),
        transaction: Transaction,
        outcome: impl FnOnce(u16, &[u8]) -> Option<Outcome>,
    ) -> Option<Outcome> {
        let (member, invoke) = (self.member, self.kube.shared.now());
        let answer = self.api.call(method, path, body, CALL_LIMIT).await;
        let done = self.kube.shared.now();
        let outcome = match &answer {
            Ok((status, body)) => outcome(*status, body).unwrap_or_else(|| Outcome::Unknown {
                error: format!("{status}: {}", String::from_utf8_lossy(body)),
            }),
            Err(error) => Outcome::Unknown {
                error: format!("{error:#}"),
            },
        };
        let is_known = !matches!(outcome, Outcome::Unknown { .. });
        self.kube.shared.operations.borrow_mut().push(Operation {
            client: self.number,
            member,
            invoke,
            done,
            call: Call::Transaction(transaction),
            outcome: outcome.clone(),
        });
        if !is_known || self.random.below(MOVE_EVERY) == 0 {
            self.leave().await;
        }
        is_known.then_some(outcome)
    }
}
