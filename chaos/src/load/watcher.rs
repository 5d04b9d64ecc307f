//! Watchers: each follows one member, leaves it now and then or when it falls silent, and goes on at another from where
//! it stopped, or from some way back.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};
use xebec_proto::etcdserverpb as pb;

use super::{Shared, wire};
use crate::bench::store::Stream;
use crate::cluster::connect;
use crate::history::{Event, Gone, Mark, PREFIX, Response, Session, Space};
use crate::random::Random;

/// A member that says nothing for so long is left: it may be cut off.
const SILENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(100);
/// Messages after which a watcher leaves for no reason, in the mean.
const LEAVE_EVERY: u64 = 2000;
/// How far back it then begins, at most, in revisions.
const BACK: u64 = 500;
/// How long a watch may take to begin.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Watches until the last revision has come.
pub async fn run(shared: Rc<Shared>, number: u32, mut random: Random) {
    let mut member = random.index(shared.urls.len());
    let mut next = 1;
    // Some look at one space only, and so see revisions pass that do not concern them.
    let space = (number % 3 == 2).then_some(Space::Register);
    loop {
        let mut session = Session {
            watcher: number,
            member,
            start_revision: next,
            prev_kv: number % 2 == 1,
            space,
            responses: Vec::new(),
            compacted: None,
            to_the_end: false,
        };
        // Its error says no more than that it ended.
        let followed = follow(&shared, &mut session, &mut random).await;
        let last = session
            .responses
            .iter()
            .rev()
            .find_map(|response| response.events.last());
        next = last.map_or(next, |mark| mark.revision + 1);
        if let Some(compacted) = session.compacted {
            next = next.max(compacted);
        }
        let at_end = session.to_the_end;
        shared.sessions.borrow_mut().push(session);
        if at_end {
            return;
        }
        if followed.is_ok() && random.percent(50) {
            let back = i64::try_from(random.below(BACK)).expect("small");
            next = (next - back).max(1);
        }
        member = (member + 1) % shared.urls.len();
        sleep(RETRY).await;
    }
}

/// One stream, until it fails, falls silent, is left, or has come to the end.
async fn follow(shared: &Shared, session: &mut Session, random: &mut Random) -> Result<()> {
    let url = &shared.urls[session.member];
    let prefix = session.space.map_or(PREFIX.to_owned(), Space::prefix);
    let mut stream = timeout(
        OPEN_LIMIT,
        open(url, &prefix, session.start_revision, session.prev_kv),
    )
    .await??;
    let mut seen = session.start_revision - 1;
    loop {
        if shared.last_revision.get().is_some_and(|last| seen >= last) {
            session.to_the_end = true;
            return Ok(());
        }
        let silent = timeout(SILENCE, stream.next::<pb::WatchResponse>()).await;
        if silent.is_err()
            && let Some(last) = shared.last_revision.get()
        {
            // The last revision need not concern it.
            return end(shared, session, last).await;
        }
        let message = silent??.context("the stream ended")?;
        let at = shared.now();
        if message.canceled {
            session.compacted = (message.compact_revision > 0).then_some(message.compact_revision);
            return Ok(());
        }
        if message.created {
            continue;
        }
        let mut response = Response {
            at,
            header_revision: message.header.context("a header")?.revision,
            events: Vec::new(),
        };
        for event in &message.events {
            let (event, before) = wire::event(event)?;
            let before = before.filter(|_| session.prev_kv);
            response.events.push(Mark::of(&event, before.as_ref()));
            seen = event.revision;
            note_gone(shared, &event, at);
        }
        session.responses.push(response);
        if random.below(LEAVE_EVERY) == 0 {
            return Ok(());
        }
    }
}

/// Silence at the end is the end, if the member itself has come that far.
async fn end(shared: &Shared, session: &mut Session, last: i64) -> Result<()> {
    let url = &shared.urls[session.member];
    let read = pb::RangeRequest {
        key: PREFIX.into(),
        ..Default::default()
    };
    let answer: pb::RangeResponse = crate::cluster::ask(url, "KV/Range", &read).await?;
    session.to_the_end = answer.header.is_some_and(|header| header.revision >= last);
    Ok(())
}

fn note_gone(shared: &Shared, event: &Event, at: u64) {
    if event.put.is_none() && matches!(event.key.space, Space::Lease | Space::Leader) {
        shared.gone.borrow_mut().push(Gone {
            key: event.key,
            revision: event.revision,
            at,
        });
    }
}

/// A watch of all keys that begin with `prefix`.
pub async fn open(url: &str, prefix: &str, start_revision: i64, prev_kv: bool) -> Result<Stream> {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().context("an empty prefix")? += 1;
    let create = pb::WatchCreateRequest {
        key: bytes::Bytes::copy_from_slice(prefix.as_bytes()),
        range_end: end.into(),
        start_revision,
        prev_kv,
        progress_notify: true,
        ..Default::default()
    };
    let first = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    connect(url).await?.stream("Watch/Watch", &first).await
}

/// The store's own history up to a revision, as one member tells it.
pub async fn history(url: &str, last: i64) -> Result<Vec<Event>> {
    let mut events: Vec<Event> = Vec::new();
    if last <= 1 {
        return Ok(events);
    }
    let mut stream = open(url, PREFIX, 1, false).await?;
    while events.last().is_none_or(|event| event.revision < last) {
        let message: pb::WatchResponse = stream.next().await?.context("the stream ended")?;
        anyhow::ensure!(!message.canceled, "canceled: {message:?}");
        for event in &message.events {
            events.push(wire::event(event)?.0);
        }
    }
    Ok(events)
}
