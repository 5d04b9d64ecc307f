//! Watchers of the registers: each follows one master and goes on at another from where it stopped.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;

use super::masters::Masters;
use super::objects::{PATH, event, revision};
use crate::history::{Mark, Response, Session, Space};

/// A master that says nothing for so long is left: it may be cut off.
const SILENCE: Duration = Duration::from_secs(4);
/// Events after which a watcher leaves for no reason, in the mean.
const LEAVE_EVERY: u64 = 400;

/// Watches until the last revision has come.
pub async fn run(mut masters: Masters, number: u32) {
    let mut next = 1;
    loop {
        let mut session = Session {
            watcher: number,
            member: masters.member,
            start_revision: next,
            prev_kv: false,
            space: Some(Space::Register),
            responses: Vec::new(),
            compacted: None,
            to_the_end: false,
        };
        // Its error says no more than that it ended.
        let _ = follow(&mut masters, &mut session).await;
        let last = session
            .responses
            .iter()
            .rev()
            .find_map(|response| response.events.last());
        next = last.map_or(next, |mark| mark.revision + 1);
        let ended = session.to_the_end;
        masters.kube.shared.sessions.borrow_mut().push(session);
        if ended {
            return;
        }
        masters.leave().await;
    }
}

async fn follow(masters: &mut Masters, session: &mut Session) -> Result<()> {
    // A watch begins after the version that it names.
    let after = (session.start_revision - 1).max(1);
    let path = format!(
        "{PATH}?watch=1&allowWatchBookmarks=true&labelSelector=chaos%3Dregister&resourceVersion={after}"
    );
    let mut lines = masters.watch(&path).await?;
    let mut seen = session.start_revision - 1;
    loop {
        let last = masters.kube.shared.last_revision.get();
        if last.is_some_and(|last| seen >= last) {
            session.to_the_end = true;
            return Ok(());
        }
        let line = timeout(SILENCE, lines.next())
            .await??
            .context("the stream ended")?;
        let object = &line["object"];
        let kind = line["type"].as_str().unwrap_or_default();
        let found = revision(object);
        let (at, mut events) = (masters.kube.shared.now(), Vec::new());
        match kind {
            "ADDED" | "MODIFIED" => {
                let event = event(object)?;
                events.push(Mark::of(&event, None));
                seen = event.revision;
                masters
                    .kube
                    .events
                    .borrow_mut()
                    .insert(event.revision, event);
            }
            "BOOKMARK" => seen = found?,
            other => anyhow::bail!("{other}: {object}"),
        }
        session.responses.push(Response {
            at,
            header_revision: seen,
            events,
        });
        if masters.random.below(LEAVE_EVERY) == 0 {
            return Ok(());
        }
    }
}
