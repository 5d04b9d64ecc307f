//! The way to each other member: its addresses, and a connection that is made when it is needed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::connection::Connection;
use super::frame::Kind;
use super::greeting::{Hello, Me, Refusal, Roster};
use super::net::PeerNetwork;
use crate::Error;
use crate::metrics::{Metrics, PeerMetrics};
use crate::raft::Membership;

/// Why a call was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    #[error("the member has no known address")]
    NoAddress,
    #[error("the member cannot be reached: {0}")]
    Unreachable(String),
    #[error("the member refuses this one: {0}")]
    Refused(#[from] Refusal),
    /// The call may or may not have arrived.
    #[error("the connection broke")]
    Broken,
    #[error("too many calls are under way")]
    Busy,
    #[error("no answer in time")]
    Timeout,
    /// The member's own answer.
    #[error("{0}")]
    Failed(Error),
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        Self::Unreachable(error.to_string())
    }
}

impl PeerError {
    /// Whether the call certainly had no effect.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::NoAddress | Self::Unreachable(_) | Self::Refused(_) | Self::Busy
        )
    }
}

/// The ways to all other members.
pub struct Peers {
    pub me: Me,
    network: Arc<dyn PeerNetwork>,
    /// Where the connections' tasks run.
    runtime: tokio::runtime::Handle,
    silence: Duration,
    metrics: Metrics,
    links: Mutex<BTreeMap<u64, Arc<Link>>>,
    roster: Mutex<Roster>,
    /// This member is one and has no vote.
    learns: AtomicBool,
    /// Another member said that this one can never take part again.
    excluded: watch::Sender<Option<Refusal>>,
}

impl Peers {
    /// `silence` is how long a member may say nothing before it is asked whether it still lives.
    pub fn new(
        me: Me,
        network: Arc<dyn PeerNetwork>,
        runtime: tokio::runtime::Handle,
        silence: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            me,
            network,
            runtime,
            silence,
            metrics,
            links: Mutex::default(),
            roster: Mutex::default(),
            learns: AtomicBool::new(false),
            excluded: watch::Sender::new(None),
        }
    }

    /// Takes in who is a member now, and who no longer is.
    pub fn set_members(&self, membership: &Membership, removed: impl IntoIterator<Item = u64>) {
        let mut roster = self.roster.lock();
        roster.removed.extend(removed);
        roster.incarnations = membership
            .nodes()
            .map(|(id, info)| (*id, info.incarnation))
            .collect();
        drop(roster);
        let me = self.me.member;
        let votes = membership.voter_ids().any(|id| id == me);
        let learns = !votes && membership.get_node(&me).is_some();
        self.learns.store(learns, Ordering::Relaxed);
        for (id, info) in membership.nodes() {
            self.link(*id).set(&info.peer_urls, info.incarnation);
        }
        let mut links = self.links.lock();
        links.retain(|id, _| membership.get_node(id).is_some());
    }

    pub fn roster(&self) -> Roster {
        self.roster.lock().clone()
    }

    /// Whether this member is a learner.
    pub fn is_learner(&self) -> bool {
        self.learns.load(Ordering::Relaxed)
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.roster.lock().removed.contains(&id)
    }

    /// The way to a member.
    pub fn link(&self, id: u64) -> Arc<Link> {
        let mut links = self.links.lock();
        let link = links.entry(id).or_insert_with(|| {
            Arc::new(Link {
                id,
                me: self.me,
                network: self.network.clone(),
                runtime: self.runtime.clone(),
                silence: self.silence,
                metrics: self.metrics.clone(),
                state: Mutex::default(),
                excluded: self.excluded.clone(),
            })
        });
        link.clone()
    }

    /// What is counted of a caller.
    pub fn metrics_of(&self, hello: &Hello) -> PeerMetrics {
        match hello.is_stranger() {
            true => PeerMetrics::default(),
            false => self.metrics.of_peer(hello.from),
        }
    }

    /// Told why, once this member is known to be one no longer.
    pub fn excluded(&self) -> watch::Receiver<Option<Refusal>> {
        self.excluded.subscribe()
    }

    pub fn exclude(&self, refusal: Refusal) {
        self.excluded.send_replace(Some(refusal));
    }
}

/// Asks whoever answers at `url`, as one who is no member.
pub async fn introduce(
    network: &dyn PeerNetwork,
    url: &str,
    kind: Kind,
    timeout: Duration,
) -> Result<Bytes, PeerError> {
    let call = async {
        let stream = network.dial(url).await?;
        let runtime = tokio::runtime::Handle::current();
        let (hello, metrics) = (Hello::stranger(), PeerMetrics::default());
        let connection = Connection::open(stream, &hello, &runtime, timeout, metrics).await?;
        connection.start(kind, Bytes::new())?.await
    };
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer,
        Err(_) => Err(PeerError::Timeout),
    }
}

/// The way to one member.
pub struct Link {
    pub id: u64,
    me: Me,
    network: Arc<dyn PeerNetwork>,
    runtime: tokio::runtime::Handle,
    silence: Duration,
    metrics: Metrics,
    state: Mutex<State>,
    excluded: watch::Sender<Option<Refusal>>,
}

type Dialed = Result<Arc<Connection>, PeerError>;

#[derive(Default)]
struct State {
    urls: Vec<String>,
    incarnation: u64,
    open: Option<Arc<Connection>>,
    dialing: Option<Shared<BoxFuture<'static, Dialed>>>,
    /// What was said of the last failure: each is told once.
    told: String,
}

impl Link {
    fn set(&self, urls: &[String], incarnation: u64) {
        let mut state = self.state.lock();
        if state.urls != urls {
            state.urls = urls.to_vec();
            // Calls go to the new address from now on; those under way end where they went.
            state.open = None;
            state.dialing = None;
        }
        state.incarnation = incarnation;
    }

    /// The open connection, or a new one. Those who wait share one attempt.
    pub async fn connection(self: &Arc<Self>) -> Dialed {
        let dialing = {
            let mut state = self.state.lock();
            match &state.open {
                Some(open) if open.is_open() => return Ok(open.clone()),
                _ => state.open = None,
            }
            match &state.dialing {
                Some(dialing) => dialing.clone(),
                None => {
                    let dialing = self.clone().dial(state.urls.clone(), state.incarnation);
                    let task = self.runtime.spawn(dialing);
                    let dialing = task
                        .map(|dialed| dialed.unwrap_or(Err(PeerError::Broken)))
                        .boxed()
                        .shared();
                    state.dialing = Some(dialing.clone());
                    dialing
                }
            }
        };
        dialing.await
    }

    /// A connection that is not shared, for what would hold up other calls.
    pub async fn separate_connection(self: &Arc<Self>) -> Dialed {
        let (urls, incarnation) = {
            let state = self.state.lock();
            (state.urls.clone(), state.incarnation)
        };
        self.connect(&urls, incarnation).await
    }

    async fn dial(self: Arc<Self>, urls: Vec<String>, incarnation: u64) -> Dialed {
        let result = self.connect(&urls, incarnation).await;
        self.settle(&urls, &result);
        result
    }

    async fn connect(&self, urls: &[String], incarnation: u64) -> Dialed {
        let hello = Hello::to_member(self.me, self.id, incarnation);
        let mut result = Err(PeerError::NoAddress);
        for url in urls {
            let connect = async {
                let stream = self.network.dial(url).await?;
                let metrics = self.metrics.of_peer(self.id);
                Connection::open(stream, &hello, &self.runtime, self.silence, metrics).await
            };
            result = match tokio::time::timeout(self.silence, connect).await {
                Ok(Ok(connection)) => Ok(Arc::new(connection)),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(PeerError::Unreachable("no answer in time".to_owned())),
            };
            if result.is_ok() {
                break;
            }
        }
        result
    }

    fn settle(&self, urls: &[String], result: &Dialed) {
        let mut state = self.state.lock();
        if state.urls == urls {
            state.dialing = None;
            state.open = result.clone().ok();
        }
        match result {
            Ok(_) => {
                if !std::mem::take(&mut state.told).is_empty() {
                    tracing::info!(member = format_args!("{:x}", self.id), "connected");
                }
            }
            Err(error) => {
                let error = error.to_string();
                if state.told != error {
                    tracing::warn!(member = format_args!("{:x}", self.id), ?urls, %error, "no connection");
                    state.told = error;
                }
            }
        }
        drop(state);
        if let Err(PeerError::Refused(refusal)) = result
            && refusal.is_final()
        {
            self.excluded.send_replace(Some(refusal.clone()));
        }
    }

    /// The member took so long to answer a call that gives it next to nothing to do.
    pub fn note_round_trip(&self, took: Duration) {
        let metrics = self.metrics.of_peer(self.id);
        metrics.round_trips.observe(took.as_secs_f64());
    }

    /// Calls and waits for the answer.
    pub async fn call(
        self: &Arc<Self>,
        kind: Kind,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, PeerError> {
        let call = async { self.connection().await?.start(kind, body)?.await };
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => answer,
            Err(_) => Err(PeerError::Timeout),
        }
    }
}
