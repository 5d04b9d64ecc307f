//! The CNI configuration that containerd reads: loopback is containerd's own doing, the rest is written here.
//!
//! It must not know the kernel's state.

use std::path::Path;

use serde_json::json;

use super::bridge::Plan;
use super::{BRIDGE, NetworkError, cni_conf_dir};

/// Sorted first, in case other files lie there.
const FILE_NAME: &str = "10-xebec.conflist";
/// The network's name: host-local keeps its leases under it.
const NETWORK_NAME: &str = "xebec";

/// The configuration as text. Host ports and masquerade are not CNI's business here: the node has its own rules.
pub(super) fn render(plan: &Plan, agent_dir: &Path, mtu: u32) -> String {
    let list = json!({
        "cniVersion": "0.4.0",
        "name": NETWORK_NAME,
        "plugins": [{
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": true,
            "forceAddress": true,
            "hairpinMode": true,
            "ipMasq": false,
            "mtu": mtu,
            "ipam": {
                "type": "host-local",
                "dataDir": agent_dir.join("cni"),
                "ranges": [[{ "subnet": plan.pod_cidr.to_string(), "gateway": plan.gateway.to_string() }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    });
    format!("{list:#}\n")
}

/// Writes the file if it is not there already as it should be.
pub(super) fn write(plan: &Plan, agent_dir: &Path, mtu: u32) -> Result<(), NetworkError> {
    let dir = cni_conf_dir(agent_dir);
    let path = dir.join(FILE_NAME);
    let text = render(plan, agent_dir, mtu);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let error = |action, path: &Path| {
        let path = path.to_owned();
        move |source| NetworkError::File {
            action,
            path,
            source,
        }
    };
    std::fs::create_dir_all(&dir).map_err(error("cannot create", &dir))?;
    // containerd reads the folder whenever it changes: it must never see half a file.
    let new = dir.join(".xebec.new");
    std::fs::write(&new, text).map_err(error("cannot write", &new))?;
    std::fs::rename(&new, &path).map_err(error("cannot write", &path))
}
