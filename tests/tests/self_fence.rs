//! A node with `--self-fence` that is cut off: its replaceable pods end before others run in their place. Needs root.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{Machine, Network, contains, eventually, ready_nodes, token};

/// A node that is not heard of for 50 s is lost; what it fences is given up 40 s later.
const PATIENCE: Duration = Duration::from_secs(200);

/// Its pods write where they run to a file that all nodes share, again and again, until they end.
fn workload(kind: &str, name: &str, beats: &Path) -> Value {
    let labels = json!({"app": name});
    let container = json!({
        "name": "c", "image": "xebec-example:1",
        "command": ["sh", "-c", format!("while echo $NODE; do sleep 0.2; done >> /beats/{name}")],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [{"name": "beats", "mountPath": "/beats"}],
    });
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                "volumes": [{"name": "beats", "hostPath": {"path": beats}}],
            }},
        },
    });
    // Those of a DaemonSet stay on a lost node for ever.
    if kind != "DaemonSet" {
        object["spec"]["template"]["spec"]["tolerations"] = json!([{
            "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 1,
        }]);
    }
    object
}

/// The nodes that wrote, in their order, each as often as another one wrote in between.
fn order(beats: &Path, name: &str) -> Result<Vec<String>> {
    let said = std::fs::read_to_string(beats.join(name))?;
    let mut nodes: Vec<String> = said.lines().map(str::to_owned).collect();
    nodes.dedup();
    Ok(nodes)
}

fn beat(beats: &Path, name: &str, node: &str) -> Result<usize> {
    let said = std::fs::read_to_string(beats.join(name))?;
    Ok(said.lines().filter(|line| *line == node).count())
}

#[test]
fn a_node_that_is_cut_off_ends_its_pods_before_others_run_in_their_place() -> Result<()> {
    let network = Network::new()?;
    let directory = tempfile::tempdir()?;
    let beats = directory.path();
    let first = network.host(10)?;
    let server = format!("--server=https://{}:6443", first.address);
    let advertise = format!("--advertise-address={}", first.address);
    let flags = ["--disable-agent".to_owned(), advertise];
    let mut master = Machine::start(first, "server", "master-1", &flags)?;
    let kubectl = master.kubectl()?;
    ready_nodes(&kubectl, 0)?;
    let secret = token(&master.kubeconfig(), &["create"])?;
    let token = format!("--token={}", secret.trim());
    let join = [server, token, "--self-fence".to_owned()];
    let lost = Machine::start(network.host(11)?, "agent", "lost", &join)?;
    ready_nodes(&kubectl, 1)?;
    for (kind, name) in [
        ("StatefulSet", "db"),
        ("Deployment", "web"),
        ("DaemonSet", "everywhere"),
    ] {
        let object = workload(kind, name, beats).to_string();
        kubectl.run_with("apply -f -", &object)?;
    }
    for name in ["db", "web", "everywhere"] {
        eventually("they run", PATIENCE, || {
            ensure!(beat(beats, name, "lost")? > 0);
            Ok(())
        })?;
    }
    let _other = Machine::start(network.host(12)?, "agent", "other", &join)?;
    ready_nodes(&kubectl, 2)?;

    lost.host.set_plugged(false)?;
    for name in ["web", "db"] {
        eventually("they run on the other node", PATIENCE, || {
            ensure!(beat(beats, name, "other")? > 0);
            Ok(())
        })?;
    }
    let before = beat(beats, "everywhere", "lost")?;
    eventually("what is not replaceable goes on", PATIENCE, || {
        ensure!(beat(beats, "everywhere", "lost")? > before);
        Ok(())
    })?;

    lost.host.set_plugged(true)?;
    ready_nodes(&kubectl, 2)?;
    contains(&kubectl.run("get pods -o wide")?, "db-0")?;
    eventually("the lost node has no pod but one", PATIENCE, || {
        let pods = "get pods --no-headers -o name --field-selector=spec.nodeName=lost";
        let pods = kubectl.run(pods)?;
        ensure!(pods.lines().count() == 1, "{pods}");
        contains(&pods, "everywhere")
    })?;
    for name in ["db", "web"] {
        let order = order(beats, name)?;
        ensure!(order == ["lost", "other"], "{name} ran on {order:?}");
    }
    Ok(())
}
