//! Tells workers that the runtime has news of their pods.
//!
//! A runtime that has CRI's event stream (KEP-3386) is listened to. containerd 1.x does not have it, but its own event service tells
//! of every exit on the same socket. A runtime with neither is listed every second while there are pods: that is all that CRI
//! offers then. A slow listing goes on beside every stream, for an event that was lost.

mod containerd_events;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::cri::Cri;
use crate::dispatch::Pods;
use crate::labels;

/// How often a runtime without events is listed.
const LIST_PERIOD: Duration = Duration::from_secs(1);
/// How often it is listed beside events.
const SAFETY_PERIOD: Duration = Duration::from_secs(60);
/// After an event: CRI's own view may follow a moment later than the event does.
const AFTER_EVENT: [Duration; 3] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(1),
];
/// Wait before a broken stream is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// Ids and states of all that is of one pod.
type Signature = Vec<(String, i32)>;

/// Follows the runtime until `stop`.
pub(crate) async fn run(cri: Cri, pods: Arc<Pods>, stop: CancellationToken) {
    let mut pleg = Pleg {
        cri,
        pods,
        seen: HashMap::new(),
    };
    tokio::select! {
        () = pleg.follow() => {}
        () = stop.cancelled() => {}
    }
}

struct Pleg {
    cri: Cri,
    pods: Arc<Pods>,
    seen: HashMap<String, Signature>,
}

impl Pleg {
    async fn follow(&mut self) {
        loop {
            let mut events = self.events().await;
            let period = if events.is_some() {
                SAFETY_PERIOD
            } else {
                LIST_PERIOD
            };
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let event = tokio::select! {
                    event = next(&mut events) => event,
                    _ = ticks.tick() => {
                        if !self.pods.is_empty() {
                            self.list().await;
                        }
                        continue;
                    }
                };
                if event.is_none() {
                    break;
                }
                for pause in AFTER_EVENT {
                    tokio::time::sleep(pause).await;
                    if self.list().await {
                        break;
                    }
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    /// A stream of reasons to look, if the runtime has one.
    async fn events(&self) -> Option<BoxStream<'static, ()>> {
        if let Ok(stream) = self.cri.container_events().await {
            return Some(
                stream
                    .take_while(|e| futures::future::ready(e.is_ok()))
                    .map(|_| ())
                    .boxed(),
            );
        }
        match containerd_events::subscribe(self.cri.channel()).await {
            Ok(stream) => Some(stream.boxed()),
            Err(error) => {
                tracing::info!(%error, "the runtime has no events: it is listed every second");
                None
            }
        }
    }

    /// Lists everything once and wakes those that changed; true if any did.
    async fn list(&mut self) -> bool {
        let mut now: HashMap<String, Signature> = HashMap::new();
        let (sandboxes, containers) =
            match tokio::join!(self.cri.list_sandboxes(&[]), self.cri.list_containers(&[])) {
                (Ok(sandboxes), Ok(containers)) => (sandboxes, containers),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "cannot list the runtime's containers");
                    return false;
                }
            };
        let mut add = |labels: &HashMap<String, String>, id: String, state: i32| {
            if let Some(uid) = labels.get(labels::POD_UID) {
                now.entry(uid.clone()).or_default().push((id, state));
            }
        };
        sandboxes
            .into_iter()
            .for_each(|s| add(&s.labels, s.id, s.state));
        containers
            .into_iter()
            .for_each(|c| add(&c.labels, c.id, c.state));
        now.values_mut().for_each(|signature| signature.sort());
        let changed: Vec<&String> = now
            .iter()
            .filter(|(uid, signature)| self.seen.get(*uid) != Some(*signature))
            .map(|(uid, _)| uid)
            .chain(self.seen.keys().filter(|uid| !now.contains_key(*uid)))
            .collect();
        for uid in &changed {
            self.pods.wake(uid);
        }
        let any = !changed.is_empty();
        self.seen = now;
        if any {
            self.pods.announce();
        }
        any
    }
}

/// The next event; never without a stream, None when the stream ends.
async fn next(events: &mut Option<BoxStream<'static, ()>>) -> Option<()> {
    match events {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
