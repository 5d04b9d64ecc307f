//! The API as clients meet it: verbs, errors and bad input, against a control plane without a node.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Kubectl, contains, eventually, kubectls};

/// What follows a start may come this much later.
const START: Duration = Duration::from_secs(20);

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web:1}]}
";

/// One cluster, every kubectl of the machine: what users type first.
#[test]
fn kubectl_works_as_on_any_kubernetes() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    for program in kubectls() {
        let kubectl = Kubectl::new(program, cluster.kubeconfig());
        verbs(&kubectl).with_context(|| format!("with {}", kubectl.program().display()))?;
    }
    Ok(())
}

fn verbs(kubectl: &Kubectl) -> Result<()> {
    contains(&kubectl.run("version")?, "Server Version: v1.36")?;
    contains(
        &kubectl.run("api-resources")?,
        "deployments                         deploy",
    )?;
    contains(&kubectl.run("api-versions")?, "autoscaling/v2")?;
    contains(
        &kubectl.run("explain deployment.spec.replicas")?,
        "replicas <integer>",
    )?;
    contains(
        &kubectl.run_with("apply -f -", DEPLOYMENT)?,
        "deployment.apps/web created",
    )?;
    contains(
        &kubectl.run_with("apply -f -", DEPLOYMENT)?,
        "deployment.apps/web unchanged",
    )?;
    let scaled = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    let difference = kubectl.try_run("diff -f -", &scaled)?;
    contains(&difference.stdout, "+  replicas: 3")?;
    contains(
        &kubectl.run_with("apply -f -", &scaled)?,
        "deployment.apps/web configured",
    )?;
    kubectl.run("scale deployment web --replicas=1")?;
    eventually("one pod", Duration::from_secs(20), || {
        let pods = kubectl.run("get pods -l app=web --no-headers")?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })?;
    contains(
        &kubectl.run("get deployments")?,
        "NAME   READY   UP-TO-DATE   AVAILABLE   AGE",
    )?;
    contains(&kubectl.run("get deployment web -o wide")?, "CONTAINERS")?;
    contains(
        &kubectl.run("describe deployment web")?,
        "ScalingReplicaSet",
    )?;
    kubectl.run("label deployment web tier=front")?;
    kubectl.run("annotate deployment web note=x")?;
    contains(
        &kubectl.run("get deploy -l tier=front -o name")?,
        "deployment.apps/web",
    )?;
    kubectl.run("set image deployment/web web=web:2")?;
    contains(&kubectl.run("rollout history deployment/web")?, "REVISION")?;
    kubectl.run("rollout undo deployment/web")?;
    let image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}";
    eventually("undone", Duration::from_secs(10), || {
        ensure!(kubectl.run(image)? == "web:1");
        Ok(())
    })?;
    contains(&kubectl.run("auth can-i create pods")?, "yes")?;
    ensure!(
        kubectl.run("create token default")?.matches('.').count() == 2,
        "a token is a JWT"
    );
    let patch = r#"patch deployment web -p '{"spec":{"paused":true}}'"#;
    contains(&kubectl.run(patch)?, "patched")?;
    kubectl.run("delete deployment web --wait=false")?;
    eventually("pods are collected", Duration::from_secs(20), || {
        let pods = kubectl.run("get pods -l app=web --no-headers")?;
        ensure!(pods.is_empty(), "{pods}");
        Ok(())
    })
}

/// What tools look at to see how a cluster is: groups that are served, who leads, health.
#[test]
fn tools_find_what_they_look_at() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let kubectl = cluster.kubectl()?;
    let versions = kubectl.run("api-versions")?;
    eventually("every group has its APIService", START, || {
        let services = kubectl.run("get apiservices")?;
        contains(&services, "NAME ")?;
        for version in versions
            .lines()
            .filter(|v| !v.starts_with("apiregistration"))
        {
            let name = match version.split_once('/') {
                Some((group, version)) => format!("{version}.{group} "),
                None => format!("{version}. "),
            };
            let line = services.lines().find(|line| line.starts_with(&name));
            let line = line.with_context(|| format!("{name} in\n{services}"))?;
            contains(line, "Local")?;
            contains(line, "True")?;
        }
        Ok(())
    })?;
    eventually("scheduler and controllers hold their leases", START, || {
        let leases = kubectl.run("get leases -n kube-system")?;
        contains(&leases, "kube-scheduler            node-1_")?;
        contains(&leases, "kube-controller-manager   node-1_")
    })?;
    for path in ["/healthz", "/livez", "/readyz"] {
        ensure!(kubectl.run(&format!("get --raw {path}"))? == "ok");
    }
    contains(&kubectl.run("get --raw /readyz?verbose")?, "[+]ping ok")?;
    contains(&kubectl.run("get --raw /metrics")?, "# TYPE ")?;
    contains(&kubectl.run("cluster-info")?, "is running at")
}

/// What a person gets wrong, with the answer that Kubernetes gives.
#[test]
fn bad_input_gets_kubernetes_own_answers() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let kubectl = cluster.kubectl()?;
    contains(
        &kubectl.fail("apply -f -", "a: [")?,
        "error converting YAML to JSON",
    )?;
    let unknown = DEPLOYMENT.replace("replicas: 2", "replicaz: 2");
    contains(
        &kubectl.fail("apply --validate=strict -f -", &unknown)?,
        "strict decoding error: unknown field \"spec.replicaz\"",
    )?;
    let wrong = DEPLOYMENT.replace("replicas: 2", "replicas: two");
    contains(
        &kubectl.fail("create --validate=false -f -", &wrong)?,
        "cannot unmarshal string into Go struct field",
    )?;
    let name = DEPLOYMENT.replace("name: web, labels", "name: Web_1, labels");
    contains(
        &kubectl.fail("create -f -", &name)?,
        "metadata.name: Invalid value: \"Web_1\"",
    )?;
    let selector = DEPLOYMENT.replace("matchLabels: {app: web}", "matchLabels: {app: other}");
    contains(
        &kubectl.fail("create -f -", &selector)?,
        "`selector` does not match template `labels`",
    )?;
    contains(
        &kubectl.fail("get pod missing", "")?,
        "pods \"missing\" not found",
    )?;
    contains(
        &kubectl.fail("get nothing", "")?,
        "the server doesn't have a resource type \"nothing\"",
    )?;
    contains(
        &kubectl.fail("create namespace default", "")?,
        "namespaces \"default\" already exists",
    )?;
    contains(
        &kubectl.fail("get secrets -n kube-system --as=somebody", "")?,
        "secrets is forbidden: User \"somebody\" cannot list resource \"secrets\" in API group \"\" in the namespace \"kube-system\"",
    )?;
    kubectl.run_with("apply -f -", DEPLOYMENT)?;
    contains(
        &kubectl.fail(
            r#"patch deployment web -p '{"spec":{"replicas":"two"}}'"#,
            "",
        )?,
        r#"patch: Invalid value: "map[spec:map[replicas:two]]": unrecognized type: int32"#,
    )?;
    stale_update(&kubectl)?;
    too_large(&kubectl)
}

fn stale_update(kubectl: &Kubectl) -> Result<()> {
    kubectl.run("create configmap stale --from-literal=a=1")?;
    let mut object: Value = serde_json::from_str(&kubectl.run("get configmap stale -o json")?)?;
    kubectl.run("annotate configmap stale a=b")?;
    object["data"]["a"] = json!("2");
    contains(
        &kubectl.fail("replace -f -", &object.to_string())?,
        "Operation cannot be fulfilled on configmaps \"stale\": the object has been modified; \
         please apply your changes to the latest version and try again",
    )
}

fn too_large(kubectl: &Kubectl) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "large"},
        "data": {"a": "x".repeat(4 << 20)},
    });
    let said = kubectl.fail("create -f -", &object.to_string())?;
    ensure!(
        said.contains("Request entity too large") || said.contains("request is too large"),
        "{said}"
    );
    Ok(())
}

/// Noise on the port, slow clients, and a first restart: the server goes on, and every object is there.
#[test]
fn the_server_survives_noise_and_kill() -> Result<()> {
    let mut cluster = Cluster::control_plane()?;
    for noise in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
        &[0; 4096],
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", cluster.port()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // The server may close while we write.
        let _ = stream.write_all(noise);
        let _ = stream.read(&mut [0; 64]);
    }
    let silent: Vec<_> = (0..50)
        .map(|_| TcpStream::connect(("127.0.0.1", cluster.port())))
        .collect();
    let kubectl = cluster.kubectl()?;
    for number in 0..20 {
        kubectl.run(&format!(
            "create configmap kept-{number} --from-literal=n={number}"
        ))?;
        if number % 5 == 4 {
            cluster.kill()?;
            cluster.spawn()?;
            cluster.wait_ready()?;
        }
    }
    drop(silent);
    let names = kubectl.run("get configmaps -o name")?;
    ensure!(
        (0..20).all(|n| names.contains(&format!("configmap/kept-{n}\n"))),
        "{names}"
    );
    cluster.stop()
}

/// A second server on the same directory, and a port that is taken: one clear line each.
#[test]
fn a_start_that_cannot_work_says_why_in_one_line() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let binary = std::fs::read_link(format!("/proc/{}/exe", cluster.pid().context("running")?))?;
    let start = |data: &std::path::Path, port: u16| -> Result<String> {
        let output = Command::new(&binary)
            .args(["server", "--disable-agent", "--advertise-address=127.0.0.1"])
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--https-port={port}"))
            .arg("--log-level=error")
            .output()?;
        ensure!(!output.status.success(), "it started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default().to_owned();
        ensure!(last.starts_with("error: "), "{said}");
        Ok(last)
    };
    let other = tempfile::tempdir()?;
    contains(&start(other.path(), cluster.port())?, "in use")?;
    contains(&start(cluster.data_dir(), 0)?, "in use by another process")?;
    Ok(())
}
