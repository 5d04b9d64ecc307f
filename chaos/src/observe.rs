//! What is seen of a run from outside while it goes on: who leads, and what was done when.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use xebec_proto::etcdserverpb as pb;

use crate::bench::store::Client;
use crate::cluster::connect;

/// How often members are asked who leads, and how long one may take to say so.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const ANSWER_LIMIT: Duration = Duration::from_millis(200);

/// A fault and how long it lasted.
#[derive(Clone, Debug, Serialize)]
pub struct Note {
    pub from: Duration,
    pub to: Duration,
    pub text: String,
}

/// Who led at a moment, as the member with the newest term says.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Look {
    pub at: Duration,
    pub leader: Option<usize>,
    pub term: u64,
}

#[derive(Default)]
pub struct Observed {
    pub leader: Option<usize>,
    pub looks: Vec<Look>,
    pub notes: Vec<Note>,
}

impl Observed {
    fn add(&mut self, look: Look) {
        self.leader = look.leader.or(self.leader);
        let same = |last: &Look| (last.leader, last.term) == (look.leader, look.term);
        if !self.looks.last().is_some_and(same) {
            self.looks.push(look);
        }
    }
}

/// Looks until it is dropped.
pub async fn watch_leader(urls: Vec<String>, start: Instant, observed: Rc<RefCell<Observed>>) {
    let mut clients: Vec<Option<Client>> = vec![None; urls.len()];
    loop {
        // Per term: which member says of itself that it leads.
        let mut newest: (u64, Option<usize>) = (0, None);
        for (number, client) in clients.iter_mut().enumerate() {
            let status = timeout(ANSWER_LIMIT, status(&urls[number], client)).await;
            let Ok(Ok(status)) = status else {
                *client = None;
                continue;
            };
            let own = status.header.as_ref().map_or(0, |header| header.member_id);
            let leads = (status.leader == own && own != 0).then_some(number);
            if status.raft_term > newest.0 {
                newest = (status.raft_term, leads);
            } else if status.raft_term == newest.0 {
                newest.1 = newest.1.or(leads);
            }
        }
        observed.borrow_mut().add(Look {
            at: start.elapsed(),
            leader: newest.1,
            term: newest.0,
        });
        sleep(LOOK_EVERY).await;
    }
}

async fn status(url: &str, client: &mut Option<Client>) -> anyhow::Result<pb::StatusResponse> {
    let client = match client {
        Some(client) => client,
        None => client.insert(connect(url).await?),
    };
    client
        .unary("Maintenance/Status", &pb::StatusRequest::default())
        .await
}
