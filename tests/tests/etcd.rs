//! The store as etcd's own client meets it: etcdctl against `xebec store`, kill -9 included.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Etcdctl, Program, StoreProcess, eventually};

/// One store, and Debian's etcdctl for it.
struct Store {
    process: StoreProcess,
    etcdctl: Etcdctl,
}

impl Store {
    fn start() -> Result<Self> {
        let process = StoreProcess::start(Program::Xebec, &[])?;
        let etcdctl = Etcdctl::all(&process)?.swap_remove(0);
        Ok(Self { process, etcdctl })
    }
}

impl std::ops::Deref for Store {
    type Target = Etcdctl;

    fn deref(&self) -> &Etcdctl {
        &self.etcdctl
    }
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
    let log = store.process.directory().join("watch");
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
    let granted = store.ok("lease grant 2")?;
    let id = granted
        .split_whitespace()
        .nth(1)
        .context("lease ID granted")?
        .to_owned();
    store.check(&format!("put --lease={id} leased x"), "", "OK\n")?;
    let left = store.ok(&format!("lease timetolive {id} --keys"))?;
    ensure!(left.contains("attached keys([leased])"), "{left}");
    eventually("the lease ends", Duration::from_secs(20), || {
        store.check("get leased", "", "")
    })?;
    store.fail(
        &format!("put --lease={id} late x"),
        "etcdserver: requested lease not found",
    )?;
    let granted = store.ok("lease grant 600")?;
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
        store.process.kill_and_restart()?;
    }
    let keys = store.ok("get --prefix --keys-only k")?;
    ensure!(keys.split_whitespace().count() == 30, "{keys}");
    Ok(())
}

/// Deletes of the newest revisions are compacted away, and the process is killed: the revision stays what it was.
#[test]
fn compaction_and_kill_keep_the_revision() -> Result<()> {
    let mut store = Store::start()?;
    for key in ["a", "b"] {
        store.check(&format!("put {key} 1"), "", "OK\n")?;
        store.check(&format!("del {key}"), "", "1\n")?;
    }
    let compacted = "compacted revision 5\n";
    store.check("compaction 5 --physical", "", compacted)?;
    store.process.kill_and_restart()?;
    let answer = store.ok("get a --write-out=json")?;
    ensure!(answer.contains("\"revision\":5,"), "{answer}");
    store.fail(
        "get a --rev=4",
        "etcdserver: mvcc: required revision has been compacted",
    )?;
    store.check("put a 2", "", "OK\n")?;
    store.check("get a --rev=6", "", "a\n2\n")
}
