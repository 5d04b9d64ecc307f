//! Changes of members by etcdctl 3.4 and 3.5 on three members of `xebec store`, and what they make of its snapshots.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Etcdctl, Program, StoreCluster, StoreProcess, binary, contains, eventually, run};

const LIMIT: Duration = Duration::from_secs(60);

/// A learner serves what etcd's serves and refuses the rest in etcd's words, until it is promoted.
#[test]
fn a_learner_learns_until_it_is_promoted() -> Result<()> {
    const REFUSAL: &str = "rpc not supported for learner";
    let mut cluster = StoreCluster::found(&[])?;
    cluster.etcdctl(&[0], "put a 1")?;
    let at = cluster.add("m3", vec!["--initial-cluster-state=existing".to_owned()])?;
    let peer = cluster.members[at].peer.clone();
    let added = cluster.ctls(&[0])?.swap_remove(1);
    let said = added.ok(&format!("member add m3 --learner --peer-urls={peer}"))?;
    let printed = said
        .lines()
        .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let initial = printed.context("what to start it with")?.trim_matches('"');
    let flag = format!("--initial-cluster={initial}");
    cluster.members[at].flags.push(flag);
    cluster.start(at)?;
    for ctl in cluster.ctls(&[at])? {
        eventually("the learner has caught up", LIMIT, || {
            ctl.check("get a --consistency=s", "", "a\n1\n")
        })?;
        ctl.fail("get a", REFUSAL)?;
        ctl.fail("put a 2", REFUSAL)?;
        ctl.fail("lease grant 10", REFUSAL)?;
        ctl.fail("member list", REFUSAL)?;
        let status = ctl.ok("endpoint status")?;
        ensure!(
            status.contains(", false, true, "),
            "it is a learner: {status}"
        );
        let file = cluster.directory().join("of-learner");
        ctl.ok(&format!("snapshot save {}", file.display()))?;
    }
    let id = cluster_id_of(&added, &peer)?;
    eventually("it is in sync and promoted", LIMIT, || {
        added.ok(&format!("member promote {id}")).map(drop)
    })?;
    eventually("it serves", LIMIT, || {
        for ctl in cluster.ctls(&[at])? {
            ctl.check("get a", "", "a\n1\n")?;
        }
        Ok(())
    })?;
    cluster.check_hashes(&[0, 1, 2, at])
}

fn cluster_id_of(ctl: &Etcdctl, peer: &str) -> Result<String> {
    let listed = ctl.ok("member list")?;
    let own = listed.lines().find(|line| line.contains(peer));
    let id = own.and_then(|line| line.split(',').next());
    Ok(id.context("it is listed")?.to_owned())
}

/// Starts a member that was added with the flags that etcdctl printed.
fn start(cluster: &mut StoreCluster, at: usize, added: &str) -> Result<()> {
    let printed = added
        .lines()
        .find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    let initial = printed.context("what to start it with")?.trim_matches('"');
    contains(added, "ETCD_INITIAL_CLUSTER_STATE=\"existing\"")?;
    let flags = &mut cluster.members[at].flags;
    flags.push("--initial-cluster-state=existing".to_owned());
    flags.push(format!("--initial-cluster={initial}"));
    cluster.start(at)
}

/// Each version adds one member as a learner and promotes it, adds another as a voter, gives one a further address, and
/// removes both, whose processes then end.
#[test]
fn members_come_and_go_by_each_version() -> Result<()> {
    let mut cluster = StoreCluster::found(&[])?;
    for (number, version) in ["3.4", "3.5"].into_iter().enumerate() {
        let ctl = cluster.ctls(&[0])?.swap_remove(number);
        come_and_go(&mut cluster, &ctl, number).with_context(|| format!("etcdctl {version}"))?;
    }
    cluster.check_hashes(&[0, 1, 2])
}

fn come_and_go(cluster: &mut StoreCluster, ctl: &Etcdctl, number: usize) -> Result<()> {
    let mut added = Vec::new();
    for (kind, flag) in [("learner", "--learner"), ("voter", "")] {
        let name = format!("{kind}{number}");
        let at = cluster.add(&name, Vec::new())?;
        let peer = cluster.members[at].peer.clone();
        let said = ctl.ok(&format!("member add {name} {flag} --peer-urls={peer}"))?;
        ctl.fail(
            &format!("member add again --peer-urls={peer}"),
            "Peer URLs already exists",
        )?;
        start(cluster, at, &said)?;
        let id = cluster_id_of(ctl, &peer)?;
        if kind == "learner" {
            eventually("the learner is promoted", LIMIT, || {
                ctl.ok(&format!("member promote {id}")).map(drop)
            })?;
            ctl.fail(
                &format!("member promote {id}"),
                "can only promote a learner member",
            )?;
        }
        cluster.await_answer(&[at])?;
        added.push((at, id, peer));
    }
    let listed = ctl.ok("member list")?;
    ensure!(
        listed.lines().count() == 5 && listed.matches(", started, ").count() == 5,
        "{listed}"
    );
    let (at, id, peer) = &added[0];
    let further = "http://127.0.0.1:1";
    let said = ctl.ok(&format!("member update {id} --peer-urls={peer},{further}"))?;
    contains(&said, &format!("{id} updated in cluster"))?;
    contains(&ctl.ok("member list")?, further)?;
    cluster.await_answer(&[*at])?;
    for (at, id, _) in &added {
        let said = ctl.ok(&format!("member remove {id}"))?;
        contains(&said, &format!("{id} removed from cluster"))?;
        let process = cluster.members[*at].process.take();
        let mut process = process.context("it ran")?;
        eventually("the removed member ends", LIMIT, || {
            process.ended()?.context("it still runs")
        })?;
        ctl.fail(&format!("member remove {id}"), "member not found")?;
    }
    let listed = ctl.ok("member list")?;
    ensure!(listed.lines().count() == 3, "{listed}");
    cluster.await_answer(&[0, 1, 2])
}

/// A listed difference: etcdctl reads etcd's own database files. It refuses these, leaves nothing behind, and `xebec snapshot`
/// takes them.
#[test]
fn snapshots_are_for_xebec_alone() -> Result<()> {
    let store = StoreProcess::start(Program::Xebec, &[])?;
    for (number, ctl) in Etcdctl::all(&store)?.iter().enumerate() {
        ctl.ok("put kept yes")?;
        let file = store.directory().join(format!("snapshot{number}"));
        ctl.ok(&format!("snapshot save {}", file.display()))?;
        let restored = store.directory().join(format!("restored{number}"));
        for arguments in [
            format!("snapshot status {}", file.display()),
            format!(
                "snapshot restore {} --data-dir={}",
                file.display(),
                restored.display()
            ),
        ] {
            let output = ctl.run(&arguments, "")?;
            ensure!(!output.success, "etcdctl {arguments}: {}", output.stdout);
            // "invalid database", or "failed to open database".
            contains(&(output.stdout + &output.stderr), " database")?;
        }
        let is_member = restored.join("member/wal").exists();
        ensure!(!is_member, "etcdctl left a member of etcd behind");
        // Hash, revision, keys, size; as etcd's, each version of a key counts.
        let revision_and_keys = format!(", {}, {}, ", number + 2, number + 1);
        contains(&xebec(&["snapshot", "status"], &file)?, &revision_and_keys)?;
        let data = format!("--data-dir={}.xebec", restored.display());
        xebec(&["snapshot", "restore", &data], &file)?;
    }
    Ok(())
}

fn xebec(arguments: &[&str], file: &Path) -> Result<String> {
    let mut xebec = Command::new(binary()?);
    run(xebec.args(arguments).arg(file), "")?.ok()
}
