//! The cases: what one operation is, for how many clients.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use bytes::Bytes;
use prost::Message;
use xebec_proto::etcdserverpb as pb;

use super::load::{Pace, Sample, run};
use super::server::Server;
use super::watch;
use super::wire::Wire;
use crate::random::Random;

/// Keys that every case works on; made before the first.
pub const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 256;
const VALUE_POOL_BYTES: usize = 1024 * 1024;
const RANGE_KEYS: u64 = 100;
/// Clients for each connection: few connections keep the client cheap, one stream limit must not be hit.
const CLIENTS_PER_CONNECTION: usize = 50;

/// What a case's clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Put,
    /// A linearizable read of one key.
    Get,
    /// A linearizable read of 100 keys with their values.
    Range,
    /// Reads a key, then puts it if it is unchanged: two requests, counted as one operation.
    ReadModifyWrite,
    /// Puts that 100 watchers see; counts events.
    Watch,
    /// Puts at a given rate: latency is what counts.
    OpenLoop,
}

/// A row of the report.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub clients: usize,
    pub kind: Kind,
}

const fn case(name: &'static str, clients: usize, kind: Kind) -> Case {
    Case {
        name,
        clients,
        kind,
    }
}

/// In the order in which they run.
pub const CASES: &[Case] = &[
    case("put-1", 1, Kind::Put),
    case("put-10", 10, Kind::Put),
    case("put-100", 100, Kind::Put),
    case("put-1000", 1000, Kind::Put),
    case("get-1", 1, Kind::Get),
    case("get-10", 10, Kind::Get),
    case("get-100", 100, Kind::Get),
    case("get-1000", 1000, Kind::Get),
    case("range-1", 1, Kind::Range),
    case("range-100", 100, Kind::Range),
    case("txn-1", 1, Kind::ReadModifyWrite),
    case("txn-10", 10, Kind::ReadModifyWrite),
    case("txn-100", 100, Kind::ReadModifyWrite),
    case("txn-1000", 1000, Kind::ReadModifyWrite),
    case("watch-100", 10, Kind::Watch),
    case("open-100", 100, Kind::OpenLoop),
];

pub fn key(number: u64) -> Bytes {
    // Scattered, so that neighbours in time are no neighbours in the store.
    Bytes::from(format!("/bench/{:08}", number.wrapping_mul(7919) % KEYS))
}

/// Random bytes, others for each number: a store that compresses wins nothing by it.
pub fn value(number: u64) -> Bytes {
    static POOL: LazyLock<Bytes> = LazyLock::new(|| {
        let mut random = Random::new(KEYS);
        let words = (0..VALUE_POOL_BYTES / 8).map(|_| random.next().to_le_bytes());
        words.flatten().collect::<Vec<u8>>().into()
    });
    let at = (number as usize).wrapping_mul(7919) % (VALUE_POOL_BYTES - VALUE_BYTES);
    POOL.slice(at..at + VALUE_BYTES)
}

/// What the load looks at in the answer to a range; the rest is skipped, not copied.
#[derive(Clone, PartialEq, Eq, Message)]
struct Rows {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<Row>,
}

/// A key and its value, of which only this counts.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Row {
    #[prost(int64, tag = "3")]
    mod_revision: i64,
}

/// Likewise of a transaction's.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Succeeded {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

pub fn put_request(number: u64) -> pb::PutRequest {
    pb::PutRequest {
        key: key(number),
        value: value(number),
        ..Default::default()
    }
}

async fn put(wire: Wire, number: u64) -> Result<()> {
    wire.call("KV/Put", &put_request(number)).await.map(drop)
}

async fn get(wire: Wire, number: u64) -> Result<()> {
    let request = pb::RangeRequest {
        key: key(number),
        ..Default::default()
    };
    let answer = Rows::decode(wire.call("KV/Range", &request).await?)?;
    ensure!(answer.kvs.len() == 1, "a key is missing");
    Ok(())
}

async fn range(wire: Wire, number: u64) -> Result<()> {
    let start = number.wrapping_mul(7919) % (KEYS - RANGE_KEYS);
    let request = pb::RangeRequest {
        key: format!("/bench/{start:08}").into(),
        range_end: format!("/bench/{:08}", start + RANGE_KEYS).into(),
        ..Default::default()
    };
    let answer = Rows::decode(wire.call("KV/Range", &request).await?)?;
    ensure!(answer.kvs.len() as u64 == RANGE_KEYS, "keys are missing");
    Ok(())
}

async fn read_modify_write(wire: Wire, number: u64) -> Result<()> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let read = pb::RangeRequest {
        key: key(number),
        ..Default::default()
    };
    let found = Rows::decode(wire.call("KV/Range", &read).await?)?;
    let revision = found.kvs.first().map_or(0, |kv| kv.mod_revision);
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key(number),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    };
    let put = pb::request_op::Request::RequestPut(put_request(number));
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![pb::RequestOp { request: Some(put) }],
        ..Default::default()
    };
    // Keys come around only every 10,000 operations: nobody else has it in hand.
    let answer = Succeeded::decode(wire.call("KV/Txn", &request).await?)?;
    ensure!(answer.succeeded, "a key was changed by someone else");
    Ok(())
}

impl Case {
    pub fn connections(&self) -> usize {
        self.clients.div_ceil(CLIENTS_PER_CONNECTION)
    }

    /// One round against one server.
    pub async fn run(&self, server: &Server, pace: Pace) -> Result<Sample> {
        // Every member has as many clients as the others.
        let connections = self.connections().next_multiple_of(match self.clients {
            1 => 1,
            _ => server.urls.len(),
        });
        let wires = server.wires(connections).await?;
        let workers = self.clients;
        match self.kind {
            Kind::Put | Kind::OpenLoop => run(server, &wires, workers, pace, put).await,
            Kind::Get => run(server, &wires, workers, pace, get).await,
            Kind::Range => run(server, &wires, workers, pace, range).await,
            Kind::ReadModifyWrite => run(server, &wires, workers, pace, read_modify_write).await,
            Kind::Watch => watch::run(server, &wires, workers, pace).await,
        }
    }
}

/// Makes all keys.
pub async fn fill(server: &Server) -> Result<()> {
    let wires = server.wires(server.urls.len().max(2)).await?;
    let mut tasks = tokio::task::JoinSet::new();
    const WRITERS: u64 = 100;
    for writer in 0..WRITERS {
        let wire = wires[writer as usize % wires.len()].clone();
        tasks.spawn_local(async move {
            for number in (writer..KEYS).step_by(WRITERS as usize) {
                put(wire.clone(), number).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_of_keys_meets_every_key() {
        let all: std::collections::BTreeSet<_> = (0..KEYS).map(key).collect();
        assert_eq!(all.len() as u64, KEYS);
    }
}
