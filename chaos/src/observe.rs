//! What is seen of a run from outside while it goes on: who leads, and what was done when.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::store::{Client, says_it_leads};
use crate::cluster::{Api, Cluster, Level, connect, leader};

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

/// How one member is asked: its term, and whether it says of itself that it leads.
enum Source {
    Store {
        url: String,
        client: Box<Option<Client>>,
    },
    Master {
        name: String,
        api: Box<Api>,
    },
}

impl Source {
    async fn ask(&mut self) -> Result<(u64, bool)> {
        match self {
            Self::Store { url, client } => {
                let client = match client.as_mut() {
                    Some(client) => client,
                    None => client.insert(connect(url).await?),
                };
                let status = client.status().await?;
                Ok((status.raft_term, says_it_leads(&status)))
            }
            Self::Master { name, api } => {
                let (term, leads) = leader(api, ANSWER_LIMIT).await?;
                Ok((term, leads.as_ref() == Some(name)))
            }
        }
    }

    fn forget(&mut self) {
        if let Self::Store { client, .. } = self {
            **client = None;
        }
    }
}

fn sources(cluster: &Cluster) -> Result<Vec<Source>> {
    let source = |(number, url): (usize, String)| match cluster.level() {
        Level::Store => Ok(Source::Store {
            url,
            client: Box::default(),
        }),
        Level::Cluster => Ok(Source::Master {
            name: cluster.members[number].name.clone(),
            api: Box::new(cluster.api(number)?),
        }),
    };
    cluster.urls().into_iter().enumerate().map(source).collect()
}

/// Looks until it is aborted.
pub fn watch_leader(
    cluster: &Cluster,
    start: Instant,
    observed: Rc<RefCell<Observed>>,
) -> Result<JoinHandle<()>> {
    let mut sources = sources(cluster)?;
    Ok(tokio::task::spawn_local(async move {
        loop {
            let mut newest: (u64, Option<usize>) = (0, None);
            for (number, source) in sources.iter_mut().enumerate() {
                let Ok(Ok((term, leads))) = timeout(ANSWER_LIMIT, source.ask()).await else {
                    source.forget();
                    continue;
                };
                let leads = leads.then_some(number);
                if term > newest.0 {
                    newest = (term, leads);
                } else if term == newest.0 {
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
    }))
}
