//! Looks at a pod in the runtime: its sandboxes and containers, newest first. What cannot change any more is asked once.

use std::collections::HashMap;
use std::path::Path;

use k8s_cri::v1 as cri;

use super::observed::{Container, Sandbox, State};
use crate::cri::Cri;
use crate::labels;

/// The longest termination message, in bytes, as the kubelet's.
const MESSAGE_LIMIT: u64 = 4096;
/// The longest termination message out of a log, in bytes.
const LOG_MESSAGE_LIMIT: usize = 2048;
/// The most lines of a log in a termination message.
const LOG_MESSAGE_LINES: usize = 80;

/// One pod's eyes.
pub(crate) struct Observer {
    cri: Cri,
    uid: String,
    /// Dead containers, by id: they do not change.
    dead: HashMap<String, Container>,
    /// Sandboxes that were seen with an address, by id: the runtime forgets it when they stop.
    sandboxes: HashMap<String, Sandbox>,
}

impl Observer {
    pub(crate) fn new(cri: Cri, uid: &str) -> Observer {
        Observer {
            cri,
            uid: uid.to_string(),
            dead: HashMap::new(),
            sandboxes: HashMap::new(),
        }
    }

    /// Sandboxes and containers as they are now.
    pub(crate) async fn observe(
        &mut self,
    ) -> Result<(Vec<Sandbox>, Vec<Container>), tonic::Status> {
        let uid = self.uid.clone();
        let selector = [(labels::POD_UID, uid.as_str())];
        let mut listed = self.cri.list_sandboxes(&selector).await?;
        listed.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        let mut sandboxes = Vec::with_capacity(listed.len());
        for item in &listed {
            sandboxes.push(self.sandbox(item).await?);
        }
        let mut items = self.cri.list_containers(&selector).await?;
        items.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let mut containers = Vec::with_capacity(items.len());
        for item in &items {
            containers.extend(self.container(item).await?);
        }
        self.dead.retain(|id, _| items.iter().any(|c| c.id == *id));
        self.sandboxes
            .retain(|id, _| listed.iter().any(|s| s.id == *id));
        Ok((sandboxes, containers))
    }

    async fn sandbox(&mut self, item: &cri::PodSandbox) -> Result<Sandbox, tonic::Status> {
        let ready = item.state() == cri::PodSandboxState::SandboxReady;
        if let Some(known) = self.sandboxes.get_mut(&item.id) {
            known.ready = ready;
            return Ok(known.clone());
        }
        let status = self.cri.sandbox_status(&item.id).await?.unwrap_or_default();
        let options = status
            .linux
            .and_then(|l| l.namespaces)
            .and_then(|n| n.options);
        let network = status.network.unwrap_or_default();
        let further = network.additional_ips.into_iter().map(|p| p.ip);
        let sandbox = Sandbox {
            id: item.id.clone(),
            attempt: item.metadata.as_ref().map_or(0, |m| m.attempt),
            ready,
            host_network: options.is_some_and(|o| o.network() == cri::NamespaceMode::Node),
            ips: std::iter::once(network.ip)
                .chain(further)
                .filter(|ip| !ip.is_empty())
                .collect(),
            created_at: item.created_at,
        };
        if sandbox.host_network || !sandbox.ips.is_empty() {
            self.sandboxes.insert(item.id.clone(), sandbox.clone());
        }
        Ok(sandbox)
    }

    async fn container(
        &mut self,
        item: &cri::Container,
    ) -> Result<Option<Container>, tonic::Status> {
        if let Some(known) = self.dead.get(&item.id) {
            return Ok(Some(known.clone()));
        }
        let Some(status) = self.cri.container_status(&item.id).await? else {
            return Ok(None);
        };
        let mut container = Container::from_cri(&status, &item.pod_sandbox_id);
        if container.state == State::Exited {
            if let Some(message) = termination_message(&status) {
                container.message = message;
            }
            self.dead.insert(item.id.clone(), container.clone());
        }
        Ok(Some(container))
    }
}

/// What the container wrote down before it ended, or the end of its log if it may stand in.
fn termination_message(status: &cri::ContainerStatus) -> Option<String> {
    let place = status.annotations.get(labels::TERMINATION_MESSAGE_PATH)?;
    let mount = status.mounts.iter().find(|m| m.container_path == *place)?;
    let message = read_limited(Path::new(&mount.host_path));
    if !message.is_empty() {
        return Some(message);
    }
    let policy = status.annotations.get(labels::TERMINATION_MESSAGE_POLICY)?;
    (policy == "FallbackToLogsOnError" && status.exit_code != 0).then(|| {
        crate::logs::tail_text(
            Path::new(&status.log_path),
            LOG_MESSAGE_LINES,
            LOG_MESSAGE_LIMIT,
        )
    })
}

fn read_limited(path: &Path) -> String {
    use std::io::Read;
    let mut data = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MESSAGE_LIMIT).read_to_end(&mut data);
    }
    String::from_utf8_lossy(&data).into_owned()
}
