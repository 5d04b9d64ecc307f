//! What docs/operations.md says about a store that is corrupt or has lost its quorum, done with three members of `xebec store`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::{StoreCluster, contains, eventually, run};

/// What a busy machine may take for one step.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_corrupt_member_is_replaced_and_a_lost_quorum_is_left_behind() -> Result<()> {
    let mut cluster = StoreCluster::found(&["--initial-corrupt-check", "--corrupt-check-time=1s"])?;
    cluster.etcdctl(&[0], "put kept before")?;
    replace_the_corrupt(&mut cluster)?;
    leave_the_lost(&mut cluster)
}

/// The alarm names the member: it goes, and comes back with nothing.
fn replace_the_corrupt(cluster: &mut StoreCluster) -> Result<()> {
    let corrupt = (0..3).find(|at| cluster.leader(&[0, 1, 2]).is_ok_and(|leader| leader != *at));
    let corrupt = corrupt.context("two do not lead")?;
    let others: Vec<usize> = (0..3).filter(|at| *at != corrupt).collect();
    let id = cluster.id(corrupt)?;
    raise_corrupt(cluster, others[0], &id)?;
    let refused = cluster.etcdctl(&others, "get kept");
    let refused = refused.err().context("a corrupt cluster answers")?;
    contains(&format!("{refused:#}"), "etcdserver: corrupt cluster")?;
    contains(&cluster.etcdctl(&others, "alarm list")?, "alarm:CORRUPT")?;

    cluster.kill(corrupt)?;
    cluster.etcdctl(&others, &format!("member remove {id}"))?;
    std::fs::remove_dir_all(cluster.data(corrupt))?;
    let (name, peer) = (
        cluster.members[corrupt].name.clone(),
        cluster.members[corrupt].peer.clone(),
    );
    cluster.etcdctl(&others, &format!("member add {name} --peer-urls={peer}"))?;
    let flags = &mut cluster.members[corrupt].flags;
    flags.push("--initial-cluster-state=existing".to_owned());
    cluster.start(corrupt)?;
    cluster.etcdctl(&others, "alarm disarm")?;
    cluster.await_answer(&[0, 1, 2])?;
    let kept = cluster.etcdctl(&[corrupt], "get kept --print-value-only")?;
    ensure!(kept == "before\n", "{kept:?}");
    eventually("the members hold the same", LIMIT, || {
        cluster.check_hashes(&[0, 1, 2])
    })
}

/// As the leader does when it finds that a member's hash is not its own.
fn raise_corrupt(cluster: &StoreCluster, at: usize, id: &str) -> Result<()> {
    let body = json!({
        "action": "ACTIVATE",
        "memberID": u64::from_str_radix(id, 16)?.to_string(),
        "alarm": "CORRUPT",
    });
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--data",
        &body.to_string(),
    ])
    .arg(format!(
        "{}/v3/maintenance/alarm",
        cluster.members[at].client
    ));
    contains(&run(&mut curl, "")?.ok()?, "CORRUPT")
}

/// Two of three are lost: the third goes on alone, and later starts need no flag.
fn leave_the_lost(cluster: &mut StoreCluster) -> Result<()> {
    cluster.etcdctl(&[1], "put kept until")?;
    // What it has not heard of cannot be kept.
    contains(&cluster.etcdctl(&[0], "get kept")?, "until")?;
    for at in 0..3 {
        cluster.kill(at)?;
    }
    cluster.members[0]
        .flags
        .push("--force-new-cluster=true".to_owned());
    cluster.start(0)?;
    cluster.await_answer(&[0])?;
    let kept = cluster.etcdctl(&[0], "get kept --print-value-only")?;
    ensure!(kept == "until\n", "{kept:?}");
    cluster.etcdctl(&[0], "put kept after")?;
    ensure!(cluster.list(0)?.len() == 1, "{:?}", cluster.list(0));

    // The flag may stay, and may go.
    for flag in ["--force-new-cluster=1", "--force-new-cluster=false"] {
        cluster.kill(0)?;
        cluster.members[0].flags.push(flag.to_owned());
        cluster.start(0)?;
        cluster.await_answer(&[0])?;
        let kept = cluster.etcdctl(&[0], "get kept --print-value-only")?;
        ensure!(kept == "after\n", "{flag}: {kept:?}");
        ensure!(cluster.list(0)?.len() == 1, "{:?}", cluster.list(0));
    }
    Ok(())
}
