//! The pages for operators, followed to the letter: every command in the `sh` blocks of `docs/ha.md` and
//! `docs/operations.md` is run here from the page's own text, on machines that are namespaces with a network, a name, an
//! /etc, a /var/lib and a /usr/local/bin of their own. Needs root.

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::{Host, Network, Process, binary, contains, eventually, kubectls, repository, run};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(60);

const PAGES: [&str; 2] = ["docs/ha.md", "docs/operations.md"];

/// As much of systemd as the pages need: starts what the unit says, with the environment that it names.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
[ "$1 $2" = "enable --now" ]
unit=/etc/systemd/system/$3.service
set -a
. "$(sed -n 's/^EnvironmentFile=-//p' "$unit")"
exec $(sed -n 's/^ExecStart=//p' "$unit")
"#;

/// Makes a machine out of the directory `$1` with the name `$2`, and holds it until it is killed.
const MACHINE: &str = r#"
set -eu
for of in etc usr/local/bin; do
    mkdir -p "$1/$of" "$1/work/$of"
    mount -t overlay overlay -o "lowerdir=/$of,upperdir=$1/$of,workdir=$1/work/$of" "/$of"
done
mkdir -p "$1/var/lib"
mount --bind "$1/var/lib" /var/lib
hostname "$2"
touch "$1/up"
exec sleep infinity
"#;

/// The blocks of a page, by the heading that they stand under.
fn blocks(page: &str) -> Result<Vec<(String, Vec<String>)>> {
    let text = std::fs::read_to_string(repository().join(page))?;
    let (mut heading, mut found, mut inside) = (String::new(), Vec::new(), false);
    for line in text.lines() {
        match line {
            "```sh" => {
                inside = true;
                found.push((heading.clone(), Vec::new()));
            }
            "```" => inside = false,
            _ if inside => {
                let (_, block) = found.last_mut().context("pushed above")?;
                block.push(line.to_owned());
            }
            _ if line.starts_with('#') => heading = line.trim_start_matches(['#', ' ']).to_owned(),
            _ => {}
        }
    }
    Ok(found)
}

/// A command without what is said about it.
fn bare(line: &str) -> String {
    line.split(" # ").next().unwrap_or(line).trim().to_owned()
}

/// The block of that number under a heading.
fn block(page: &str, heading: &str, number: usize) -> Result<Vec<String>> {
    let all = blocks(page)?;
    let mut under = all.into_iter().filter(|(found, _)| found == heading);
    let block = under.nth(number).map(|(_, block)| block);
    block.with_context(|| format!("{page} has no block {number} under {heading:?}"))
}

/// A machine; what was started there last goes on.
struct Machine {
    started: Option<Process>,
    holder: Process,
    directory: tempfile::TempDir,
    host: Host,
}

impl Machine {
    fn new(host: Host, name: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-test-").tempdir()?;
        let root = directory.path();
        furnish(root)?;
        let mut command = host.command("unshare");
        command
            .args(["--mount", "--uts", "sh", "-c", MACHINE, "sh"])
            .arg(root)
            .arg(name);
        let holder = Process::start(&mut command, &root.join("holder.log"))?;
        eventually("the machine is up", PATIENCE, || {
            ensure!(root.join("up").is_file(), "{}", holder.tail());
            Ok(())
        })?;
        Ok(Self {
            started: None,
            holder,
            directory,
            host,
        })
    }

    /// A shell on this machine, in a clone of the repository.
    fn shell(&self, script: &str) -> Command {
        let namespace = format!("/proc/{}/ns", self.holder.pid());
        let root = self.directory.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.host.command("nsenter");
        command
            .arg(format!("--mount={namespace}/mnt"))
            .arg(format!("--uts={namespace}/uts"))
            .arg(format!("--wd={}", root.join("clone").display()))
            .args(["sh", "-euc", script])
            .env("CARGO_TARGET_DIR", root.join("target"))
            .env("PATH", format!("{}:{path}", root.join("bin").display()))
            .env("KUBECONFIG", "/var/lib/xebec/server/admin.kubeconfig");
        command
    }

    fn run(&self, script: &str) -> Result<String> {
        let said = run(&mut self.shell(script), "")?.ok();
        said.with_context(|| script.to_owned())
    }

    /// Starts what goes on, and waits until this master serves.
    fn start(&mut self, script: &str) -> Result<()> {
        self.started = None;
        let log = self.directory.path().join("log");
        let mut process = Process::start(&mut self.shell(script), &log)?;
        eventually("the master is ready", PATIENCE, || {
            if let Some(status) = process.ended()? {
                bail!("it ended with {status}: {}", process.tail());
            }
            self.run("xebec status --check=api").map(drop)
        })?;
        self.started = Some(process);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.started.take().context("running")?.kill()
    }
}

/// The commands that a machine has, and a clone in which the binary is built.
fn furnish(root: &Path) -> Result<()> {
    let (bin, built) = (root.join("bin"), root.join("target/dist"));
    std::fs::create_dir_all(&bin)?;
    std::fs::create_dir_all(&built)?;
    std::fs::create_dir_all(root.join("clone"))?;
    symlink(binary()?, bin.join("xebec"))?;
    symlink(binary()?, built.join("xebec"))?;
    symlink(
        repository().canonicalize()?.join("systemd"),
        root.join("clone/systemd"),
    )?;
    let kubectl = kubectls().into_iter().next_back().context("no kubectl")?;
    symlink(kubectl, bin.join("kubectl"))?;
    std::fs::write(bin.join("systemctl"), SYSTEMCTL)?;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("systemctl"), executable)?;
    Ok(())
}

/// Whoever follows the pages: knows what stands for what in them, and what was run already.
struct Operator {
    /// What the pages write, and what it is here.
    meant: Vec<(&'static str, String)>,
    run: BTreeSet<String>,
}

impl Operator {
    fn means(&mut self, text: &'static str, here: &str) {
        self.meant.retain(|(known, _)| *known != text);
        self.meant.push((text, here.trim().to_owned()));
    }

    /// A line of a page as it is run here: masters run no pods, which others test.
    fn here(&self, line: &str) -> String {
        let mut line = bare(line).replace("xebec server", "xebec server --disable-agent");
        for (text, here) in &self.meant {
            line = line.replace(text, here);
        }
        line
    }

    /// Follows a block; what the last command said.
    fn follow(&mut self, machine: &mut Machine, lines: &[String]) -> Result<String> {
        let (mut before, mut said) = (String::new(), String::new());
        for line in lines {
            self.run.insert(bare(line));
            let here = self.here(line);
            let goes_on = here.contains("xebec server") && !here.contains("--cluster-reset");
            if here.starts_with("export ") || here.starts_with("cd ") {
                before += &format!("{here}\n");
            } else if goes_on || here.starts_with("systemctl enable") {
                machine.start(&format!("{before}exec env {here}"))?;
            } else {
                said = machine.run(&format!("{before}{here}"))?;
            }
        }
        Ok(said)
    }
}

#[test]
fn every_command_of_the_operators_pages_does_what_they_say() -> Result<()> {
    let network = Network::new()?;
    let mut operator = Operator {
        meant: Vec::new(),
        run: BTreeSet::new(),
    };
    let kept = tempfile::tempdir()?;
    let snapshot = kept.path().join("snapshot");
    operator.means("FILE", &snapshot.display().to_string());
    let mut machines = three_masters(&network, &mut operator)?;
    look_and_rotate(&mut operator, &mut machines[0])?;
    back_up(&mut operator, &mut machines[0], &snapshot)?;
    lose_the_majority(&mut operator, machines)?;
    let mut last = Machine::new(network.host(14)?, "master-4")?;
    let page = block(PAGES[0], "When all are lost", 1)?;
    operator.follow(&mut last, &page)?;
    contains(&last.run("kubectl get configmaps")?, "kept-after-all")?;
    nothing_left_out(&operator.run)
}

/// Three masters, the last by systemd's unit.
fn three_masters(network: &Network, operator: &mut Operator) -> Result<[Machine; 3]> {
    let mut first = Machine::new(network.host(11)?, "master-1")?;
    let mut second = Machine::new(network.host(12)?, "master-2")?;
    let mut third = Machine::new(network.host(13)?, "master-3")?;
    operator.means("192.0.2.11", &first.host.address.to_string());
    operator.means("192.0.2.12", &second.host.address.to_string());
    let heading = "On three machines";
    let token = operator.follow(&mut first, &block(PAGES[0], heading, 0)?)?;
    operator.means("K10…", &token);
    operator.follow(&mut second, &block(PAGES[0], heading, 1)?)?;
    voters(&first, 2)?;

    operator.means("192.0.2.12", &third.host.address.to_string());
    operator.means("$XEBEC_TOKEN", &token);
    third.run("mkdir -p /etc/systemd/system")?;
    let unit = block(PAGES[0], "With systemd", 0)?;
    let (enable, files) = unit.split_last().context("commands")?;
    operator.follow(&mut third, files)?;
    third.run("! command -v systemd-analyze || systemd-analyze verify systemd/*.service")?;
    third.run("echo 'disable-agent: true' >> /etc/xebec/server.yaml")?;
    operator.follow(&mut third, std::slice::from_ref(enable))?;
    let token_file = third.run("stat -c %a /etc/xebec/server.env")?;
    ensure!(token_file.trim() == "600", "the token may be read by all");
    voters(&first, 3)?;
    Ok([first, second, third])
}

fn voters(machine: &Machine, wanted: usize) -> Result<()> {
    eventually("all vote", PATIENCE, || {
        let list = machine.run("xebec member list")?;
        let votes = list.matches(" voter ").count() + list.matches(" leader ").count();
        ensure!(votes == wanted, "{list}");
        Ok(())
    })
}

fn look_and_rotate(operator: &mut Operator, machine: &mut Machine) -> Result<()> {
    operator.follow(machine, &block(PAGES[1], "Look", 0)?)?;
    let look = machine.run("xebec status")?;
    for name in ["master-1", "master-2", "master-3"] {
        contains(&look, name)?;
    }
    operator.follow(machine, &block(PAGES[1], "Change the CA", 0)?)?;
    told(machine, true)?;
    operator.follow(machine, &block(PAGES[1], "Change the CA", 1)?)?;
    told(machine, false)
}

/// Waits until every master has the new CA, and trusts the old one as well or no more.
fn told(machine: &Machine, both: bool) -> Result<()> {
    eventually("every master has the CA", PATIENCE, || {
        let said = machine.run("xebec certificate status")?;
        ensure!(
            said.matches("these").count() == 3 && said.contains("Trusted") == both,
            "{said}"
        );
        Ok(())
    })
}

fn back_up(operator: &mut Operator, machine: &mut Machine, snapshot: &Path) -> Result<()> {
    operator.follow(machine, &block(PAGES[1], "Back up", 0)?)?;
    // Both pages save one.
    std::fs::remove_file(snapshot).context("the snapshot was saved")
}

/// One master is removed, then only one is left, then none: what there is then is a snapshot and the server token.
fn lose_the_majority(operator: &mut Operator, machines: [Machine; 3]) -> Result<()> {
    let [mut first, mut second, mut third] = machines;
    operator.follow(&mut third, &block(PAGES[0], "When a master is lost", 0)?)?;
    let mut removed = second.started.take().context("running")?;
    eventually("the removed master ends", PATIENCE, || {
        removed.ended()?.context("it runs")
    })?;
    voters(&first, 2)?;
    third.kill()?;
    first.kill()?;
    let page = block(PAGES[0], "When the majority is lost", 0)?;
    operator.follow(&mut first, &page)?;
    voters(&first, 1)?;
    first.run("kubectl create configmap kept-after-all")?;
    other_store_cas(operator, &mut first)?;
    let page = block(PAGES[0], "When all are lost", 0)?;
    let token = operator.follow(&mut first, &page)?;
    operator.means("K10…", &token);
    first.kill()
}

/// The CAs that are changed with a stop, on the only master there is.
fn other_store_cas(operator: &mut Operator, machine: &mut Machine) -> Result<()> {
    let heading = "Change the CAs of the store and of the front proxy";
    let end = operator.follow(machine, &block(PAGES[1], heading, 0)?)?;
    contains(&end, "notAfter=")?;
    let sums = "cd /var/lib/xebec/server/tls && sha256sum etcd/peer-ca.key etcd/server-ca.key front-proxy-ca.key";
    let before = machine.run(sums)?;
    machine.kill()?;
    operator.follow(machine, &block(PAGES[1], heading, 1)?)?;
    let after = machine.run(sums)?;
    let stayed = before.lines().zip(after.lines()).any(|(a, b)| a == b);
    ensure!(!stayed, "before:\n{before}after:\n{after}");
    voters(machine, 1)?;
    contains(&machine.run("kubectl get configmaps")?, "kept-after-all")
}

/// Whoever writes a command on one of the pages makes this test run it.
fn nothing_left_out(run: &BTreeSet<String>) -> Result<()> {
    for page in PAGES {
        for (heading, lines) in blocks(page)? {
            for line in lines {
                let command = bare(&line);
                ensure!(
                    command.is_empty() || run.contains(&command),
                    "{page}, {heading}: no test runs {command:?}"
                );
            }
        }
    }
    Ok(())
}

/// Commands of `xebec` in the midst of a sentence or of a table have flags that the binary knows.
#[test]
fn commands_in_sentences_are_commands() -> Result<()> {
    let mut looked_at = 0;
    for page in [PAGES[0], PAGES[1], "docs/security.md", "README.md"] {
        let text = std::fs::read_to_string(repository().join(page))?;
        let spans = text.split('`').skip(1).step_by(2);
        // One is what the server says, not a command.
        let is_command = |span: &&str| {
            span.starts_with("xebec ") && !span.contains('|') && *span != "xebec server is ready"
        };
        for span in spans.filter(is_command) {
            let words = span.split_whitespace().skip(1);
            let mut command = Command::new(binary()?);
            // What stands before --help is judged first.
            command
                .args(words.filter(|word| *word != "…"))
                .arg("--help");
            let said = run(&mut command, "")?.ok();
            said.with_context(|| format!("{page}: {span}"))?;
            looked_at += 1;
        }
    }
    ensure!(looked_at > 15, "only {looked_at} commands were found");
    Ok(())
}
