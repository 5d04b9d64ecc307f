//! The workload at the level of Kubernetes: objects with watchers, a Deployment and a StatefulSet that are scaled and
//! updated, Jobs, nodes without containers that say their pods run. All write the history in the same terms as at the level of the store: an
//! object's resourceVersion is its revision.

mod end;
mod jobs;
mod masters;
mod objects;
mod pods;
mod watcher;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::bench::Kubeconfig;
use crate::cluster::{Api, Cluster};
use crate::failover::node;
use crate::history::Event;
use crate::load::{Pace, Shared};
use crate::random::Random;

pub use end::collect;
use masters::Masters;

/// One request may take so long.
const CALL_LIMIT: Duration = Duration::from_secs(4);
const WATCHERS: u32 = 4;
/// More than one, so that a pod could be bound twice.
const NODES: [&str; 3] = ["fake-1", "fake-2", "fake-3"];

/// What all of a run share, beside what both levels do.
pub struct Kube {
    pub shared: Rc<Shared>,
    masters: Vec<Kubeconfig>,
    /// Everything that any watcher saw, by revision.
    events: RefCell<BTreeMap<i64, Event>>,
    /// Nodes that each pod was seen on.
    bindings: RefCell<BTreeMap<String, Vec<String>>>,
    objects: objects::Objects,
    /// Uids of the pods that run, by name, and names that ran twice at a time.
    running: RefCell<BTreeMap<String, String>>,
    twice: RefCell<Vec<String>>,
    /// The nodes shall end.
    stopping_pods: Cell<bool>,
}

impl Kube {
    pub fn new(shared: Rc<Shared>, cluster: &Cluster) -> Result<Self> {
        let numbers = 0..cluster.members.len();
        let masters = numbers.map(|number| cluster.kubeconfig(number));
        Ok(Self {
            shared,
            masters: masters.collect::<Result<_>>()?,
            events: RefCell::default(),
            bindings: RefCell::default(),
            objects: objects::Objects::default(),
            running: RefCell::default(),
            twice: RefCell::default(),
            stopping_pods: Cell::new(false),
        })
    }

    fn api(&self, number: usize) -> Api {
        Api::new(self.masters[number].clone())
    }
}

/// Who works: clients end when told, watchers once they have seen the last revision.
pub struct Working {
    pub clients: JoinSet<()>,
    pub watchers: JoinSet<()>,
    pub node: JoinSet<()>,
}

pub async fn start(kube: &Rc<Kube>, pace: Pace, random: &Random) -> Result<Working> {
    let mut api = kube.api(0);
    for name in NODES {
        node::make(&mut api, name).await?;
    }
    pods::create(&mut api).await?;
    let mut working = Working {
        clients: JoinSet::new(),
        watchers: JoinSet::new(),
        node: JoinSet::new(),
    };
    let pause = Duration::from_secs_f64(f64::from(pace.clients) / pace.rate);
    for number in 0..pace.clients {
        let masters = Masters::new(kube.clone(), number, random.fork(u64::from(number)));
        working.clients.spawn_local(objects::run(masters, pause));
    }
    let masters = Masters::new(kube.clone(), pace.clients, random.fork(500));
    working.clients.spawn_local(pods::change(masters));
    let masters = Masters::new(kube.clone(), pace.clients + 3, random.fork(503));
    working.clients.spawn_local(jobs::make(masters));
    let masters = Masters::new(kube.clone(), pace.clients + 1, random.fork(501));
    working.node.spawn_local(pods::run_node(masters));
    let masters = Masters::new(kube.clone(), pace.clients + 2, random.fork(502));
    working.node.spawn_local(pods::beat(masters));
    for number in 0..WATCHERS {
        let masters = Masters::new(kube.clone(), number, random.fork(1000 + u64::from(number)));
        working.watchers.spawn_local(watcher::run(masters, number));
    }
    Ok(working)
}
