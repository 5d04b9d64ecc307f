//! Nodes that run real containers: agents beside the masters, each on a host of its own. Need root and containerd.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::masters::API_PORT;
use super::{Cluster, LOOK_EVERY, Member, START_LIMIT, tail};

const NODES: &str = "/api/v1/nodes";
const ASK_LIMIT: Duration = Duration::from_secs(5);

impl Cluster {
    /// The host of an agent; the one after the last agent's is for clients.
    pub fn agent_host(&self, number: usize) -> usize {
        self.members.len() + number
    }

    pub(super) async fn found_agents(&mut self) -> Result<()> {
        if self.setting.agents == 0 {
            return Ok(());
        }
        ensure!(
            self.network.has_links(),
            "nodes with containers need root and network namespaces"
        );
        let images = self.setting.folder.join("images.tar");
        run(Command::new(script("build-example-image.sh")).arg(&images))?;
        let token = self.token(0, "agent").await?;
        for number in 0..self.setting.agents {
            let name = format!("a{number}");
            let folder = std::path::absolute(self.setting.folder.join(&name))?;
            let mut member = Member::new(name, folder);
            let imported = member.data().join("agent/images");
            std::fs::create_dir_all(&imported)?;
            std::fs::copy(&images, imported.join("example.tar"))?;
            let (host, master) = (self.agent_host(number), self.address(0));
            member.arguments = vec![
                "agent".to_owned(),
                format!("--data-dir={}", member.data().display()),
                format!("--node-name={}", member.name),
                format!("--node-ip={}", self.address(host)),
                format!("--server=https://{master}:{API_PORT}"),
                format!("--token={token}"),
                // What is judged is not how full the machine's disk is.
                "--eviction-hard=memory.available<100Mi".to_owned(),
            ];
            let command = self.network.command(host, &self.setting.program);
            member.start(command, &self.setting.program)?;
            self.agents.push(member);
        }
        self.await_nodes().await
    }

    /// Waits until every agent's Node is Ready.
    async fn await_nodes(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let nodes = self.api(0)?.get(NODES, ASK_LIMIT).await?;
            let nodes: serde_json::Value = serde_json::from_slice(&nodes)?;
            let nodes = nodes["items"].as_array().context("items")?;
            if nodes.iter().filter(|node| is_ready(node)).count() == self.agents.len() {
                return Ok(());
            }
            for agent in &mut self.agents {
                let (runs, log) = (agent.runs()?, tail(&agent.log()));
                let in_time = Instant::now() < deadline;
                ensure!(runs && in_time, "{} is not Ready:\n{log}", agent.name);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the agents and their containers.
    pub(super) fn remove_agents(&mut self) {
        for (number, agent) in self.agents.iter().enumerate() {
            let host = self.members.len() + number;
            let removed = agent
                .signal(Signal::SIGKILL)
                .and_then(|()| self.remove_containers(agent, host));
            if let Err(error) = removed {
                eprintln!("clearing away {}: {error:#}", agent.name);
            }
        }
    }

    /// In its namespace, so that the machine's own rules stay.
    fn remove_containers(&self, agent: &Member, host: usize) -> Result<()> {
        let namespace = self.network.namespace(host).context("a namespace")?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.display()));
        command.arg("--").arg(script("clean-data.sh"));
        run(command.env("DATA_DIR", agent.data()))
    }
}

fn is_ready(node: &serde_json::Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// One of the scripts of this clone: what images are made of, and how to clear away what an agent leaves behind.
fn script(name: &str) -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).join("../scripts").join(name)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}
