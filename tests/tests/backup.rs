//! Backups through the command line: saved by `xebec snapshot` and by etcdctl, looked at, restored, served again.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Output, binary, eventually, free_port, run};

/// A store process; killed when dropped.
struct Store {
    port: u16,
    process: Child,
}

impl Store {
    fn start(data: &Path, flags: &[&str]) -> Result<Self> {
        let (port, peer_port) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let mut command = Command::new(binary()?);
        command
            .args(["store", "--name=m1", "--log-level=warn"])
            .arg("--data-dir")
            .arg(data)
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ]);
        command.args(["--listen-peer-urls", &peer_url]);
        let process = command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let store = Self { port, process };
        eventually("the store answers", Duration::from_secs(60), || {
            store.etcdctl("get ready")?.ok().map(drop)
        })?;
        Ok(store)
    }

    fn etcdctl(&self, arguments: &str) -> Result<Output> {
        let mut command = Command::new("etcdctl");
        command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", format!("127.0.0.1:{}", self.port))
            .args(arguments.split_whitespace());
        run(&mut command, "")
    }

    fn ok(&self, arguments: &str) -> Result<String> {
        let said = self.etcdctl(arguments)?.ok();
        said.with_context(|| format!("etcdctl {arguments}"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn snapshot(arguments: &[&str]) -> Result<Output> {
    run(Command::new(binary()?).arg("snapshot").args(arguments), "")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[test]
fn what_was_saved_is_served_again_by_a_new_cluster() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::start(&dir.path().join("old"), &[])?;
    for n in 0..20 {
        store.ok(&format!("put k{} {n}", n % 3))?;
    }
    let (own, etcds) = (dir.path().join("own"), dir.path().join("etcds"));
    let endpoint = format!("http://127.0.0.1:{}", store.port);
    snapshot(&["save", text(&own), "--endpoints", &endpoint])?.ok()?;
    store.ok(&format!("snapshot save {}", text(&etcds)))?;
    let members = store.ok("member list")?;
    drop(store);
    for file in [&own, &etcds] {
        let status = snapshot(&["status", text(file), "--write-out=json"])?.ok()?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        ensure!(
            status["revision"] == 21 && status["totalKey"] == 20,
            "{status}"
        );
        let to = dir.path().join(format!(
            "from-{}",
            file.file_name().context("named")?.display()
        ));
        let restore = ["restore", text(file), "--name=m1", "--data-dir", text(&to)];
        let cluster = [
            "--initial-cluster=m1=http://127.0.0.1:1",
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
        ];
        snapshot(&[&restore[..], &cluster[..]].concat())?.ok()?;
        let again = snapshot(&[&restore[..], &cluster[..]].concat())?;
        ensure!(again.stderr.contains("not empty"), "{}", again.stderr);
        let store = Store::start(&to, &[])?;
        ensure!(store.ok("get k1 --print-value-only")? == "19\n");
        ensure!(store.ok("get k1 --rev=5 --print-value-only")? == "1\n");
        ensure!(store.ok("member list")? != members, "the ids are new");
        store.ok("put k1 more")?;
    }
    Ok(())
}

#[test]
fn a_damaged_backup_is_refused_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = Store::start(&dir.path().join("old"), &[])?;
    store.ok("put k v")?;
    let file = dir.path().join("backup");
    let endpoint = format!("http://127.0.0.1:{}", store.port);
    snapshot(&["save", text(&file), "--endpoints", &endpoint])?.ok()?;
    let mut bytes = std::fs::read(&file)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes)?;
    for command in ["status", "restore"] {
        let said = snapshot(&[command, text(&file)])?;
        ensure!(!said.success);
        ensure!(
            said.stderr.contains("backup is damaged: offset"),
            "{}",
            said.stderr
        );
    }
    Ok(())
}
