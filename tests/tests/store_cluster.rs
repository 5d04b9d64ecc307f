//! Three members of the store as etcd's own client meets them: etcdctl against `xebec store`, kill -9 included.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{StoreCluster, eventually};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn three_members_survive_the_loss_of_any_and_change_their_number() -> Result<()> {
    let mut cluster = StoreCluster::found(&[])?;
    for at in 0..3 {
        cluster.etcdctl(&[at], &format!("put k{at} v{at}"))?;
        for reader in 0..3 {
            let said = cluster.etcdctl(&[reader], &format!("get k{at} --print-value-only"))?;
            ensure!(said.trim() == format!("v{at}"), "{said:?}");
        }
    }
    let names = cluster.list(1)?;
    let member = |name: &str| (name.to_owned(), "false".to_owned());
    ensure!(
        names == BTreeSet::from(["m0", "m1", "m2"].map(member)),
        "{names:?}"
    );
    cluster.check_hashes(&[0, 1, 2])?;

    let killed = cluster.leader(&[0, 1, 2])?;
    let left: Vec<usize> = (0..3).filter(|at| *at != killed).collect();
    cluster.kill(killed)?;
    cluster.etcdctl(&left[..1], "put after kill")?;
    let leader = cluster.leader(&left)?;
    cluster.start(killed)?;
    cluster.await_answer(&[killed])?;
    let said = cluster.etcdctl(&[killed], "get after --print-value-only")?;
    ensure!(said.trim() == "kill", "{said:?}");

    let id = cluster.id(killed)?;
    cluster.etcdctl(&[leader], &format!("move-leader {id}"))?;
    ensure!(cluster.leader(&[0, 1, 2])? == killed);

    let fourth = cluster.add("m3", vec!["--initial-cluster-state=existing".to_owned()])?;
    let peer = cluster.members[fourth].peer.clone();
    let said = cluster.etcdctl(&[leader], &format!("member add m3 --peer-urls={peer}"))?;
    let printed = said
        .lines()
        .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let initial = printed.context("what to start it with")?.trim_matches('"');
    let flag = format!("--initial-cluster={initial}");
    cluster.members[fourth].flags.push(flag);
    cluster.start(fourth)?;
    cluster.await_answer(&[fourth])?;
    eventually("it is known by its name", LIMIT, || {
        let list = cluster.list(leader)?;
        ensure!(list.contains(&member("m3")), "{list:?}");
        Ok(())
    })?;
    cluster.check_hashes(&[0, 1, 2, 3])?;

    let id = cluster.id(killed)?;
    cluster.etcdctl(&[fourth], &format!("member remove {id}"))?;
    let mut process = cluster.members[killed].process.take().context("it runs")?;
    eventually("the removed member ends", LIMIT, || {
        ensure!(process.ended()?.is_some(), "it still runs");
        Ok(())
    })?;
    cluster.etcdctl(&[fourth], "put last word")?;
    cluster.check_hashes(&[left[0], left[1], fourth])
}
