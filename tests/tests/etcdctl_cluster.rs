//! What etcdctl 3.4 and 3.5 do with three members of `xebec store` as a whole: leaders that die under locks and
//! elections, backups that become clusters, members without a leader.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::{Background, StoreCluster, binary, eventually, run};

const LIMIT: Duration = Duration::from_secs(60);
const ALL: [usize; 3] = [0, 1, 2];

/// A lock and an election are held through a member that lives while the leader dies, and go on in order.
#[test]
fn locks_and_elections_outlive_the_leader() -> Result<()> {
    let mut cluster = StoreCluster::found(&[])?;
    let leader = cluster.leader(&ALL)?;
    let followers: Vec<usize> = ALL.into_iter().filter(|at| *at != leader).collect();
    let (mut held, mut waiting) = (Vec::new(), Vec::new());
    for (number, ctl) in cluster.ctls(&followers)?.iter().enumerate() {
        let start = |arguments: String| Background::start(&mut ctl.command(&arguments));
        let mut lock = start(format!("lock l{number}"))?;
        lock.says(&format!("l{number}/"), LIMIT)?;
        waiting.push((start(format!("lock l{number} echo mine now"))?, "mine now"));
        let mut elect = start(format!("elect e{number} one"))?;
        elect.says("one", LIMIT)?;
        waiting.push((start(format!("elect e{number} two"))?, "two"));
        eventually("two are in line", LIMIT, || {
            for name in ["l", "e"] {
                let keys = ctl.ok(&format!("get --prefix {name}{number}/ --keys-only"))?;
                ensure!(keys.split_whitespace().count() == 2, "{keys}");
            }
            Ok(())
        })?;
        held.extend([lock, elect]);
    }
    cluster.kill(leader)?;
    cluster.await_answer(&followers)?;
    for (second, expect) in &mut waiting {
        let said = second.so_far();
        let both = said.iter().any(|line| line.contains(*expect));
        ensure!(!both, "two hold it at once: {said:?}");
    }
    held.iter_mut().try_for_each(Background::interrupt)?;
    for (second, expect) in &mut waiting {
        second.says(expect, LIMIT)?;
    }
    cluster.start(leader)?;
    cluster.await_answer(&[leader])?;
    cluster.check_hashes(&ALL)
}

/// A backup becomes a cluster of three with what it held, and with other ids.
#[test]
fn a_backup_becomes_three_members() -> Result<()> {
    let cluster = StoreCluster::found(&[])?;
    cluster.etcdctl(&[1], "put kept yes")?;
    cluster.etcdctl(&[2], "put gone no")?;
    cluster.etcdctl(&[0], "del gone")?;
    let mut files = Vec::new();
    for (number, ctl) in cluster.ctls(&[1])?.iter().enumerate() {
        let file = cluster.directory().join(format!("backup{number}"));
        ctl.ok(&format!("snapshot save {}", file.display()))?;
        files.push(file);
    }
    let old = cluster.id(0)?;
    drop_processes(cluster, |mut restored| {
        let peers = restored.members.iter();
        let initial = peers.map(|member| format!("{}={}", member.name, member.peer));
        let initial = initial.collect::<Vec<_>>().join(",");
        for at in ALL {
            let data = restored.data(at);
            std::fs::remove_dir_all(&data)?;
            let member = &restored.members[at];
            let mut restore = Command::new(binary()?);
            restore
                .args(["snapshot", "restore", "--name", &member.name])
                .arg(&files[1])
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--initial-cluster={initial}"))
                .arg(format!("--initial-advertise-peer-urls={}", member.peer));
            run(&mut restore, "")?.ok()?;
        }
        ALL.into_iter().try_for_each(|at| restored.start(at))?;
        restored.await_answer(&ALL)?;
        for ctl in restored.ctls(&[2])? {
            ctl.check("get kept", "", "kept\nyes\n")?;
            ctl.check("get gone", "", "")?;
        }
        ensure!(restored.id(0)? != old, "a restored member is another");
        restored.etcdctl(&[0], "put after restore")?;
        restored.check_hashes(&ALL)
    })
}

/// Stops all members and goes on with their places and flags.
fn drop_processes(
    mut cluster: StoreCluster,
    then: impl FnOnce(StoreCluster) -> Result<()>,
) -> Result<()> {
    ALL.into_iter().try_for_each(|at| cluster.kill(at))?;
    then(cluster)
}

/// Members are looked at, compared, moved and measured as one cluster.
#[test]
fn the_whole_cluster_is_asked() -> Result<()> {
    let cluster = StoreCluster::found(&["--corrupt-check-time=1s"])?;
    for ctl in cluster.ctls(&ALL)? {
        ctl.ok("put a 1")?;
        let status = ctl.ok("endpoint status")?;
        ensure!(status.lines().count() == 3, "{status}");
        ensure!(
            status.matches(", true, false, ").count() == 1,
            "one leads: {status}"
        );
        for format in ["simple", "json", "table", "fields"] {
            ctl.ok(&format!("endpoint status --cluster -w {format}"))?;
            ctl.ok(&format!("member list -w {format}"))?;
        }
        cluster.check_hashes(&ALL)?;
        let said = ctl.ok("defrag --cluster")?;
        ensure!(
            said.matches("Finished defragmenting").count() == 3,
            "{said}"
        );
        let leader = cluster.leader(&ALL)?;
        let next = (leader + 1) % 3;
        let ctl_there = ctl.at(cluster.endpoints(&[leader]));
        ctl_there.ok(&format!("move-leader {}", cluster.id(next)?))?;
        ensure!(cluster.leader(&ALL)? == next);
        ctl.check("alarm list", "", "")?;
    }
    Ok(())
}

/// Without a majority, watches of clients that want a leader end, and they do so at the leader that was left alone, too.
#[test]
fn without_a_majority_nobody_pretends() -> Result<()> {
    let mut cluster = StoreCluster::found(&[])?;
    let leader = cluster.leader(&ALL)?;
    for at in ALL.into_iter().filter(|at| *at != leader) {
        cluster.kill(at)?;
    }
    for ctl in cluster.ctls(&[leader])? {
        eventually("the leader knows that it is alone", LIMIT, || {
            let status = ctl.ok("endpoint status")?;
            ensure!(status.split(", ").nth(4) == Some("false"), "{status}");
            Ok(())
        })?;
        ctl.fail("--command-timeout=3s put a 1", "")?;
        ctl.fail("watch a", "no leader")?;
        ctl.ok("get a --consistency=s")?;
    }
    ALL.into_iter()
        .filter(|at| *at != leader)
        .try_for_each(|at| cluster.start(at))?;
    cluster.await_answer(&ALL)
}
