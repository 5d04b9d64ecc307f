//! Three members of the store as etcd's own client meets them: etcdctl against `xebec store`, kill -9 included.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Process, binary, eventually, free_port, run};

const LIMIT: Duration = Duration::from_secs(60);

struct Member {
    name: String,
    client: String,
    peer: String,
    flags: Vec<String>,
    process: Option<Process>,
}

struct Cluster {
    /// They end before the directory goes.
    members: Vec<Member>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Founds a cluster of three under etcd's flags.
    fn found() -> Result<Self> {
        let mut cluster = Self {
            directory: tempfile::tempdir()?,
            members: Vec::new(),
        };
        for at in 0..3 {
            cluster.add(&format!("m{at}"), Vec::new())?;
        }
        let named = cluster.members.iter();
        let initial: Vec<String> = named
            .map(|member| format!("{}={}", member.name, member.peer))
            .collect();
        let flag = format!("--initial-cluster={}", initial.join(","));
        for at in 0..3 {
            cluster.members[at].flags.push(flag.clone());
            cluster.start(at)?;
        }
        cluster.await_answer(&[0, 1, 2])?;
        Ok(cluster)
    }

    fn add(&mut self, name: &str, flags: Vec<String>) -> Result<usize> {
        let url = || Ok::<_, anyhow::Error>(format!("http://127.0.0.1:{}", free_port()?));
        self.members.push(Member {
            name: name.to_owned(),
            client: url()?,
            peer: url()?,
            flags,
            process: None,
        });
        Ok(self.members.len() - 1)
    }

    fn start(&mut self, at: usize) -> Result<()> {
        let member = &mut self.members[at];
        let data = self.directory.path().join(&member.name);
        let log = self.directory.path().join(format!("{}.log", member.name));
        let mut command = Command::new(binary()?);
        command
            .args(["store", "--log-level=warn", "--name", &member.name])
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={}", member.client))
            .arg(format!("--advertise-client-urls={}", member.client))
            .arg(format!("--listen-peer-urls={}", member.peer))
            .arg(format!("--initial-advertise-peer-urls={}", member.peer))
            .args(&member.flags);
        member.process = Some(Process::start(&mut command, &log)?);
        Ok(())
    }

    fn kill(&mut self, at: usize) -> Result<()> {
        let process = self.members[at].process.take();
        process.context("it runs")?.kill()
    }

    fn endpoints(&self, members: &[usize]) -> String {
        let urls: Vec<&str> = members
            .iter()
            .map(|at| self.members[*at].client.as_str())
            .collect();
        urls.join(",")
    }

    fn etcdctl(&self, members: &[usize], arguments: &str) -> Result<String> {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", self.endpoints(members))
            .arg("--command-timeout=20s")
            .args(arguments.split_whitespace());
        run(&mut command, "")?
            .ok()
            .with_context(|| format!("etcdctl {arguments}"))
    }

    fn await_answer(&self, members: &[usize]) -> Result<()> {
        for at in members {
            eventually("the member answers", LIMIT, || {
                self.etcdctl(&[*at], "get ready").map(drop)
            })?;
        }
        Ok(())
    }

    /// The members as etcdctl lists them: name, and whether it is a learner.
    fn list(&self, at: usize) -> Result<BTreeSet<(String, String)>> {
        let said = self.etcdctl(&[at], "member list")?;
        let fields = |line: &str| -> Vec<String> { line.split(", ").map(str::to_owned).collect() };
        let row = |line: &str| {
            let fields = fields(line);
            (
                fields.get(2).cloned().unwrap_or_default(),
                fields.last().cloned().unwrap_or_default(),
            )
        };
        Ok(said.lines().map(row).collect())
    }

    fn id(&self, at: usize) -> Result<String> {
        let said = self.etcdctl(&[at], "member list")?;
        let own = said
            .lines()
            .find(|line| line.contains(&self.members[at].peer));
        let id = own.and_then(|line| line.split(',').next());
        Ok(id.context("the member is listed")?.to_owned())
    }

    /// The one of the members that leads.
    fn leader(&self, members: &[usize]) -> Result<usize> {
        for at in members {
            // 3.4's columns: endpoint, id, version, size, is leader, …
            let status = self.etcdctl(&[*at], "endpoint status")?;
            if status.split(", ").nth(4) == Some("true") {
                return Ok(*at);
            }
        }
        anyhow::bail!("nobody leads")
    }

    fn check_hashes(&self, members: &[usize]) -> Result<()> {
        // A read on each makes it catch up first.
        self.await_answer(members)?;
        let said = self.etcdctl(members, "endpoint hashkv")?;
        let hashes: BTreeSet<_> = said
            .lines()
            .map(|line| line.rsplit(", ").next().unwrap_or_default().to_owned())
            .collect();
        ensure!(hashes.len() == 1, "the members differ: {said}");
        Ok(())
    }
}

#[test]
fn three_members_survive_the_loss_of_any_and_change_their_number() -> Result<()> {
    let mut cluster = Cluster::found()?;
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
