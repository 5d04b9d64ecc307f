//! A member that loses power while it joins, is brought up to date by another's whole state, and again after a long absence:
//! whatever is left of its disk, it comes back, and has what the others have.

use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use xebec_proto::etcdserverpb as pb;

use super::clients::Clients;
use super::points::{Replay, choose};
use super::record::{Record, Traced};
use super::trace::Trace;
use super::{PowerLossArgs, START_LIMIT, await_start, setting};
use crate::cluster::{Cluster, ask};
use crate::random::Random;

/// The member that loses power.
const LOSER: usize = 2;
const OTHERS: [usize; 2] = [0, 1];

pub async fn prove(args: &PowerLossArgs) -> Result<()> {
    let setting = setting(args, 3, "transfer")?;
    let mut cluster = Cluster::start(&setting).await?;
    let folder = cluster.members[LOSER].folder.join("data");
    let trace = Trace::new(args.shim()?, folder, setting.folder.with_extension("trace"))?;
    let url = cluster.urls().remove(0);
    let clients = Rc::new(Clients::new(url, trace.file.clone(), args.seed));
    let bytes = args.megabytes << 20;
    clients.clone().write(bytes).await?;
    cluster.members[LOSER].environment = trace.environment();
    cluster.replace(LOSER).await?;
    cluster.await_answer(LOSER, START_LIMIT).await?;
    trace.kill(&mut cluster.members[LOSER]).await?;
    // Too much for the others' logs.
    clients.clone().write(2 * bytes).await?;
    cluster.start_member(LOSER)?;
    cluster.await_answer(LOSER, START_LIMIT).await?;
    trace.kill(&mut cluster.members[LOSER]).await?;
    clients.stop().await;
    let records = trace.read()?;
    let first = named(&records).context("the member never had a name of its own")?;
    let mut random = Random::new(args.seed);
    let points = choose(&records, first, args.transfer_points, &mut random);
    let mut replay = Replay::new(&records, random);
    let mut store = Store { clients, cluster };
    store.cluster.members[LOSER].environment.clear();
    for point in &points {
        replay.lose_power(point, &trace.folder)?;
        replay.note(point, store.comes_back().await);
        store.cluster.members[LOSER].kill().await?;
    }
    let lost = replay.end()?;
    println!(
        "{lost} losses of power of a member that takes over a state: it has all that the others have"
    );
    store.cluster.stop().await
}

/// Records until the member knows for ever who it is. Before, the others would have to forget that they have met it.
fn named(records: &[Traced]) -> Option<usize> {
    let mut records = records.iter().enumerate();
    let folder = records.find_map(|(_, traced)| match &traced.record {
        Record::Rename { to, .. } => Some(*to),
        _ => None,
    })?;
    let is = |record: &Record| matches!(record, Record::SyncEnds { inode, .. } if *inode == folder);
    records
        .find(|(_, traced)| is(&traced.record))
        .map(|(at, _)| at + 1)
}

struct Store {
    clients: Rc<Clients>,
    cluster: Cluster,
}

impl Store {
    async fn comes_back(&mut self) -> Result<()> {
        for other in OTHERS {
            // Else its leader would remember how much the member had once.
            self.cluster.members[other].kill().await?;
            self.cluster.start_member(other)?;
        }
        for other in OTHERS {
            self.cluster.await_answer(other, START_LIMIT).await?;
        }
        self.cluster.start_member(LOSER)?;
        let urls = self.cluster.urls();
        await_start(&mut self.cluster, LOSER).await?;
        self.clients.check(&urls[LOSER], u64::MAX).await?;
        let hash = pb::HashKvRequest::default();
        let [mine, theirs] = [&urls[LOSER], &urls[OTHERS[0]]].map(|url| {
            let hash = &hash;
            async move { ask::<pb::HashKvResponse>(url, "Maintenance/HashKV", hash).await }
        });
        let (mine, theirs) = (mine.await?, theirs.await?);
        ensure!(mine.hash == theirs.hash, "another hash than the others'");
        Ok(())
    }
}
