//! A store that is alone loses power: it has all that it ever acknowledged.

use std::rc::Rc;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::clients::Clients;
use super::points::{Replay, choose};
use super::trace::Trace;
use super::{PowerLossArgs, await_start, setting};
use crate::cluster::Cluster;
use crate::random::Random;

pub async fn prove(args: &PowerLossArgs) -> Result<()> {
    let mut setting = setting(args, 1, "alone")?;
    let (folder, file) = (
        setting.folder.join("m0/data"),
        setting.folder.with_extension("trace"),
    );
    let trace = Trace::new(args.shim()?, folder, file)?;
    setting.environment = trace.environment();
    let mut cluster = Cluster::start(&setting).await?;
    let url = cluster.urls().remove(0);
    let clients = Rc::new(Clients::new(url, trace.file.clone(), args.seed));
    for killed in [true, false, true] {
        if !cluster.members[0].runs()? {
            cluster.start_member(0)?;
        }
        await_start(&mut cluster, 0).await?;
        clients.read().await?;
        // It ends in the middle of writing.
        clients.clone().write(args.megabytes << 20).await?;
        if killed {
            trace.kill(&mut cluster.members[0]).await?;
        } else {
            cluster.members[0].signal(Signal::SIGTERM)?;
            cluster.members[0].ended().await?;
        }
        clients.ended().await;
    }
    let records = trace.read()?;
    println!(
        "recorded: {} changes and syncs of files, {} writes acknowledged",
        records.len(),
        clients.answers()
    );
    let mut random = Random::new(args.seed);
    let points = choose(&records, 0, args.points, &mut random);
    let mut replay = Replay::new(&records, random);
    let mut store = Store { clients, cluster };
    store.cluster.members[0].environment.clear();
    for point in &points {
        let moment = replay.lose_power(point, &trace.folder)?;
        store.cluster.start_member(0)?;
        replay.note(point, store.check(moment).await);
        store.cluster.members[0].kill().await?;
    }
    let lost = replay.end()?;
    println!("{lost} losses of power: all that was acknowledged is there");
    store.cluster.stop().await
}

struct Store {
    clients: Rc<Clients>,
    cluster: Cluster,
}

impl Store {
    async fn check(&mut self, moment: u64) -> Result<()> {
        await_start(&mut self.cluster, 0).await?;
        self.clients.check(&self.clients.url, moment).await
    }
}
