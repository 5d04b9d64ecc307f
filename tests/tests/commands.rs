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
                "--node-name=node-1 --https-port={} --kubelet-port={} --healthz-port=0",
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
