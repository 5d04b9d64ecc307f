//! The store as etcd's own client meets it: etcdctl against `xebec store`, kill -9 included.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Output, binary, eventually, free_port, run};

/// One store process; stopped when dropped.
struct Store {
    directory: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl Store {
    fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let process = spawn(&directory.path().join("data"), port)?;
        let store = Self {
            directory,
            port,
            process,
        };
        store.wait_ready()?;
        Ok(store)
    }

    fn wait_ready(&self) -> Result<()> {
        eventually("the store answers", Duration::from_secs(20), || {
            self.etcdctl("get ready", "")?.ok().map(drop)
        })
    }

    fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        self.process = spawn(&self.directory.path().join("data"), self.port)?;
        self.wait_ready()
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", format!("127.0.0.1:{}", self.port))
            .args(arguments.split_whitespace());
        command
    }

    fn etcdctl(&self, arguments: &str, input: &str) -> Result<Output> {
        run(&mut self.command(arguments), input)
    }

    /// Runs etcdctl and compares what it says.
    fn check(&self, arguments: &str, input: &str, expect: &str) -> Result<()> {
        let said = self.etcdctl(arguments, input)?.ok();
        let said = said.with_context(|| format!("etcdctl {arguments}"))?;
        ensure!(
            said == expect,
            "etcdctl {arguments}: {said:?}, not {expect:?}"
        );
        Ok(())
    }

    fn fail(&self, arguments: &str, expect: &str) -> Result<()> {
        let output = self.etcdctl(arguments, "")?;
        ensure!(!output.success, "etcdctl {arguments} did not fail");
        let said = output.stderr;
        ensure!(said.contains(expect), "etcdctl {arguments}: {said}");
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(data: &Path, port: u16) -> Result<Child> {
    let url = format!("http://127.0.0.1:{port}");
    Command::new(binary()?)
        .args(["store", "--log-level=warn"])
        .arg(format!("--data-dir={}", data.display()))
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start xebec store")
}

#[test]
fn keys_transactions_and_history() -> Result<()> {
    let store = Store::start()?;
    store.check("put a 1", "", "OK\n")?;
    store.check("put b 2", "", "OK\n")?;
    store.check("get a", "", "a\n1\n")?;
    store.check("get --prefix --keys-only a", "", "a\n\n")?;
    store.check("get a c --print-value-only", "", "1\n2\n")?;
    store.check("put --prev-kv a 3", "", "OK\na\n1\n")?;
    store.check("get a --rev=2", "", "a\n1\n")?;
    store.check("del --prev-kv b", "", "1\nb\n2\n")?;
    store.check("del b", "", "0\n")?;
    let request = "value(\"a\") = \"3\"\n\nput c yes\nget c\n\nput c no\n\n";
    store.check("txn", request, "SUCCESS\n\nOK\n\nc\nyes\n")?;
    let request = "mod(\"a\") = \"1\"\n\nput c never\n\nget a\n\n";
    store.check("txn", request, "FAILURE\n\na\n3\n")?;
    store.check("compaction 5", "", "compacted revision 5\n")?;
    store.fail(
        "get a --rev=4",
        "etcdserver: mvcc: required revision has been compacted",
    )?;
    store.fail(
        "get a --rev=999",
        "etcdserver: mvcc: required revision is a future revision",
    )?;
    store.fail(
        "compaction 5",
        "etcdserver: mvcc: required revision has been compacted",
    )?;
    store.check("get a --rev=5", "", "a\n3\n")
}

#[test]
fn watches_deliver_history_and_what_follows() -> Result<()> {
    let store = Store::start()?;
    store.check("put w 1", "", "OK\n")?;
    store.check("del w", "", "1\n")?;
    let log = store.directory.path().join("watch");
    let mut watch = store
        .command("watch w --rev=1")
        .stdout(std::fs::File::create(&log)?)
        .stdin(Stdio::null())
        .spawn()?;
    store.check("put w 2", "", "OK\n")?;
    let seen = eventually("all events", Duration::from_secs(10), || {
        let seen = std::fs::read_to_string(&log)?;
        ensure!(seen.lines().count() >= 8, "{seen}");
        Ok(seen)
    });
    watch.kill()?;
    watch.wait()?;
    ensure!(seen? == "PUT\nw\n1\nDELETE\nw\n\nPUT\nw\n2\n");
    Ok(())
}

#[test]
fn leases_take_their_keys_with_them() -> Result<()> {
    let store = Store::start()?;
    let granted = store.etcdctl("lease grant 2", "")?.ok()?;
    let id = granted
        .split_whitespace()
        .nth(1)
        .context("lease ID granted")?
        .to_owned();
    store.check(&format!("put --lease={id} leased x"), "", "OK\n")?;
    let left = store
        .etcdctl(&format!("lease timetolive {id} --keys"), "")?
        .ok()?;
    ensure!(left.contains("attached keys([leased])"), "{left}");
    eventually("the lease ends", Duration::from_secs(20), || {
        store.check("get leased", "", "")
    })?;
    store.fail(
        &format!("put --lease={id} late x"),
        "etcdserver: requested lease not found",
    )?;
    let granted = store.etcdctl("lease grant 600", "")?.ok()?;
    let id = granted
        .split_whitespace()
        .nth(1)
        .context("lease ID granted")?
        .to_owned();
    store.check(
        &format!("lease revoke {id}"),
        "",
        &format!("lease {id} revoked\n"),
    )?;
    store.fail(
        &format!("lease revoke {id}"),
        "etcdserver: requested lease not found",
    )
}

#[test]
fn nothing_acknowledged_is_lost_by_kill() -> Result<()> {
    let mut store = Store::start()?;
    for round in 0..3 {
        for number in 0..10 {
            store.check(&format!("put k{round}-{number} v"), "", "OK\n")?;
        }
        store.kill_and_restart()?;
    }
    let keys = store.etcdctl("get --prefix --keys-only k", "")?.ok()?;
    ensure!(keys.split_whitespace().count() == 30, "{keys}");
    Ok(())
}
