//! Three masters on hosts of their own: they join with a token, each answers, any of them may be lost. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::{Host, Kubectl, Network, Process, binary, contains, eventually, kubectls, run};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host with a master and its data.
struct Master {
    name: String,
    process: Option<Process>,
    directory: tempfile::TempDir,
    host: Host,
}

impl Master {
    /// Starts a master; it runs no pods.
    fn start(host: Host, name: &str, flags: &[String]) -> Result<Self> {
        let mut master = Self {
            name: name.to_owned(),
            process: None,
            directory: tempfile::Builder::new().prefix("xebec-test-").tempdir()?,
            host,
        };
        master.spawn(flags)?;
        Ok(master)
    }

    fn spawn(&mut self, flags: &[String]) -> Result<()> {
        let mut command = self.command()?;
        let log = self.directory.path().join("log");
        self.process = Some(Process::start(command.args(flags), &log)?);
        let check = format!("--kubeconfig={}", self.kubeconfig().display());
        eventually("the master is ready", PATIENCE, || {
            if let Some(status) = self.process()?.ended()? {
                bail!("it ended with {status}: {}", self.process()?.tail());
            }
            xebec(&["status", "--check=api", &check]).map(drop)
        })
    }

    fn command(&self) -> Result<Command> {
        server(&self.host, &self.name, self.directory.path())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not running")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("server/admin.kubeconfig")
    }

    fn kubectl(&self) -> Result<Kubectl> {
        let program = kubectls().into_iter().next_back().context("no kubectl")?;
        Ok(Kubectl::new(program, self.kubeconfig()))
    }

    /// `xebec` with this master's kubeconfig.
    fn xebec(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig().display());
        xebec(&[arguments, &[&kubeconfig]].concat())
    }
}

fn server(host: &Host, name: &str, data_dir: &Path) -> Result<Command> {
    let mut command = host.command(binary()?);
    command
        .args(["server", "--disable-agent"])
        .arg(format!("--node-name={name}"))
        .arg(format!("--advertise-address={}", host.address))
        .arg(format!("--data-dir={}", data_dir.display()));
    Ok(command)
}

fn xebec(arguments: &[&str]) -> Result<String> {
    run(Command::new(binary()?).args(arguments), "")?.ok()
}

/// What a server says that may not join: its last line.
fn refused(host: &Host, name: &str, data_dir: &Path, flags: &[&str]) -> Result<String> {
    let mut command = server(host, name, data_dir)?;
    let output = run(command.arg("--log-level=error").args(flags), "")?;
    ensure!(!output.success, "it joined with {flags:?}");
    let last = output.stderr.lines().last().unwrap_or_default().to_owned();
    ensure!(last.starts_with("error: "), "{}", output.stderr);
    Ok(last)
}

fn join_flags(first: &Master) -> Result<Vec<String>> {
    let token = first.xebec(&["token", "create", "--role=server"])?;
    Ok(vec![
        format!("--join=https://{}:6443", first.host.address),
        format!("--token={}", token.trim()),
    ])
}

#[test]
fn three_masters_outlive_each_other() -> Result<()> {
    let network = Network::new()?;
    let first = Master::start(network.host(10)?, "master-1", &[])?;
    let stranger = network.host(40)?;
    strangers(&first, &stranger)?;
    let join = join_flags(&first)?;
    let second = Master::start(network.host(20)?, "master-2", &join)?;
    let third = Master::start(network.host(30)?, "master-3", &join)?;
    let directory = tempfile::tempdir()?;
    let flags: Vec<&str> = join.iter().map(String::as_str).collect();
    contains(
        &refused(&stranger, "master-2", directory.path(), &flags)?,
        "a master \"master-2\" runs at",
    )?;
    let mut masters = [first, second, third];
    same_answers(&masters)?;
    one_key(&masters)?;
    voters(&masters[0], 3)?;
    told(&masters, &[0, 1, 2])?;
    let dead = lose_the_leader(&mut masters)?;
    masters[dead].spawn(&[])?;
    told(&masters, &[0, 1, 2])?;
    same_answers(&masters)?;
    removed_and_back(masters)
}

/// Who may not join is told why.
fn strangers(first: &Master, host: &Host) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let to = format!("--join=https://{}:6443", first.host.address);
    let check = |token: &str, expect: &str| {
        let token = format!("--token={}", token.trim());
        let said = refused(host, "stranger", directory.path(), &[&to, &token])?;
        contains(&said, expect)
    };
    check(
        &first.xebec(&["token", "create"])?,
        "this token is not for masters",
    )?;
    let good = first.xebec(&["token", "create", "--role=server"])?;
    let (hash, bootstrap) = good.split_once("::").context("a token")?;
    let other = format!("K10{}::{bootstrap}", "0".repeat(64));
    check(&other, "nothing secret was sent")?;
    let unknown = "does not know this token";
    check(&format!("{hash}::abcdef.0123456789abcdef"), unknown)?;
    let short = first.xebec(&["token", "create", "--role=server", "--ttl=1s"])?;
    let (_, bootstrap) = short.split_once("::").context("a token")?;
    let (id, _) = bootstrap.split_once('.').context("a token")?;
    eventually("the expired token is deleted", PATIENCE, || {
        let listed = first.xebec(&["token", "list"])?;
        ensure!(!listed.contains(id), "{listed}");
        Ok(())
    })?;
    check(&short, unknown)?;
    let token = format!("--token={}", good.trim());
    let cidr = "--cluster-cidr=10.9.0.0/16";
    contains(
        &refused(host, "stranger", directory.path(), &[&to, &token, cidr])?,
        "--cluster-cidr: the cluster has 10.42.0.0/16",
    )?;
    // The directory of a master, and a token of another cluster.
    std::fs::create_dir_all(directory.path().join("server/tls"))?;
    let ca = "server/tls/ca.crt";
    std::fs::copy(first.directory.path().join(ca), directory.path().join(ca))?;
    check(&other, "belongs to another cluster than the token")
}

/// What is written to one master is read from each at once, under one resourceVersion; a watch goes on at another one.
fn same_answers(masters: &[Master; 3]) -> Result<()> {
    let version = "-o=jsonpath={.metadata.resourceVersion}";
    for (number, master) in masters.iter().enumerate() {
        let name = format!("from-{}", master.name);
        let kubectl = master.kubectl()?;
        kubectl.run(&format!("delete configmap {name} --ignore-not-found"))?;
        let made = kubectl.run(&format!("create configmap {name} {version}"))?;
        for other in masters {
            let found = other
                .kubectl()?
                .run(&format!("get configmap {name} {version}"))?;
            ensure!(found == made, "{made} is {found} on {}", other.name);
        }
        let next = masters[(number + 1) % 3].kubectl()?;
        kubectl.run(&format!("label configmap {name} seen=yes"))?;
        let events = next.run(&format!(
            "get --raw /api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&resourceVersion={made}"
        ))?;
        let first = events.lines().next().unwrap_or_default();
        contains(first, "\"MODIFIED\"")?;
        contains(first, "\"seen\":\"yes\"")?;
    }
    Ok(())
}

/// Every master reads and writes Secrets, whichever changed their key.
fn one_key(masters: &[Master; 3]) -> Result<()> {
    let data = "-o=jsonpath={.data.k}";
    for (number, master) in masters.iter().enumerate() {
        let secret = format!("secret generic of-{}", master.name);
        let made = master
            .kubectl()?
            .run(&format!("create {secret} --from-literal=k=v {data}"))?;
        masters[(number + 1) % 3].xebec(&["secrets-encrypt", "rotate-keys"])?;
        for other in masters {
            let get = format!("get secret of-{} {data}", master.name);
            let found = other.kubectl()?.run(&get)?;
            ensure!(found == made, "{made} is {found} on {}", other.name);
        }
    }
    let status = masters[0].xebec(&["secrets-encrypt", "status"])?;
    contains(&status, "key4  Active")
}

fn voters(master: &Master, wanted: usize) -> Result<String> {
    eventually("all vote", PATIENCE, || {
        let list = master.xebec(&["member", "list"])?;
        let votes = list.matches(" voter ").count() + list.matches(" leader ").count();
        ensure!(votes == wanted, "{list}");
        Ok(list)
    })
}

/// Waits until the Service `kubernetes` leads to those masters and no others.
fn told(masters: &[Master; 3], living: &[usize]) -> Result<()> {
    let wanted: Vec<String> = living
        .iter()
        .map(|number| masters[*number].host.address.to_string())
        .collect();
    let kubectl = masters[living[0]].kubectl()?;
    for list in [
        "get endpointslice kubernetes -o jsonpath={.endpoints[*].addresses[0]}",
        "get endpoints kubernetes -o jsonpath={.subsets[0].addresses[*].ip}",
    ] {
        eventually("the masters' endpoints", PATIENCE, || {
            let found = kubectl.run(list)?;
            ensure!(found == wanted.join(" "), "{found}, not {wanted:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// kill -9 of the master that leads: the others go on without it. Answers which it was.
fn lose_the_leader(masters: &mut [Master; 3]) -> Result<usize> {
    let list = voters(&masters[0], 3)?;
    let line = list.lines().find(|line| line.contains(" leader "));
    let line = line.context("nobody leads")?;
    let leads = |master: &Master| line.contains(&master.name);
    let leader = masters.iter().position(leads).context("one of them")?;
    let others: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let kubectl = masters[others[0]].kubectl()?;
    for number in 0..10 {
        let to = masters[number % 3].kubectl()?;
        to.run(&format!("create configmap kept-{number}"))?;
    }
    masters[leader].process.take().context("running")?.kill()?;
    let killed = Instant::now();
    eventually("writes go on", PATIENCE, || {
        kubectl.run("create configmap after-the-leader").map(drop)
    })?;
    eprintln!("writes went on after {:?}", killed.elapsed());
    told(masters, &others)?;
    eprintln!("the dead master was gone after {:?}", killed.elapsed());
    let kept = masters[others[1]].kubectl()?.run("get configmaps")?;
    ensure!(kept.matches("kept-").count() == 10, "{kept}");
    contains(&kept, "after-the-leader")?;
    // Scheduler and controllers go on as well.
    eventually("controllers work", PATIENCE, || {
        let _ = kubectl.try_run("create namespace after", "")?;
        contains(&kubectl.run("get serviceaccounts -n after")?, "default")
    })?;
    Ok(leader)
}

/// A master that is removed ends and says so; wiped, it joins again under its old name.
fn removed_and_back(masters: [Master; 3]) -> Result<()> {
    let [first, second, mut third] = masters;
    first.xebec(&["member", "remove", "master-3"])?;
    eventually("the removed master ends", PATIENCE, || {
        let status = third.process()?.ended()?.context("it runs")?;
        ensure!(!status.success());
        contains(&third.process()?.tail(), "permanently removed")
    })?;
    voters(&first, 2)?;
    contains(
        &refused(&third.host, "master-3", third.directory.path(), &[])?,
        "permanently removed",
    )?;
    std::fs::remove_dir_all(third.directory.path().join("server"))?;
    third.spawn(&join_flags(&second)?)?;
    voters(&first, 3)?;
    // A clean stop is one, whoever leads.
    let mut second = second;
    second.process.take().context("running")?.stop()?;
    majority_lost(first, second, third)
}

/// Two of three are lost for good: the data of the last one becomes a cluster of one, which the others cannot disturb.
fn majority_lost(first: Master, mut second: Master, third: Master) -> Result<()> {
    let mut third = third;
    third.process.take().context("running")?.kill()?;
    let mut first = first;
    first.process.take().context("running")?.kill()?;
    let reset = run(first.command()?.arg("--cluster-reset"), "")?;
    contains(&reset.stderr, "start it again without --cluster-reset")?;
    reset.ok()?;
    first.spawn(&[])?;
    let kept = first.kubectl()?.run("get configmaps")?;
    ensure!(kept.matches("kept-").count() == 10, "{kept}");
    voters(&first, 1)?;
    // Its data is of a cluster that is no more: it finds no majority, and disturbs nobody.
    let flags: Vec<String> = Vec::new();
    let log = second.directory.path().join("log");
    second.process = Some(Process::start(second.command()?.args(&flags), &log)?);
    std::fs::remove_dir_all(third.directory.path().join("server"))?;
    third.spawn(&join_flags(&first)?)?;
    voters(&first, 2)?;
    second.process.take().context("running")?.kill()
}

#[test]
fn a_snapshot_and_the_server_token_bring_a_lost_cluster_back() -> Result<()> {
    let network = Network::new()?;
    let mut lost = Master::start(network.host(10)?, "master-1", &[])?;
    lost.kubectl()?.run("create configmap kept")?;
    let directory = tempfile::tempdir()?;
    let snapshot = directory.path().join("snapshot").display().to_string();
    let own = lost.directory.path().join("server");
    let etcd = |flag: &str, name: &str| format!("--{flag}={}/tls/etcd/{name}", own.display());
    xebec(&[
        "snapshot",
        "save",
        &snapshot,
        &format!("--endpoints=https://{}:2379", lost.host.address),
        &etcd("cacert", "server-ca.crt"),
        &etcd("cert", "client.crt"),
        &etcd("key", "client.key"),
    ])?;
    let token = std::fs::read_to_string(own.join("token"))?;
    let keys = || -> Result<Vec<String>> {
        let read = |name| Ok(std::fs::read_to_string(own.join(name))?);
        ["tls/ca.crt", "tls/sa.key", "tls/etcd/peer-ca.key"]
            .map(read)
            .into_iter()
            .collect()
    };
    let before = keys()?;
    let joining = lost.xebec(&["token", "create", "--role=server"])?;
    lost.process.take().context("running")?.kill()?;
    std::fs::remove_dir_all(&own)?;

    let store = format!("--data-dir={}/store", own.display());
    xebec(&["snapshot", "restore", &snapshot, &store])?;
    let data_dir = lost.directory.path().to_owned();
    let without = |flags: &[&str]| refused(&lost.host, "master-1", &data_dir, flags);
    contains(&without(&[])?, "give that with --token")?;
    contains(
        &without(&[&format!("--token={}", joining.trim())])?,
        "--token must be the server token",
    )?;
    lost.spawn(&[format!("--token={}", token.trim())])?;
    ensure!(keys()? == before, "the keys are others");
    contains(&lost.kubectl()?.run("get configmaps")?, "kept")?;
    voters(&lost, 1).map(drop)
}

/// A change of the CA and of the service-account key while everything runs, with a master that is down meanwhile: what was
/// good stays good until the change is finished, and only the new one is good then.
#[test]
fn a_new_ca_and_key_reach_every_master_and_break_nothing() -> Result<()> {
    let network = Network::new()?;
    let first = Master::start(network.host(10)?, "master-1", &[])?;
    let join = join_flags(&first)?;
    let second = Master::start(network.host(20)?, "master-2", &join)?;
    let third = Master::start(network.host(30)?, "master-3", &join)?;
    let mut masters = [first, second, third];
    voters(&masters[0], 3)?;
    let tokens = |masters: &[Master]| masters[0].kubectl()?.run("create token default");
    eventually("service accounts are made", PATIENCE, || {
        tokens(&masters).map(drop)
    })?;
    let old_token = tokens(&masters)?.trim().to_owned();
    let old = masters[0].directory.path().join("old.kubeconfig");
    std::fs::copy(masters[0].kubeconfig(), &old)?;
    let old = format!("--kubeconfig={}", old.display());

    masters[2].process.take().context("running")?.kill()?;
    masters[0].xebec(&["certificate", "rotate-ca"])?;
    masters[0].xebec(&["certificate", "rotate-service-account-key"])?;
    let again = masters[0].xebec(&["certificate", "rotate-ca"]);
    contains(
        &format!("{:#}", again.expect_err("twice")),
        "a change is under way",
    )?;
    let early = masters[0].xebec(&["certificate", "rotate-ca", "--finish"]);
    contains(
        &format!("{:#}", early.expect_err("one is down")),
        "master-3 does not answer",
    )?;
    masters[2].spawn(&[])?;
    eventually("every master has both", PATIENCE, || {
        let said = masters[1].xebec(&["certificate", "status"])?;
        ensure!(said.matches("these").count() == 3, "{said}");
        ensure!(said.matches("Trusted").count() == 2, "{said}");
        contains(&xebec(&["status", &old])?, "Trusted")
    })?;
    let new_token = tokens(&masters)?.trim().to_owned();
    for master in &masters {
        master.kubectl()?.run("get namespaces")?;
        who(master, &old_token)?;
        who(master, &new_token)?;
    }
    // With a token of before, the cluster is known by the old CA.
    let late = Master::start(network.host(40)?, "master-4", &join)?;

    let all: Vec<&Master> = masters.iter().chain([&late]).collect();
    only_the_new_ones_are_good(&all, &old, [&old_token, &new_token])?;
    masters[0].xebec(&["certificate", "rotate"])?;
    masters[1].process.take().context("running")?.kill()?;
    // A service manager goes on to give the token of the first start.
    masters[1].spawn(&join)?;
    masters[1].kubectl()?.run("get namespaces").map(drop)
}

/// Whom a token stands for at this master.
fn who(master: &Master, token: &str) -> Result<String> {
    let ca = master.directory.path().join("server/tls/ca.crt");
    let (ca, address) = (ca.display(), master.host.address);
    let kubectl = Kubectl::new(master.kubectl()?.program(), "/dev/null");
    kubectl.run(&format!(
        "auth whoami --server=https://{address}:6443 --certificate-authority={ca} --token={token}"
    ))
}

/// Finishes the changes of CA and key; `old` names the kubeconfig of before, and the tokens are the old and the new one.
fn only_the_new_ones_are_good(masters: &[&Master], old: &str, tokens: [&str; 2]) -> Result<()> {
    for what in ["rotate-ca", "rotate-service-account-key"] {
        masters[0].xebec(&["certificate", what, "--finish"])?;
    }
    let [old_token, new_token] = tokens;
    eventually("the old ones are good no more", PATIENCE, || {
        for master in masters {
            let said = master.xebec(&["certificate", "status"])?;
            ensure!(
                !said.contains("Trusted") && said.matches("these").count() == masters.len(),
                "{said}"
            );
            master.kubectl()?.run("get namespaces")?;
            ensure!(
                who(master, old_token).is_err(),
                "a token of the old key is believed"
            );
            who(master, new_token)?;
        }
        ensure!(
            xebec(&["status", old]).is_err(),
            "the old kubeconfig is good"
        );
        Ok(())
    })
}

/// As one tries it first: all on one machine, each with ports of its own.
#[test]
fn masters_may_share_an_address() -> Result<()> {
    let network = Network::new()?;
    let host = network.host(10)?;
    let directories: Vec<tempfile::TempDir> = (0..3)
        .map(|_| tempfile::tempdir())
        .collect::<Result<_, _>>()?;
    let mut processes = Vec::new();
    let mut join = Vec::new();
    let kubeconfig = |at: usize| directories[at].path().join("server/admin.kubeconfig");
    for (at, directory) in directories.iter().enumerate() {
        let mut command = server(&host, &format!("master-{at}"), directory.path())?;
        let ports = [
            ("https", 6443),
            ("store-peer", 2380),
            ("store-client", 2479),
        ];
        command.args(ports.map(|(name, port)| format!("--{name}-port={}", port + at)));
        let log = directory.path().join("log");
        processes.push(Process::start(command.args(&join), &log)?);
        let check = format!("--kubeconfig={}", kubeconfig(at).display());
        eventually("the master is ready", PATIENCE, || {
            xebec(&["status", "--check=api", &check]).map(drop)
        })
        .with_context(|| processes[at].tail())?;
        if at == 0 {
            let token = xebec(&["token", "create", "--role=server", &check])?;
            let first = format!("--join=https://{}:6443", host.address);
            join = vec![first, format!("--token={}", token.trim())];
        }
    }
    let program = kubectls().into_iter().next_back().context("no kubectl")?;
    let second = Kubectl::new(program, kubeconfig(1));
    let told = |expect: &str| {
        eventually("the endpoints are the masters", PATIENCE, || {
            let slices = "get endpointslices -l kubernetes.io/service-name=kubernetes --sort-by=.ports[0].port \
                 -o jsonpath={range.items[*]}{.metadata.name}={.endpoints[*].addresses[*]}:{.ports[*].port};{end}";
            let slices = second.run(slices)?.replace(&host.address.to_string(), "");
            ensure!(slices == expect, "{slices}");
            let subsets =
                second.run("get endpoints kubernetes -o jsonpath={.subsets[*].ports[*].port}")?;
            let ports: Vec<&str> = expect.split([':', ';']).skip(1).step_by(2).collect();
            ensure!(subsets == ports.join(" "), "{subsets}");
            Ok(())
        })
    };
    told("kubernetes=:6443;kubernetes-6444=:6444;kubernetes-6445=:6445;")?;
    processes.remove(0).kill()?;
    told("kubernetes=:6444;kubernetes-6445=:6445;")
}
