//! Three masters that run pods themselves, as `xebec server` does unless it is told otherwise. Needs root.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    Host, Kubectl, Machine, Network, WEB, across_nodes, contains, eventually, ready_nodes, token,
};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);
const NAMES: [&str; 3] = ["master-1", "master-2", "master-3"];
const CONTAINERS: &str = "get pods -l app=web --sort-by=.spec.nodeName -o jsonpath={.items[*].status.containerStatuses[0].containerID}";

fn start(host: Host, name: &str, join: &[String]) -> Result<Machine> {
    let advertise = format!("--advertise-address={}", host.address);
    Machine::start(host, "server", name, &[&[advertise], join].concat())
}

#[test]
fn masters_that_run_pods_outlive_each_other() -> Result<()> {
    let network = Network::new()?;
    let mut first = start(network.host(10)?, NAMES[0], &[])?;
    let kubectl = first.kubectl()?;
    ready_nodes(&kubectl, 1)?;
    let secret = token(&first.kubeconfig(), &["create", "--role=server"])?;
    let join = [
        format!("--join=https://{}:6443", first.host.address),
        format!("--token={}", secret.trim()),
    ];
    let mut second = start(network.host(20)?, NAMES[1], &join)?;
    // One after the other, as one does.
    let second_kubectl = second.kubectl()?;
    ready_nodes(&second_kubectl, 2)?;
    let mut third = start(network.host(30)?, NAMES[2], &join)?;
    let third_kubectl = third.kubectl()?;
    ready_nodes(&third_kubectl, 3)?;
    kubectl.run_with("apply -f -", WEB)?;
    across_nodes(&third_kubectl, &NAMES)?;

    // The first one leads: it has founded the cluster.
    let before = kubectl.run(CONTAINERS)?;
    first.kill()?;
    eventually("writes go on", PATIENCE, || {
        second_kubectl.run("create configmap after").map(drop)
    })?;
    others_serve(&third_kubectl)?;
    first.spawn()?;
    eventually("the first one is back", PATIENCE, || {
        let kubectl = first.kubectl()?;
        contains(&kubectl.run("get configmaps")?, "after")?;
        across_nodes(&kubectl, &NAMES)
    })?;
    let after = kubectl.run(CONTAINERS)?;
    ensure!(before == after, "before: {before}\nafter: {after}");

    // A clean stop ends no container either.
    second.process.take().context("running")?.stop()?;
    kubectl.run("create configmap after-another")?;
    second.spawn()?;
    eventually("the second one is back", PATIENCE, || {
        across_nodes(&second_kubectl, &NAMES)
    })?;
    ensure!(kubectl.run(CONTAINERS)? == before, "containers are others");
    Ok(())
}

/// Pods answer each other while a master with its agent is gone: its containers go on as well.
fn others_serve(kubectl: &Kubectl) -> Result<()> {
    let pod = kubectl.run("get pods -l app=web --field-selector=spec.nodeName=master-3 -o name")?;
    let mut answers = String::new();
    for _ in 0..30 {
        answers += &kubectl.run(&format!("exec {} -- wget -q -O - http://web", pod.trim()))?;
    }
    let mut nodes = NAMES.iter();
    nodes.try_for_each(|node| contains(&answers, &format!("on {node}")))
}

/// An agent knows more masters than the one that it was told of, also when it starts.
#[test]
fn an_agent_starts_while_its_master_is_down() -> Result<()> {
    let network = Network::new()?;
    let alone = ["--disable-agent".to_owned()];
    let mut first = start(network.host(10)?, NAMES[0], &alone)?;
    let kubectl = first.kubectl()?;
    ready_nodes(&kubectl, 0)?;
    let server = format!("https://{}:6443", first.host.address);
    let token_of = |role: &str| token(&first.kubeconfig(), &["create", role]);
    let secret = token_of("--role=server")?;
    let join = [
        format!("--join={server}"),
        format!("--token={}", secret.trim()),
    ];
    let flags = [&alone[..], &join].concat();
    let secret = token_of("--role=agent")?;
    let mut second = start(network.host(20)?, NAMES[1], &flags)?;
    let kubectl = second.kubectl()?;
    ready_nodes(&kubectl, 0)?;
    let mut third = start(network.host(30)?, NAMES[2], &flags)?;
    ready_nodes(&third.kubectl()?, 0)?;
    let flags = [
        format!("--server={server}"),
        format!("--token={}", secret.trim()),
    ];
    let mut worker = Machine::start(network.host(11)?, "agent", "worker", &flags)?;
    ready_nodes(&kubectl, 1)?;
    eventually("the agent knows all masters", PATIENCE, || {
        let known = std::fs::read_to_string(worker.data_dir().join("agent/pki/servers"))?;
        ensure!(known.lines().count() == 3, "{known}");
        Ok(())
    })?;

    first.kill()?;
    worker.process.take().context("running")?.stop()?;
    let renewed = "get lease -n kube-node-lease worker -o jsonpath={.spec.renewTime}";
    let before = eventually("the others lead", PATIENCE, || kubectl.run(renewed))?;
    worker.spawn()?;
    eventually("the agent is back", PATIENCE, || {
        ensure!(kubectl.run(renewed)? != before, "no sign of life");
        Ok(())
    })
}
