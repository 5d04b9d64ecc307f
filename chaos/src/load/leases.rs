//! Clients at leases: granted, bound to some keys, kept alive for a while, then revoked or left to end.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::caller::Caller;
use super::pause;
use crate::history::{Call, Key, Space, Transaction};

const KEEP_EVERY: Duration = Duration::from_millis(1000);
/// Before the next lease.
const REST: Duration = Duration::from_millis(500);

/// `leases` counts those of all clients.
pub async fn run(mut caller: Caller, leases: Rc<Cell<u32>>) {
    while !caller.stopping() {
        one(&mut caller, &leases).await;
        pause(&mut caller.random, REST).await;
    }
}

async fn one(caller: &mut Caller, leases: &Cell<u32>) {
    let ttl_seconds = caller.random.between(2, 6) as i64;
    let Some((lease, _)) = caller.lease(Call::Grant { ttl_seconds }).await else {
        return;
    };
    leases.set(leases.get() + 1);
    for slot in 0..caller.random.between(1, 3) as u8 {
        let key = Key::new(Space::Lease, leases.get(), slot);
        let transaction = Transaction {
            writes: vec![(key, Some(caller.value()))],
            lease,
            ..Default::default()
        };
        caller.transact(transaction).await;
    }
    for _ in 0..caller.random.below(6) {
        pause(&mut caller.random, KEEP_EVERY).await;
        if caller.stopping() {
            return;
        }
        // Without an answer it may end; that is as good.
        if let Some((_, 0)) = caller.lease(Call::KeepAlive { lease }).await {
            return;
        }
    }
    if caller.random.percent(30) {
        caller.lease(Call::Revoke { lease }).await;
    }
}
