//! The workload at the level of the store: clients that call, each its own way, and watchers; all write the history.
//!
//! Must not know faults: to a client they are answers that fail or do not come.

mod caller;
mod election;
mod leases;
mod objects;
pub mod watcher;
pub mod wire;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::history::{Gone, Nanos, Operation, Session, Value};
use crate::random::Random;
use caller::Caller;

/// What all of a run share.
pub struct Shared {
    start: Instant,
    pub urls: Vec<String>,
    pub stopping: Cell<bool>,
    pub operations: RefCell<Vec<Operation>>,
    pub sessions: RefCell<Vec<Session>>,
    pub gone: RefCell<Vec<Gone>>,
    /// The revision that watchers shall have seen before they end, once it is known.
    pub last_revision: Cell<Option<i64>>,
    /// Values are unique in a run.
    values: Cell<u64>,
}

impl Shared {
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            start: Instant::now(),
            urls,
            stopping: Cell::new(false),
            operations: RefCell::default(),
            sessions: RefCell::default(),
            gone: RefCell::default(),
            last_revision: Cell::new(None),
            values: Cell::new(0),
        }
    }

    pub fn now(&self) -> Nanos {
        u64::try_from(self.start.elapsed().as_nanos()).expect("a run lasts less than centuries")
    }

    pub fn value(&self) -> Value {
        let value = self.values.get() + 1;
        self.values.set(value);
        value.to_string().into()
    }
}

/// How much is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Clients at registers, lists and pairs.
    pub clients: u32,
    /// Calls of all of them per second, at most.
    pub rate: f64,
}

/// Clients at leases, and candidates for leadership.
const LEASE_CLIENTS: u32 = 3;
const CANDIDATES: u32 = 2;
const WATCHERS: u32 = 6;

/// Starts everyone. Clients end once `stopping` is set, watchers once they have seen the last revision.
pub fn start(shared: &Rc<Shared>, pace: Pace, random: &Random) -> (JoinSet<()>, JoinSet<()>) {
    let mut clients = JoinSet::new();
    let objects = Rc::new(objects::Objects::default());
    let pause = Duration::from_secs_f64(f64::from(pace.clients) / pace.rate);
    for number in 0..pace.clients {
        let caller = Caller::new(shared.clone(), number, random.fork(u64::from(number)));
        clients.spawn_local(objects::run(caller, objects.clone(), pause));
    }
    let leases = Rc::new(Cell::new(0));
    for number in pace.clients..pace.clients + LEASE_CLIENTS {
        let caller = Caller::new(shared.clone(), number, random.fork(u64::from(number)));
        clients.spawn_local(leases::run(caller, leases.clone()));
    }
    let first = pace.clients + LEASE_CLIENTS;
    for number in first..first + CANDIDATES {
        let caller = Caller::new(shared.clone(), number, random.fork(u64::from(number)));
        clients.spawn_local(election::run(caller));
    }
    let mut watchers = JoinSet::new();
    for number in 0..WATCHERS {
        let random = random.fork(1000 + u64::from(number));
        watchers.spawn_local(watcher::run(shared.clone(), number, random));
    }
    (clients, watchers)
}

/// Between two calls: half to one and a half of `mean`.
pub async fn pause(random: &mut Random, mean: Duration) {
    sleep(mean.mul_f64(random.between(50, 150) as f64 / 100.0)).await;
}
