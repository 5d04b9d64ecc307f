//! `xebec store` started as etcd is: with kubeadm's arguments, by variables alone, by etcd's configuration file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::{
    Certificates, Etcdctl, Output, Process, binary, contains, etcd_3_5, eventually, free_port, run,
};

/// What a busy machine may take for one step.
const LIMIT: Duration = Duration::from_secs(60);

/// A store under these arguments, and nothing else than these variables.
fn command(folder: &Path, arguments: &[String], variables: &[(&str, String)]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.current_dir(folder).arg("store").args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    let variables = variables.iter().map(|(name, value)| (name, value));
    command.envs(variables);
    Ok(command)
}

/// Starts it and waits until it answers etcdctl with these flags.
fn start(command: &mut Command, folder: &Path, ctl: &Etcdctl, flags: &str) -> Result<Process> {
    let mut process = Process::start(command, &folder.join("log"))?;
    eventually("the store answers", LIMIT, || {
        if let Some(status) = process.ended()? {
            bail!("it ended with {status}: {}", process.tail());
        }
        ctl.ok(&format!("{flags} --command-timeout=2s get ready"))
    })?;
    Ok(process)
}

fn log(folder: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(folder.join("log"))?)
}

/// What a plain HTTP GET answers.
fn get(url: &str) -> Result<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", url]);
    run(&mut curl, "")?.ok()
}

/// The arguments of `/etc/kubernetes/manifests/etcd.yaml` behind `etcd`, as kubeadm 1.36 writes them for etcd 3.6; with
/// `experimental`, as it wrote them for etcd 3.5.
fn of_kubeadm(
    files: &Certificates,
    data: &Path,
    ports: [u16; 3],
    experimental: bool,
) -> Vec<String> {
    let [client, peer, metrics] = ports;
    let (corrupt, progress) = match experimental {
        false => ("feature-gates=InitialCorruptCheck=true", ""),
        true => ("experimental-initial-corrupt-check=true", "experimental-"),
    };
    vec![
        format!("--advertise-client-urls=https://127.0.0.2:{client}"),
        format!("--cert-file={}", files.path("server.crt")),
        "--client-cert-auth=true".to_owned(),
        format!("--data-dir={}", data.display()),
        format!("--{corrupt}"),
        format!("--initial-advertise-peer-urls=https://127.0.0.1:{peer}"),
        format!("--initial-cluster=control-plane=https://127.0.0.1:{peer}"),
        format!("--key-file={}", files.path("server.key")),
        format!("--listen-client-urls=https://127.0.0.1:{client},https://127.0.0.2:{client}"),
        format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
        format!("--listen-peer-urls=https://127.0.0.1:{peer}"),
        "--name=control-plane".to_owned(),
        format!("--peer-cert-file={}", files.path("peer.crt")),
        "--peer-client-cert-auth=true".to_owned(),
        format!("--peer-key-file={}", files.path("peer.key")),
        format!("--peer-trusted-ca-file={}", files.path("ca.crt")),
        "--snapshot-count=10000".to_owned(),
        format!("--trusted-ca-file={}", files.path("ca.crt")),
        format!("--{progress}watch-progress-notify-interval=5s"),
    ]
}

#[test]
fn kubeadms_arguments() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::write(folder.path())?;
    let ports = [free_port()?, free_port()?, free_port()?];
    let data = folder.path().join("etcd");
    let url = |host| format!("https://{host}:{}", ports[0]);
    let ctls = Etcdctl::at_each(&url("127.0.0.1"))?;
    let own = files.own();

    let arguments = of_kubeadm(&files, &data, ports, false);
    let mut newer = command(folder.path(), &arguments, &[])?;
    let process = start(&mut newer, folder.path(), &ctls[1], &own)?;
    for ctl in &ctls {
        ctl.check(&format!("{own} put a 1"), "", "OK\n")?;
        let other = ctl.at(url("127.0.0.2"));
        other.check(&format!("{own} get a"), "", "a\n1\n")?;
        ctl.fail(&format!("{} --command-timeout=2s get a", files.trust()), "")?;
    }
    let members = ctls[1].ok(&format!("{own} member list"))?;
    contains(&members, "started, control-plane, https://127.0.0.1:")?;
    contains(&members, &url("127.0.0.2"))?;
    // The kubelet's probes.
    for path in ["health?serializable=true", "livez", "readyz", "metrics"] {
        get(&format!("http://127.0.0.1:{}/{path}", ports[2]))?;
    }
    let said = log(folder.path())?;
    contains(&said, "--snapshot-count")?;
    ensure!(!said.contains(" WARN "), "{said}");
    process.stop()?;

    let arguments = of_kubeadm(&files, &data, ports, true);
    let mut older = command(folder.path(), &arguments, &[])?;
    let process = start(&mut older, folder.path(), &ctls[1], &own)?;
    ctls[1].check(&format!("{own} get a"), "", "a\n1\n")?;
    process.stop()
}

#[test]
fn variables_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (client, peer) = (free_port()?, free_port()?);
    let client = format!("http://127.0.0.1:{client}");
    let peer = format!("http://127.0.0.1:{peer}");
    let variables = [
        ("ETCD_NAME", "by-variables".to_owned()),
        ("ETCD_DATA_DIR", "data".to_owned()),
        ("ETCD_LISTEN_CLIENT_URLS", client.clone()),
        ("ETCD_ADVERTISE_CLIENT_URLS", client.clone()),
        ("ETCD_LISTEN_PEER_URLS", peer.clone()),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", peer.clone()),
        ("ETCD_INITIAL_CLUSTER", format!("by-variables={peer}")),
        ("ETCD_INITIAL_CLUSTER_STATE", "new".to_owned()),
        ("ETCD_AUTO_COMPACTION_MODE", "periodic".to_owned()),
        ("ETCD_AUTO_COMPACTION_RETENTION", "100ms".to_owned()),
        ("ETCD_ENABLE_V2", "false".to_owned()),
        ("ETCD_LOG_LEVEL", "warn".to_owned()),
        ("ETCD_SERVICE_HOST", "192.0.2.1".to_owned()),
        ("ETCD_QUOTA_BACKEND_BYTES", "8589934592".to_owned()),
    ];
    let ctl = Etcdctl::at_each(&client)?.swap_remove(1);
    let mut command = command(folder.path(), &[], &variables)?;
    let process = start(&mut command, folder.path(), &ctl, "")?;
    let status = ctl.ok("member list")?;
    contains(&status, "started, by-variables, ")?;
    ensure!(folder.path().join("data").is_dir(), "the data is elsewhere");
    let said = log(folder.path())?;
    contains(&said, "ETCD_SERVICE_HOST is no variable of etcd's")?;
    ensure!(!said.contains("INFO"), "{said}");

    // Revision 2 is history as soon as it is 100 ms old and there is something newer.
    ctl.ok("put a 1")?;
    ctl.ok("put a 2")?;
    eventually("history is compacted by itself", LIMIT, || {
        ctl.fail("get a --rev=2", "required revision has been compacted")
    })?;
    ctl.check("get a", "", "a\n2\n")?;
    process.stop()
}

/// As the sample that comes with etcd, with names of this machine.
fn configuration(files: &Certificates, client: &str, peer: &str) -> String {
    format!(
        "name: by-file
data-dir: by-file.data
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 16777216
listen-peer-urls: {peer}
listen-client-urls: {client}
max-snapshots: 5
cors:
initial-advertise-peer-urls: {peer}
advertise-client-urls: {client}
discovery:
discovery-fallback: 'proxy'
initial-cluster: by-file={peer}
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
proxy: 'off'
client-transport-security:
  cert-file: {cert}
  key-file: {key}
  client-cert-auth: false
  trusted-ca-file: {ca}
  auto-tls: false
peer-transport-security:
  cert-file:
  client-cert-auth: false
  auto-tls: false
self-signed-cert-validity: 1
log-level: info
logger: zap
log-outputs: [stderr]
log-format: console
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
watch-progress-notify-interval: 5000000000
no-flag-of-anything: 1
",
        cert = files.path("server.crt"),
        key = files.path("server.key"),
        ca = files.path("ca.crt"),
    )
}

#[test]
fn etcds_configuration_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::write(folder.path())?;
    let client = format!("https://127.0.0.1:{}", free_port()?);
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let file = folder.path().join("etcd.conf.yml");
    std::fs::write(&file, configuration(&files, &client, &peer))?;
    let ctl = Etcdctl::at_each(&client)?.swap_remove(1);
    let own = files.own();
    let arguments = ["--name=by-flag", "--config-file", "etcd.conf.yml"].map(str::to_owned);
    let mut command = command(folder.path(), &arguments, &[])?;
    let process = start(&mut command, folder.path(), &ctl, &own)?;
    contains(
        &ctl.ok(&format!("{own} member list"))?,
        "started, by-file, ",
    )?;
    // Who names a CA wants certificates by it, whatever client-cert-auth says.
    ctl.fail(&format!("{} --command-timeout=2s get a", files.trust()), "")?;
    let said = log(folder.path())?;
    contains(&said, "no-flag-of-anything is not known")?;
    contains(&said, "ignored: --name")?;
    contains(&said, "--strict-reconfig-check=false is ignored")?;
    no_space(&ctl, &own, folder.path())?;
    process.stop()
}

/// The quota of the file is used up, and found room in again.
fn no_space(ctl: &Etcdctl, own: &str, folder: &Path) -> Result<()> {
    let put = |key: usize| -> Result<Output> {
        // Nothing that could be compressed.
        let value = folder.join("value");
        let mut make = Command::new("openssl");
        make.args(["rand", "-base64", "-out"])
            .arg(&value)
            .arg("700000");
        run(&mut make, "")?.ok()?;
        let text = std::fs::read_to_string(value)?;
        ctl.run(&format!("{own} put big/{key}"), &text)
    };
    let mut refused = None;
    for key in 0..40 {
        let output = put(key)?;
        if !output.success {
            refused = Some(output.stderr);
            break;
        }
    }
    let refused = refused.context("40 MB fit into 16")?;
    contains(&refused, "etcdserver: mvcc: database space exceeded")?;
    contains(&ctl.ok(&format!("{own} alarm list"))?, "alarm:NOSPACE")?;
    ctl.ok(&format!("{own} get --keys-only big/0"))?;
    ctl.ok(&format!("{own} del --prefix big/"))?;
    let status = ctl.ok(&format!("{own} endpoint status --write-out=fields"))?;
    let revision = status
        .lines()
        .find_map(|line| line.strip_prefix("\"Revision\" : "));
    let revision = revision.context("a revision")?;
    ctl.ok(&format!("{own} compaction --physical {revision}"))?;
    ctl.ok(&format!("{own} alarm disarm"))?;
    eventually("there is room again", LIMIT, || {
        ctl.ok(&format!("{own} alarm disarm"))?;
        put(0)?.ok().map(drop)
    })?;
    ensure!(ctl.ok(&format!("{own} alarm list"))?.is_empty());
    Ok(())
}

/// What `etcd --help` says: flags with their defaults, as arguments.
fn flags_of(etcd: &mut Command) -> Result<Vec<String>> {
    let output = run(etcd.arg("--help"), "")?;
    let said = output.stdout + &output.stderr;
    let described = said.lines().filter_map(|line| line.strip_prefix("  --"));
    let flags = described.map(|line| {
        let (name, value) = line.split_once(' ').unwrap_or((line, "0"));
        let value = value
            .trim_matches('\'')
            .replace("math.MaxUint32", "4294967295");
        format!("--{name}={value}")
    });
    let flags: Vec<String> = flags.collect();
    ensure!(flags.len() > 70, "{flags:?}");
    Ok(flags)
}

#[test]
fn every_flag_of_etcd_with_its_default() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for mut etcd in [Command::new("etcd"), Command::new(etcd_3_5("etcd")?)] {
        let mut arguments = flags_of(&mut etcd)?;
        arguments.push("--help".to_owned());
        let said = run(&mut command(folder.path(), &arguments, &[])?, "")?.ok()?;
        contains(&said, "--initial-advertise-peer-urls")?;
    }
    Ok(())
}

/// Ends at once, and says what is wrong. Were the value taken, it would end for want of this address.
fn refuses(arguments: &[&str], variables: &[(&str, String)], expect: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut all = vec!["--listen-client-urls=http://192.0.2.1:1".to_owned()];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let output = run(&mut command(folder.path(), &all, variables)?, "")?;
    ensure!(!output.success, "{arguments:?} was taken");
    for expect in expect {
        contains(&output.stderr, expect).with_context(|| format!("{arguments:?}"))?;
    }
    let left = std::fs::read_dir(folder.path())?.count();
    ensure!(left == 0, "{arguments:?}: data was written before");
    Ok(())
}

/// An argument, and what its refusal must say.
const WRONG: &[(&str, &str)] = &[
    ("--client-cert-auth=maybe", "--client-cert-auth"),
    ("--heartbeat-interval=abc", "--heartbeat-interval"),
    (
        "--heartbeat-interval=300",
        "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
    ),
    (
        "--election-timeout=60000",
        "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
    ),
    ("--max-txn-ops=0", "--max-txn-ops"),
    ("--max-concurrent-streams=0", "--max-concurrent-streams"),
    ("--max-request-bytes=0", "--max-request-bytes"),
    (
        "--max-request-bytes=67108864",
        "--max-request-bytes[67108864]",
    ),
    ("--quota-backend-bytes=many", "--quota-backend-bytes"),
    ("--initial-cluster=a", "--initial-cluster"),
    ("--initial-cluster-state=old", "--initial-cluster-state"),
    ("--auto-compaction-mode=daily", "--auto-compaction-mode"),
    (
        "--auto-compaction-retention=5x",
        "--auto-compaction-retention",
    ),
    (
        "--watch-progress-notify-interval=5",
        "--watch-progress-notify-interval",
    ),
    ("--corrupt-check-time=often", "--corrupt-check-time"),
    (
        "--feature-gates=Nothing=true",
        "unrecognized feature gate: Nothing",
    ),
    ("--log-level=loud", "--log-level"),
    ("--log-format=xml", "--log-format"),
    (
        "--listen-metrics-urls=unix://socket",
        "--listen-metrics-urls",
    ),
    (
        "--listen-client-urls=127.0.0.1:2379",
        "--listen-client-urls",
    ),
    (
        "--cert-file=server.crt",
        "--cert-file and --key-file go together",
    ),
    (
        "--discovery=https://discovery.example/x",
        "--initial-cluster",
    ),
    ("--auto-tls", "--cert-file"),
    ("-proxy=on", "--proxy=on"),
    ("--auth-token=jwt", "--auth-token=jwt"),
    ("--config-file=absent", "absent"),
    ("--bogus=1", "--bogus"),
    ("extra", "extra"),
    ("--name", "--name"),
];

#[test]
fn wrong_values_are_refused_by_the_flags_name() -> Result<()> {
    for (argument, expect) in WRONG {
        refuses(&[argument], &[], &[expect])?;
    }
    let variable = |name, value: &str| [(name, value.to_owned())];
    refuses(
        &[],
        &variable("ETCD_HEARTBEAT_INTERVAL", "abc"),
        &["--heartbeat-interval was set by ETCD_HEARTBEAT_INTERVAL"],
    )?;
    refuses(
        &[],
        &variable("ETCD_LISTEN_CLIENT_HTTP_URLS", "http://127.0.0.1:1"),
        &[
            "from ETCD_LISTEN_CLIENT_HTTP_URLS, is refused: ",
            "--listen-client-urls",
        ],
    )
}
