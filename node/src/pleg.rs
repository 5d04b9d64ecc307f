//! Tells workers that the runtime has news of their pods.
//!
//! A runtime that has CRI's event stream (KEP-3386) is listened to. containerd 1.x does not have it, but its own event service tells
//! of every exit on the same socket. A runtime with neither is listed every second while there are pods: that is all that CRI
//! offers then. A slow listing goes on beside every stream, for an event that was lost.

mod containerd_events;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_cri::v1::{ContainerState, PodSandboxState};
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
/// The most events that are answered with one listing.
const EVENTS_AT_ONCE: usize = 256;
/// Wait before a broken stream is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// A reason to look: the id of what ended, if the event says so.
type Reason = Option<String>;

/// What a listing told.
struct Listed {
    changed: bool,
    /// Ids of containers and sandboxes that have not ended.
    alive: HashSet<String>,
}

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
                let reasons = tokio::select! {
                    reasons = next(&mut events) => reasons,
                    _ = ticks.tick() => {
                        if !self.pods.is_empty() {
                            self.list().await;
                        }
                        continue;
                    }
                };
                let Some(reasons) = reasons else {
                    break;
                };
                for pause in AFTER_EVENT {
                    tokio::time::sleep(pause).await;
                    if self.list().await.is_some_and(|l| answers(&reasons, &l)) {
                        break;
                    }
                }
            }
            tokio::time::sleep(REOPEN).await;
        }
    }

    /// A stream of reasons to look, if the runtime has one.
    async fn events(&self) -> Option<BoxStream<'static, Vec<Reason>>> {
        if let Ok(stream) = self.cri.container_events().await {
            return Some(
                stream
                    .take_while(|e| futures::future::ready(e.is_ok()))
                    .map(|_| None)
                    .ready_chunks(EVENTS_AT_ONCE)
                    .boxed(),
            );
        }
        match containerd_events::subscribe(self.cri.channel()).await {
            Ok(stream) => Some(stream.map(Some).ready_chunks(EVENTS_AT_ONCE).boxed()),
            Err(error) => {
                tracing::info!(%error, "the runtime has no events: it is listed every second");
                None
            }
        }
    }

    /// Lists everything once and wakes those that changed.
    async fn list(&mut self) -> Option<Listed> {
        let mut now: HashMap<String, Signature> = HashMap::new();
        let (sandboxes, containers) =
            match tokio::join!(self.cri.list_sandboxes(&[]), self.cri.list_containers(&[])) {
                (Ok(sandboxes), Ok(containers)) => (sandboxes, containers),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "cannot list the runtime's containers");
                    return None;
                }
            };
        let up = sandboxes
            .iter()
            .filter(|s| s.state() == PodSandboxState::SandboxReady)
            .map(|s| &s.id);
        let running = containers
            .iter()
            .filter(|c| c.state() == ContainerState::ContainerRunning)
            .map(|c| &c.id);
        let alive = up.chain(running).cloned().collect();
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
        let changed = !changed.is_empty();
        self.seen = now;
        if changed {
            self.pods.announce();
        }
        Some(Listed { changed, alive })
    }
}

/// Whether the listing shows what the events told. Another change in it does not: a pod that is new to the listing would hide that
/// its container has ended since.
fn answers(reasons: &[Reason], listed: &Listed) -> bool {
    reasons.iter().all(|reason| match reason {
        Some(id) => !listed.alive.contains(id),
        None => listed.changed,
    })
}

/// The next events; never without a stream, None when the stream ends.
async fn next(events: &mut Option<BoxStream<'static, Vec<Reason>>>) -> Option<Vec<Reason>> {
    match events {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_answered_when_the_listing_shows_it() {
        let check = |reasons: &[Reason], changed, alive: &[&str], expect| {
            let alive = alive.iter().map(ToString::to_string).collect();
            let listed = Listed { changed, alive };
            assert_eq!(answers(reasons, &listed), expect, "{reasons:?}");
        };
        check(&[Some("a".into())], true, &["a"], false);
        check(&[Some("a".into())], false, &["b"], true);
        check(&[Some("a".into()), Some("b".into())], true, &["b"], false);
        check(&[None], false, &[], false);
        check(&[None], true, &["a"], true);
    }
}
