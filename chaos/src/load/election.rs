//! Candidates for leadership by a key that is bound to a lease, and what only a leader may write.
//!
//! A leader goes on writing after it has stopped keeping its lease alive, until it is refused: that is what fences are for.

use std::time::Duration;

use super::caller::Caller;
use super::pause;
use crate::history::{By, Call, Condition, Key, Space, Transaction, Value};

const TTL_SECONDS: i64 = 2;
const WRITE_EVERY: Duration = Duration::from_millis(250);
const CAMPAIGN_EVERY: Duration = Duration::from_millis(300);
/// Writes between two signs of life.
const WRITES_PER_KEEPALIVE: u64 = 3;

pub async fn run(mut caller: Caller) {
    while !caller.stopping() {
        if let Some((lease, _)) = caller
            .lease(Call::Grant {
                ttl_seconds: TTL_SECONDS,
            })
            .await
        {
            campaign(&mut caller, lease).await;
        }
        pause(&mut caller.random, CAMPAIGN_EVERY).await;
    }
}

async fn campaign(caller: &mut Caller, lease: i64) {
    let leader = Key::new(Space::Leader, 0, 0);
    let name = caller.value();
    let transaction = Transaction {
        conditions: vec![Condition {
            key: leader,
            value: None,
            by: By::Value,
        }],
        writes: vec![(leader, Some(name.clone()))],
        lease,
        reads: vec![leader],
        ..Default::default()
    };
    // Whoever does not know whether it was elected looks; its name is its own.
    caller.transact(transaction).await;
    let Some(seen) = caller.read(&[leader]).await else {
        return;
    };
    let own = seen.into_iter().flatten().find(|seen| seen.value == name);
    if let Some(own) = own {
        lead(caller, lease, leader, name, own.create_revision).await;
    }
}

async fn lead(caller: &mut Caller, lease: i64, leader: Key, name: Value, since: i64) {
    let fenced = Key::new(Space::Fenced, 0, 0);
    let alive_for = caller.random.below(20);
    for write in 0.. {
        if caller.stopping() {
            return;
        }
        if write < alive_for && write % WRITES_PER_KEEPALIVE == 0 {
            caller.lease(Call::KeepAlive { lease }).await;
        }
        let condition = Condition {
            key: leader,
            value: Some(name.clone()),
            by: By::Created(since),
        };
        let value = caller.value();
        if caller
            .write(vec![condition], vec![(fenced, Some(value))])
            .await
            == Some(false)
        {
            return;
        }
        pause(&mut caller.random, WRITE_EVERY).await;
    }
}
