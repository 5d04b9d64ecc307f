//! What watchers got against the store's own history.
//!
//! Ordered and unique: the events of a stream are those of history, one by one. Atomic: no revision is split over two
//! messages. Resumable: a stream that begins at a revision misses none from there on. Reliable: nothing is left out, a
//! notice of progress included, and who still watches at the end has got everything.

use super::Findings;
use super::state::States;
use crate::history::{Event, History, Mark, Response, Session};

pub fn check(history: &History) -> Findings {
    let mut findings = Findings::default();
    let states = States::of(&history.events);
    for session in &history.sessions {
        check_session(session, history, &states, &mut findings);
    }
    findings
}

fn check_session(session: &Session, history: &History, states: &States, findings: &mut Findings) {
    let from = history
        .events
        .partition_point(|event| event.revision < session.start_revision);
    let matches = |event: &&Event| session.space.is_none_or(|space| event.key.space == space);
    let mut expected = history.events[from..].iter().filter(matches).peekable();
    let mut last = session.start_revision - 1;
    let told = session.responses.iter().try_for_each(|response| {
        findings.looked_at += response.events.len();
        message(response, &mut expected, &mut last, states, session.prev_kv)
    });
    let missed = if session.to_the_end {
        expected.next()
    } else {
        None
    };
    let ended = match (missed, session.compacted) {
        (Some(missed), _) => Err(format!("never got {missed:?}")),
        (_, Some(at)) if at <= session.start_revision.max(last) => {
            Err(format!("ended as compacted to {at}"))
        }
        _ => Ok(()),
    };
    if let Err(what) = told.and(ended) {
        let Session {
            watcher,
            member,
            start_revision,
            ..
        } = session;
        findings.add(|| {
            format!("watcher {watcher} at member {member} from revision {start_revision}: {what}")
        });
    }
}

/// One message against the events that are expected next.
fn message<'a>(
    response: &Response,
    expected: &mut std::iter::Peekable<impl Iterator<Item = &'a Event>>,
    last: &mut i64,
    states: &States,
    prev_kv: bool,
) -> Result<(), String> {
    let header = response.header_revision;
    let Some(first) = response.events.first() else {
        let missed = expected.peek().filter(|event| event.revision <= header);
        return missed.map_or(Ok(()), |missed| {
            Err(format!("told of progress to {header} without {missed:?}"))
        });
    };
    if first.revision == *last {
        return Err(format!("revision {last} came in two messages"));
    }
    for mark in &response.events {
        let event = expected.next();
        let event =
            event.ok_or_else(|| format!("got revision {}, history has no more", mark.revision))?;
        let before = match prev_kv {
            true => states.at(event.key, event.revision - 1),
            false => None,
        };
        let wanted = Mark::of(event, before);
        if wanted != *mark {
            return Err(wrong(event, mark, wanted, *last));
        }
        *last = mark.revision;
    }
    if header < *last {
        return Err(format!("revision {last} came under {header}"));
    }
    Ok(())
}

fn wrong(event: &Event, mark: &Mark, wanted: Mark, last: i64) -> String {
    let what = match mark.revision {
        revision if revision <= last && revision < wanted.revision => "got again or late",
        revision if revision > wanted.revision => "missed an event before",
        _ => "got something else at",
    };
    format!("{what} revision {}: wanted {event:?}", mark.revision)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Story, expect};
    use super::check;
    use crate::history::{Mark, Response, Session};

    /// Messages as indexes of events; `|n` after them is a notice of progress to revision n.
    fn told(
        messages: &[&[usize]],
        progress: Option<i64>,
        start_revision: i64,
        to_the_end: bool,
    ) -> Story {
        let mut story = Story::new().event("a", "1", 2).event("a", "2", 3);
        story = story.event("b", "3", 3).gone("a", 4);
        let events = &story.history.events;
        let response = |message: &&[usize]| Response {
            at: 0,
            header_revision: 4,
            events: message
                .iter()
                .map(|at| Mark::of(&events[*at], None))
                .collect(),
        };
        let mut responses: Vec<Response> = messages.iter().map(response).collect();
        responses.extend(progress.map(|header_revision| Response {
            at: 0,
            header_revision,
            events: Vec::new(),
        }));
        story.history.sessions.push(Session {
            watcher: 0,
            member: 0,
            start_revision,
            prev_kv: false,
            space: None,
            responses,
            compacted: None,
            to_the_end,
        });
        story
    }

    #[test]
    fn watchers_get_history() {
        let check = |story: Story, want: &str| expect(&check(&story.history), want);
        check(told(&[&[0], &[1, 2], &[3]], None, 2, true), "");
        check(told(&[&[0, 1, 2], &[3]], Some(4), 1, true), "");
        check(told(&[&[1, 2], &[3]], None, 3, true), "");
        check(told(&[&[0]], None, 2, false), "");
        check(told(&[&[0]], None, 2, true), "never got");
        check(told(&[&[0]], Some(2), 2, false), "");
        check(told(&[&[0]], Some(3), 2, false), "told of progress to 3");
        check(told(&[&[1, 2], &[3]], None, 2, true), "missed an event");
        check(
            told(&[&[0], &[1], &[2], &[3]], None, 2, true),
            "two messages",
        );
        check(
            told(&[&[0], &[1, 2], &[0], &[3]], None, 2, true),
            "got again",
        );
        check(
            told(&[&[0], &[3], &[1, 2]], None, 2, true),
            "missed an event",
        );
        check(
            told(&[&[0], &[2, 1], &[3]], None, 2, true),
            "something else",
        );
    }
}
