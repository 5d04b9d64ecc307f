//! Workers that join with a token: a master and nodes on hosts of their own, as network namespaces. Needs root.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    Host, Kubectl, Machine, Network, WEB, across_nodes, binary, contains, eventually, ready_nodes,
    run, token,
};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

/// What an agent says that cannot join: its last line.
fn refused(host: &Host, server: &str, token: &str) -> Result<String> {
    let directory = tempfile::tempdir()?;
    // One that is let in would go on for ever.
    let mut command = host.command("timeout");
    command
        .arg("60")
        .arg(binary()?)
        .args(["agent", "--node-name=intruder", "--log-level=error"])
        .arg(format!("--node-ip={}", host.address))
        .arg(format!("--server={server}"))
        .arg(format!("--data-dir={}", directory.path().display()))
        .env("XEBEC_TOKEN", token);
    let output = run(&mut command, "")?;
    ensure!(!output.success, "it joined with {token:?}");
    let last = output.stderr.lines().last().unwrap_or_default().to_owned();
    ensure!(last.starts_with("error: "), "{}", output.stderr);
    Ok(last)
}

#[test]
fn workers_join_with_a_token() -> Result<()> {
    let network = Network::new()?;
    let first = network.host(10)?;
    let server = format!("https://{}:6443", first.address);
    let advertise = format!("--advertise-address={}", first.address);
    let mut master = Machine::start(first, "server", "master-1", &[advertise])?;
    let kubeconfig = master.kubeconfig();
    let kubectl = master.kubectl()?;
    ready_nodes(&kubectl, 1)?;

    let secret = token(&kubeconfig, &["create", "--description=for the test"])?;
    let secret = secret.trim();
    let join = [format!("--server={server}"), format!("--token={secret}")];
    let mut worker = Machine::start(network.host(11)?, "agent", "worker-1", &join)?;
    ready_nodes(&kubectl, 2)?;
    contains(&kubectl.run("get nodes")?, "worker-1   Ready    <none>")?;
    kubectl.run_with("apply -f -", WEB)?;
    across_nodes(&kubectl, &["master-1", "worker-1"])?;
    comes_back(&kubectl, &mut worker, &server)?;
    strangers(&kubeconfig, &network.host(12)?, &server, secret)
}

/// A worker that was killed goes on without a token and without touching its containers; its certificates are the cluster's.
fn comes_back(kubectl: &Kubectl, worker: &mut Machine, server: &str) -> Result<()> {
    let requests = kubectl.run("get csr")?;
    contains(&requests, "kubernetes.io/kubelet-serving")?;
    contains(&requests, "kubernetes.io/kube-apiserver-client-kubelet")?;
    ensure!(
        requests.matches("Approved,Issued").count() == 2,
        "{requests}"
    );
    let containers =
        "get pods -l app=web -o jsonpath={.items[*].status.containerStatuses[0].containerID}";
    let before = kubectl.run(containers)?;
    worker.kill()?;
    worker.arguments.retain(|flag| !flag.starts_with("--token"));
    ensure!(worker.arguments.contains(&format!("--server={server}")));
    worker.spawn()?;
    let pod = "get pods -l app=web --field-selector=spec.nodeName=worker-1 -o name";
    let pod = kubectl.run(pod)?;
    eventually("the worker answers again", PATIENCE, || {
        let said = kubectl.run(&format!("exec {} -- echo back", pod.trim()))?;
        contains(&said, "back")
    })?;
    let after = kubectl.run(containers)?;
    ensure!(before == after, "before: {before}\nafter: {after}");
    Ok(())
}

/// Who may not join is told why.
fn strangers(kubeconfig: &Path, host: &Host, server: &str, good: &str) -> Result<()> {
    let (hash, bootstrap) = good.split_once("::").context("a token")?;
    let wrong_cluster = format!("K10{}::{bootstrap}", "0".repeat(64));
    contains(
        &refused(host, server, &wrong_cluster)?,
        "is not of the cluster that the token belongs to",
    )?;
    contains(
        &refused(host, server, &format!("{hash}::abcdef.0123456789abcdef"))?,
        "the cluster does not know this token",
    )?;
    contains(
        &refused(host, server, bootstrap)?,
        "does not say which cluster to trust",
    )?;
    let listed = token(kubeconfig, &["list"])?;
    contains(&listed, "for the test")?;
    let (id, secret) = bootstrap.split_once('.').context("a token")?;
    ensure!(!listed.contains(secret), "the list shows the secret");
    contains(
        &token(kubeconfig, &["delete", id])?,
        &format!("token \"{id}\" deleted"),
    )?;
    contains(
        &refused(host, server, good)?,
        "the cluster does not know this token",
    )?;
    let short = token(kubeconfig, &["create", "--ttl=1s"])?;
    let (_, id) = short.split_once("::").context("a token")?;
    let id = id.split('.').next().context("a token")?;
    eventually("the expired token is deleted", PATIENCE, || {
        let listed = token(kubeconfig, &["list"])?;
        ensure!(!listed.contains(id), "{listed}");
        Ok(())
    })?;
    contains(
        &refused(host, server, short.trim())?,
        "the cluster does not know this token",
    )
}
