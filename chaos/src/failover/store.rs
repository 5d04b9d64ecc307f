//! Members of the store at their default timings, the leader killed with kill -9 again and again under writers,
//! linearizable readers and watchers at all members: how long writes stand still, and the checkers' verdict on everything
//! that was recorded.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::{Instant, sleep};
use xebec_proto::etcdserverpb as pb;

use super::{FailoverArgs, LIMIT, RETRY, SETTLE, summary};
use crate::bench::store::says_it_leads;
use crate::check;
use crate::cluster::{Cluster, Level, ask};
use crate::history::{History, Nanos};
use crate::load::{self, Pace, Shared};
use crate::random::Random;
use crate::run::end;

/// Enough for a write to be under way at every moment, while the checkers can still search what was recorded.
const PACE: Pace = Pace {
    clients: 16,
    rate: 600.0,
};
/// What clients do shall be the same in every run of this.
const SEED: u64 = 1;

/// A leader that was killed, from the kill until its member was started again.
struct Kill {
    member: usize,
    from: Nanos,
    to: Nanos,
}

pub async fn measure(args: &FailoverArgs) -> Result<()> {
    let mut cluster = super::cluster(args).await?;
    let shared = Rc::new(Shared::new(cluster.urls()));
    let (clients, watchers) = load::start(&shared, PACE, &Random::new(SEED));
    let mut kills = Vec::new();
    for _ in 0..args.runs {
        sleep(SETTLE).await;
        let member = leading(&cluster).await?;
        let from = shared.now();
        cluster.members[member].kill().await?;
        await_write(&shared, from).await?;
        // Longer gaps than the first may come.
        sleep(SETTLE).await;
        let to = shared.now();
        kills.push(Kill { member, from, to });
        cluster.start_member(member)?;
        cluster.await_answer(member, LIMIT).await?;
    }
    let history = end::collect(&mut cluster, &shared, clients, watchers).await?;
    cluster.stop().await?;
    let mut pauses = pauses(&history, &kills)?;
    for (number, (kill, pause)) in kills.iter().zip(&pauses).enumerate() {
        let (number, member) = (number + 1, kill.member);
        println!("{number:3}: m{member} killed, writes stood still for {pause:.2?}");
    }
    let writes = summary("writes", &mut pauses, args.write_limit);
    judge(args, &history).and(writes)
}

/// Prints what each checker found; an error, with the history in a file, if what was promised does not hold.
fn judge(args: &FailoverArgs, history: &History) -> Result<()> {
    let verdicts = check::all(Level::Store, history);
    let mut holds = true;
    for verdict in &verdicts {
        let (checker, looked_at) = (verdict.checker, verdict.looked_at);
        println!(
            "{checker:14} {} ({looked_at} looked at)",
            verdict.in_words()
        );
        for violation in &verdict.violations {
            holds = false;
            println!("    {violation}");
        }
    }
    if !holds {
        let file = args.data_dir.join("history.jsonl");
        end::save(history, &file)?;
        bail!(
            "what was promised does not hold; the history is in {}",
            file.display()
        );
    }
    Ok(())
}

/// The member that says of itself that it leads, once there is one.
async fn leading(cluster: &Cluster) -> Result<usize> {
    let deadline = Instant::now() + LIMIT;
    loop {
        for (number, url) in cluster.urls().iter().enumerate() {
            let request = pb::StatusRequest::default();
            let status = ask::<pb::StatusResponse>(url, "Maintenance/Status", &request).await;
            let Ok(status) = status else { continue };
            if says_it_leads(&status) {
                return Ok(number);
            }
        }
        ensure!(Instant::now() < deadline, "nobody leads");
        sleep(RETRY).await;
    }
}

/// Waits until a write is acknowledged that began after the kill.
async fn await_write(shared: &Shared, killed: Nanos) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    let mut looked_at = 0;
    loop {
        {
            let operations = shared.operations.borrow();
            let mut new = operations[looked_at..].iter();
            if new.any(|operation| operation.wrote() && operation.invoke > killed) {
                return Ok(());
            }
            looked_at = operations.len();
        }
        ensure!(
            Instant::now() < deadline,
            "no write is acknowledged any more"
        );
        sleep(RETRY).await;
    }
}

/// The longest time between two acknowledged writes, for each kill.
fn pauses(history: &History, kills: &[Kill]) -> Result<Vec<Duration>> {
    let wrote = history.operations.iter().filter(|it| it.wrote());
    let mut done: Vec<Nanos> = wrote.map(|operation| operation.done).collect();
    done.sort_unstable();
    let longest = |kill: &Kill| {
        let gaps = done.windows(2).map(|pair| (pair[0], pair[1]));
        let of_this = gaps.filter(|(from, to)| *to > kill.from && *from < kill.to);
        let longest = of_this.map(|(from, to)| to - from).max();
        longest.map(Duration::from_nanos)
    };
    let pauses = kills.iter().map(longest).collect::<Option<_>>();
    pauses.context("nothing was written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Call, Key, Operation, Outcome, Space, Transaction};

    fn write(done: Nanos, answered: bool) -> Operation {
        let outcome = match answered {
            true => Outcome::Done {
                revision: 1,
                succeeded: true,
                seen: Vec::new(),
            },
            false => Outcome::Unknown {
                error: "lost".to_owned(),
            },
        };
        Operation {
            client: 0,
            member: 0,
            invoke: done - 1,
            done,
            call: Call::Transaction(Transaction {
                writes: vec![(Key::new(Space::Register, 1, 0), Some("1".into()))],
                ..Default::default()
            }),
            outcome,
        }
    }

    #[test]
    fn a_pause_lasts_from_one_acknowledged_write_to_the_next() {
        let history = History {
            operations: vec![
                write(100, true),
                write(110, true),
                write(150, false),
                write(190, true),
                write(300, true),
            ],
            ..Default::default()
        };
        let kill = |from, to| Kill {
            member: 0,
            from,
            to,
        };
        let nanos = |kills: &[Kill]| -> Vec<u128> {
            let pauses = pauses(&history, kills).unwrap();
            pauses.iter().map(Duration::as_nanos).collect()
        };
        assert_eq!(nanos(&[kill(112, 180)]), [80]);
        assert_eq!(nanos(&[kill(105, 108), kill(112, 200)]), [10, 110]);
        assert!(pauses(&History::default(), &[kill(1, 2)]).is_err());
    }
}
