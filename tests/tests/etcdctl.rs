//! Every subcommand of etcdctl 3.4 and 3.5 against `xebec store`, auth aside (which has to say that it is not there). `check` and
//! alarms are in `etcdctl_load.rs`, changes of members in `etcdctl_members.rs`.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Certificates, Etcdctl, Program, StoreProcess, eventually};

const LIMIT: Duration = Duration::from_secs(30);

type Start = fn(Program, &[&str]) -> Result<StoreProcess>;

/// Runs a test with each etcdctl, each on a store of its own: with one member, and with three of which another leads.
fn each(test: impl Fn(&StoreProcess, &Etcdctl) -> Result<()>) -> Result<()> {
    each_of(&[StoreProcess::start, StoreProcess::start_follower], test)
}

fn each_of(starts: &[Start], test: impl Fn(&StoreProcess, &Etcdctl) -> Result<()>) -> Result<()> {
    for start in starts {
        for number in 0..2 {
            let store = start(Program::Xebec, &[])?;
            let ctl = Etcdctl::all(&store)?.swap_remove(number);
            let what = || {
                format!(
                    "etcdctl {}, {} others",
                    ["3.4", "3.5"][number],
                    store.others()
                )
            };
            test(&store, &ctl).with_context(what)?;
        }
    }
    Ok(())
}

/// A command that goes on until it is dropped, with its output in a file.
struct Running {
    process: Child,
    output: std::path::PathBuf,
}

impl Running {
    fn start(store: &StoreProcess, name: &str, mut command: Command, input: &str) -> Result<Self> {
        // Members have their folders there, under names of their own.
        let output = store.directory().join(format!("{name}.out"));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&output)?)
            .stderr(Stdio::inherit())
            .spawn()?;
        let stdin = process.stdin.as_mut().context("piped above")?;
        stdin.write_all(input.as_bytes())?;
        Ok(Self { process, output })
    }

    /// Waits until the output satisfies.
    fn until(&self, what: &str, said: impl Fn(&str) -> bool) -> Result<()> {
        eventually(what, LIMIT, || {
            let text = std::fs::read_to_string(&self.output)?;
            ensure!(said(&text), "{text:?}");
            Ok(())
        })
    }

    fn interrupt(&mut self) -> Result<()> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-INT", &id]).status()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn keys() -> Result<()> {
    each(|_, ctl| {
        ctl.check("put a 1", "", "OK\n")?;
        ctl.check("put b", "from input", "OK\n")?;
        ctl.check("get b", "", "b\nfrom input\n")?;
        ctl.check("get --from-key a --limit 1", "", "a\n1\n")?;
        let fields = ctl.ok("get --prefix a --write-out=fields")?;
        ensure!(fields.contains("\"Count\" : 1"), "{fields}");
        ctl.check("put a 2 --prev-kv", "", "OK\na\n1\n")?;
        ctl.check("get a --rev 2 --consistency=s", "", "a\n1\n")?;
        ctl.check(
            "get a z --order=DESCEND --sort-by=KEY --keys-only",
            "",
            "b\n\na\n\n",
        )?;
        let interactive = "mod(\"a\") > \"0\"\nvalue(\"b\") = \"x\"\n\nput c 1\n\ndel a\nget b\n\n";
        ctl.check(
            "txn -i=false",
            interactive,
            "FAILURE\n\n1\n\nb\nfrom input\n",
        )?;
        ctl.check("del b --prev-kv", "", "1\nb\nfrom input\n")?;
        ctl.check("del --prefix nothing", "", "0\n")?;
        ctl.check("compaction 4", "", "compacted revision 4\n")?;
        ctl.check("compaction --physical 5", "", "compacted revision 5\n")?;
        ctl.fail("compaction 4", "required revision has been compacted")
    })
}

#[test]
fn watches() -> Result<()> {
    each(|store, ctl| {
        let input = "watch w\nwatch --prev-kv v\n";
        let watch = Running::start(store, "watch", ctl.command("watch -i"), input)?;
        // There is no answer to wait for: each round writes again until it is seen.
        eventually("both keys are watched", LIMIT, || {
            ctl.ok("put w 1")?;
            ctl.ok("put v 1")?;
            let text = std::fs::read_to_string(&watch.output)?;
            ensure!(text.contains("PUT\nw\n1\n"), "{text:?}");
            ensure!(text.contains("PUT\nv\n1\nv\n1\n"), "{text:?}");
            Ok(())
        })?;
        let history = Running::start(
            store,
            "history",
            ctl.command("watch --rev=2 --prefix w"),
            "",
        )?;
        history.until("history", |text| text.starts_with("PUT\nw\n1\n"))?;
        let command = ctl.command("watch --rev=2 w -- echo seen");
        let runs = Running::start(store, "runs", command, "")?;
        runs.until("the command runs", |text| text.contains("seen"))
    })
}

#[test]
fn leases() -> Result<()> {
    each(|store, ctl| {
        let granted = ctl.ok("lease grant 600")?;
        let id = granted
            .split_whitespace()
            .nth(1)
            .context("an id")?
            .to_owned();
        ensure!(granted.contains("granted with TTL(600s)"), "{granted}");
        ctl.check(&format!("put --lease={id} leased x"), "", "OK\n")?;
        let kept = ctl.ok(&format!("lease keep-alive --once {id}"))?;
        ensure!(
            kept == format!("lease {id} keepalived with TTL(600)\n"),
            "{kept}"
        );
        let granted = ctl.ok("lease grant 6")?;
        let short = granted
            .split_whitespace()
            .nth(1)
            .context("an id")?
            .to_owned();
        let command = ctl.command(&format!("lease keep-alive {short}"));
        let keeps = Running::start(store, "keep-alive", command, "")?;
        keeps.until("it is renewed", |text| {
            text.contains("keepalived with TTL(6)")
        })?;
        let left = ctl.ok(&format!("lease timetolive --keys {id}"))?;
        ensure!(left.contains("attached keys([leased])"), "{left}");
        let listed = ctl.ok("lease list")?;
        ensure!(
            listed.starts_with("found 2 leases\n") && listed.contains(&id),
            "{listed}"
        );
        ctl.check(
            &format!("lease revoke {id}"),
            "",
            &format!("lease {id} revoked\n"),
        )?;
        ctl.check("get leased", "", "")?;
        ctl.ok(&format!("lease revoke {short}"))?;
        keeps.until("it learns of the end", |text| {
            text.contains("expired or revoked")
        })?;
        let left = ctl.ok(&format!("lease timetolive {id}"))?;
        ensure!(left.contains("already expired"), "{left}");
        Ok(())
    })
}

#[test]
fn locks_and_elections() -> Result<()> {
    each(|store, ctl| {
        let mut held = Running::start(store, "lock", ctl.command("lock mine"), "")?;
        held.until("the lock is held", |text| text.starts_with("mine/"))?;
        let second = Running::start(store, "second", ctl.command("lock mine echo mine now"), "")?;
        eventually("two are in line", LIMIT, || {
            let keys = ctl.ok("get --prefix mine/ --keys-only")?;
            ensure!(keys.split_whitespace().count() == 2, "{keys}");
            Ok(())
        })?;
        held.interrupt()?;
        second.until("the second has it", |text| text.contains("mine now"))?;
        let mut leads = Running::start(store, "elect", ctl.command("elect chair one"), "")?;
        leads.until("one leads", |text| {
            text.starts_with("chair/") && text.contains("one")
        })?;
        let next = Running::start(store, "next", ctl.command("elect chair two"), "")?;
        let seen = Running::start(store, "listen", ctl.command("elect -l chair"), "")?;
        seen.until("who leads is seen", |text| text.contains("one"))?;
        eventually("two stand", LIMIT, || {
            let keys = ctl.ok("get --prefix chair/ --keys-only")?;
            ensure!(keys.split_whitespace().count() == 2, "{keys}");
            Ok(())
        })?;
        leads.interrupt()?;
        next.until("two leads", |text| text.contains("two"))?;
        seen.until("who leads next is seen", |text| text.contains("two"))
    })
}

#[test]
fn the_member_and_its_cluster() -> Result<()> {
    each_of(&[StoreProcess::start], |_, ctl| {
        let listed = ctl.ok("member list")?;
        let member = listed.split(", ").next().context("an id")?.to_owned();
        ensure!(
            listed.contains("started") && listed.contains("default"),
            "{listed}"
        );
        ctl.ok("member list -w table")?;
        let added = ctl.ok("member add other --learner --peer-urls=http://127.0.0.1:1")?;
        let other = added
            .split_whitespace()
            .nth(1)
            .context("Member ID added")?
            .to_owned();
        ensure!(
            added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
            "{added}"
        );
        let listed = ctl.ok("member list")?;
        ensure!(
            listed.contains("unstarted") && listed.lines().count() == 2,
            "{listed}"
        );
        ctl.fail(
            &format!("member promote {other}"),
            "can only promote a learner member which is in sync with leader",
        )?;
        ctl.ok(&format!(
            "member update {other} --peer-urls=http://127.0.0.1:2"
        ))?;
        let removed = ctl.ok(&format!("member remove {other}"))?;
        ensure!(
            // etcdctl pads the id to sixteen digits.
            removed.contains(&format!("{other} removed from cluster")),
            "{removed}"
        );
        ctl.fail(
            &format!("member promote {member}"),
            "can only promote a learner member",
        )?;
        ctl.fail(
            &format!("member remove {member}"),
            "not enough started members",
        )?;
        let moved = ctl.ok(&format!("move-leader {member}"))?;
        ensure!(moved.starts_with("Leadership transferred"), "{moved}");
        ctl.fail("move-leader 1234", "bad leader transferee")
    })
}

#[test]
fn maintenance() -> Result<()> {
    each(|store, ctl| {
        ctl.ok("put a 1")?;
        for format in ["simple", "json", "table", "fields"] {
            ctl.ok(&format!("endpoint status -w {format}"))?;
            ctl.ok(&format!("endpoint hashkv -w {format}"))?;
        }
        let status = ctl.ok("endpoint status --cluster")?;
        ensure!(
            status.contains(", true, false, ") && status.lines().count() == 1 + store.others(),
            "one leads and is no learner: {status}"
        );
        // etcdctl says this on either of its outputs.
        let health = ctl.run("endpoint health --cluster", "")?;
        let said = health.stdout + &health.stderr;
        ensure!(
            said.contains("is healthy: successfully committed proposal"),
            "{said}"
        );
        ensure!(ctl.ok("endpoint hashkv --rev=2")? == ctl.ok("endpoint hashkv")?);
        ctl.check("alarm list", "", "")?;
        ctl.check("alarm disarm", "", "")?;
        let defragmented = ctl.ok("defrag")?;
        ensure!(
            defragmented.contains("Finished defragmenting"),
            "{defragmented}"
        );
        let file = store.directory().join("snapshot");
        let saved = ctl.ok(&format!("snapshot save {}", file.display()))?;
        ensure!(saved.contains("Snapshot saved at"), "{saved}");
        let bytes = std::fs::metadata(&file)?.len();
        ensure!(bytes % 512 == 32, "no checksum at the end of {bytes} bytes");
        let version = ctl.ok("version")?;
        ensure!(version.contains("etcdctl version"), "{version}");
        ctl.fail(
            "user add someone:secret",
            "users and roles are not supported",
        )?;
        ctl.fail("auth enable", "users and roles are not supported")
    })
}

#[test]
fn a_mirror_follows() -> Result<()> {
    each(|store, ctl| {
        let mirror = StoreProcess::start(Program::Xebec, &[])?;
        let there = ctl.at(format!("127.0.0.1:{}", mirror.port()));
        ctl.ok("put before 1")?;
        let command = ctl.command(&format!("make-mirror 127.0.0.1:{}", mirror.port()));
        let _copies = Running::start(store, "mirror", command, "")?;
        eventually("what was there is copied", LIMIT, || {
            there.check("get before", "", "before\n1\n")
        })?;
        ctl.ok("put after 2")?;
        ctl.ok("del before")?;
        eventually("what changes is copied", LIMIT, || {
            there.check("get after", "", "after\n2\n")?;
            there.check("get before", "", "")
        })
    })
}

/// A store that serves TLS and wants certificates, and one that shows none.
#[test]
fn certificates_of_clients() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let files = Certificates::write(folder.path())?;
    let flags = [
        format!("--cert-file={}", files.path("server.crt")),
        format!("--key-file={}", files.path("server.key")),
        format!("--trusted-ca-file={}", files.path("ca.crt")),
        "--client-cert-auth".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let store = StoreProcess::start(Program::Xebec, &flags)?;
    for ctl in Etcdctl::all(&store)? {
        let ctl = ctl.at(format!("https://127.0.0.1:{}", store.port()));
        let (trust, own) = (files.trust(), files.own());
        ctl.check(&format!("{own} put a 1"), "", "OK\n")?;
        ctl.ok(&format!("{own} endpoint status"))?;
        ctl.fail(&format!("{trust} --command-timeout=2s put a 2"), "")?;
        ctl.check(&format!("{own} get a"), "", "a\n1\n")?;
    }
    Ok(())
}
