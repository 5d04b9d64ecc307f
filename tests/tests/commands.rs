//! The README's commands as a new user types them: up, a look around, up again, down, clean-data. Needs root.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{
    Kubectl, Output, binary, contains, example_images, free_port, kubectls, repository, run,
};

/// A script of the Makefile on a directory and ports of its own.
struct Scripts {
    directory: tempfile::TempDir,
    flags: String,
}

impl Scripts {
    fn new() -> Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("xebec-test-").tempdir()?,
            flags: format!(
                "--node-name=node-1 --https-port={} --kubelet-port={} --healthz-port=0 --store-peer-port={} \
                 --store-client-port={}",
                free_port()?,
                free_port()?,
                free_port()?,
                free_port()?
            ),
        })
    }

    fn data_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    fn run(&self, name: &str) -> Result<Output> {
        let images = example_images()?;
        let target = images.parent().context("the archive lies in a folder")?;
        let mut command = Command::new(repository().join("scripts").join(name));
        command
            .env("DATA_DIR", self.data_dir())
            .env("RUN_DIR", self.directory.path().join("run"))
            .env("CARGO_TARGET_DIR", target)
            .env("XEBEC", binary()?)
            .env("XEBEC_FLAGS", &self.flags);
        run(&mut command, "")
    }

    fn ok(&self, name: &str) -> Result<String> {
        self.run(name)?.ok().with_context(|| name.to_owned())
    }
}

/// What systemd would start is a command that exists, with flags that it has and the configuration that the unit names.
#[test]
fn units_start_what_there_is() -> Result<()> {
    for (part, config) in [
        ("server", "disable-agent: true"),
        ("agent", "server: https://192.0.2.1:6443"),
    ] {
        let path = repository().join(format!("systemd/xebec-{part}.service"));
        let unit = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let start = unit
            .lines()
            .find_map(|line| line.strip_prefix("ExecStart="));
        let words: Vec<&str> = start.context("ExecStart")?.split_whitespace().collect();
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("config.yaml");
        std::fs::write(&file, config)?;
        let named = format!("/etc/xebec/{part}.yaml");
        ensure!(words[..3] == ["/usr/local/bin/xebec", part, "--config"]);
        ensure!(words[3..] == [named.as_str()], "{words:?}");
        let mut command = Command::new(binary()?);
        command.args([part, "--config"]).arg(&file).arg("--help");
        contains(&run(&mut command, "")?.ok()?, "--config")?;
        contains(&unit, "Type=notify")?;
    }
    Ok(())
}

impl Drop for Scripts {
    fn drop(&mut self) {
        for name in ["down.sh", "clean-data.sh"] {
            if let Err(error) = self.ok(name) {
                eprintln!("{error:#}");
            }
        }
    }
}

fn containerds(data_dir: &Path) -> Result<String> {
    let mut command = Command::new("pgrep");
    command.args(["-af", &format!("containerd.*{}", data_dir.display())]);
    Ok(run(&mut command, "")?.stdout)
}

#[test]
fn up_look_around_and_down() -> Result<()> {
    let scripts = Scripts::new()?;
    let said = scripts.ok("up.sh")?;
    let kubeconfig = scripts.data_dir().join("server/admin.kubeconfig");
    contains(
        &said,
        &format!("export KUBECONFIG={}", kubeconfig.display()),
    )?;
    contains(&said, "kubectl apply -f examples/hello.yaml")?;
    let program = kubectls().into_iter().next().context("no kubectl")?;
    let kubectl = Kubectl::new(program, &kubeconfig);
    let everything = kubectl.run("get nodes,all -A")?;
    for part in [
        "node/node-1   Ready    control-plane",
        "service/kubernetes   ClusterIP   10.43.0.1",
        "service/kube-dns     ClusterIP   10.43.0.10",
    ] {
        contains(&everything, part)?;
    }
    contains(&scripts.ok("up.sh")?, "already running")?;
    ensure!(!containerds(&scripts.data_dir())?.is_empty());
    scripts.ok("down.sh")?;
    ensure!(!kubectl.try_run("get nodes", "")?.success, "it is down");
    scripts.ok("clean-data.sh")?;
    let left: Vec<_> = std::fs::read_dir(scripts.data_dir())?.collect();
    ensure!(left.is_empty(), "{left:?}");
    let processes = containerds(&scripts.data_dir())?;
    ensure!(processes.is_empty(), "{processes}");
    Ok(())
}
