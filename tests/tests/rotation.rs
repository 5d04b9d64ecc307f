//! A change of the cluster's CA from its first step to its last, on nodes: one that is there, and one that is off meanwhile.
//! Needs root.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::{
    Kubectl, Machine, Network, WEB, across_nodes, contains, eventually, ready_nodes, token, xebec,
};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(120);
const NODES: [&str; 2] = ["worker-1", "worker-2"];
const CONTAINERS: &str = "get pods -l app=web --sort-by=.spec.nodeName -o jsonpath={.items[*].status.containerStatuses[0].containerID}";

#[test]
fn nodes_follow_a_new_ca() -> Result<()> {
    let network = Network::new()?;
    let first = network.host(10)?;
    let server = format!("--server=https://{}:6443", first.address);
    let advertise = format!("--advertise-address={}", first.address);
    let flags = ["--disable-agent".to_owned(), advertise];
    let mut master = Machine::start(first, "server", "master-1", &flags)?;
    let kubectl = master.kubectl()?;
    ready_nodes(&kubectl, 0)?;
    let secret = token(&master.kubeconfig(), &["create"])?;
    let join = [server, format!("--token={}", secret.trim())];
    let follower = Machine::start(network.host(11)?, "agent", NODES[0], &join)?;
    let mut sleeper = Machine::start(network.host(12)?, "agent", NODES[1], &join)?;
    ready_nodes(&kubectl, 2)?;
    kubectl.run_with("apply -f -", WEB)?;
    across_nodes(&kubectl, &NODES)?;
    let before = kubectl.run(CONTAINERS)?;
    sleeper.process.take().context("running")?.stop()?;

    xebec(&master.kubeconfig(), &["certificate", "rotate-ca"])?;
    eventually("the node has certificates of both CAs", PATIENCE, || {
        follows(&master, &follower)
    })?;
    works(&kubectl, "between")?;
    let finish = ["certificate", "rotate-ca", "--finish"];
    xebec(&master.kubeconfig(), &finish)?;
    eventually("the node trusts the new CA alone", PATIENCE, || {
        let ca = follower.data_dir().join("agent/pki/ca.crt");
        let trusted = std::fs::read_to_string(ca)?;
        ensure!(trusted == of_master(&master, "ca.crt")?);
        ensure!(trusted.matches("BEGIN").count() == 1, "{trusted}");
        Ok(())
    })?;
    // Connections of before end with the master: the node comes back with what it has now.
    master.kill()?;
    master.spawn()?;
    renews_its_lease(&kubectl)?;
    works(&kubectl, "after")?;
    comes_back(&master, &kubectl, &mut sleeper)?;
    across_nodes(&kubectl, &NODES)?;
    let after = kubectl.run(CONTAINERS)?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    Ok(())
}

/// What lies beside the master's keys.
fn of_master(master: &Machine, name: &str) -> Result<String> {
    let path = master.data_dir().join("server/tls").join(name);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Whether a node trusts what the master trusts, and has both its certificates from the new CA: the old one's word for that goes
/// with them.
fn follows(master: &Machine, node: &Machine) -> Result<()> {
    let of_node =
        |name: &str| std::fs::read_to_string(node.data_dir().join("agent/pki").join(name));
    let vouched = of_master(master, "ca-cross.crt")?;
    ensure!(of_node("ca.crt")? == of_master(master, "ca.crt")?);
    for name in ["client.pem", "serving.pem"] {
        contains(&of_node(name)?, vouched.trim())?;
    }
    Ok(())
}

/// A new pod starts on the node that follows, and the API server reaches it there.
fn works(kubectl: &Kubectl, name: &str) -> Result<()> {
    let node = format!(r#"--overrides={{"spec":{{"nodeName":"{}"}}}}"#, NODES[0]);
    let command = "sh -c 'echo started; exec sleep 1000'";
    kubectl.run(&format!(
        "run {name} --image=xebec-example:1 --grace-period=1 '{node}' --command -- {command}"
    ))?;
    eventually("the pod says something", PATIENCE, || {
        contains(&kubectl.run(&format!("logs {name}"))?, "started")
    })?;
    contains(&kubectl.run(&format!("exec {name} -- echo run"))?, "run")
}

fn renews_its_lease(kubectl: &Kubectl) -> Result<()> {
    let lease = format!(
        "get lease -n kube-node-lease {} -o jsonpath={{.spec.renewTime}}",
        NODES[0]
    );
    let before = eventually("the master is back", PATIENCE, || kubectl.run(&lease))?;
    eventually("the node renews its lease", PATIENCE, || {
        ensure!(kubectl.run(&lease)? != before);
        Ok(())
    })?;
    eventually("the node is Ready", PATIENCE, || {
        let node = kubectl.run(&format!("get node {}", NODES[0]))?;
        contains(&node, " Ready ")
    })
}

/// A node that has missed all of it says what to do, and a new token brings it back.
fn comes_back(master: &Machine, kubectl: &Kubectl, node: &mut Machine) -> Result<()> {
    node.spawn()?;
    let mut refused = node.process.take().context("running")?;
    eventually("it gives up", PATIENCE, || match refused.ended()? {
        Some(_) => Ok(()),
        None => bail!("it goes on: {}", refused.tail()),
    })?;
    contains(
        &refused.tail(),
        "the cluster's CA was changed while this node was off",
    )?;
    let secret = token(&master.kubeconfig(), &["create"])?;
    node.arguments.retain(|flag| !flag.starts_with("--token"));
    node.arguments.push(format!("--token={}", secret.trim()));
    node.spawn()?;
    ready_nodes(kubectl, 2)
}
