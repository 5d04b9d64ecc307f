//! Workers that join with a token: a master and nodes on hosts of their own, as network namespaces. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{
    Host, Kubectl, Network, Process, binary, clean_data, contains, eventually, kubectls,
    provide_images, run,
};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

/// A web server on every node, and a Service in front.
const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: xebec-example:1
        command: [sh, -c, 'mkdir -p /tmp/www; echo "on $NODE" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// A host with a process of ours and its data. Containers are cleared away when it is dropped.
struct Machine {
    process: Option<Process>,
    arguments: Vec<String>,
    directory: tempfile::TempDir,
    host: Host,
}

impl Machine {
    fn start(host: Host, role: &str, name: &str, flags: &[String]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("xebec-test-").tempdir()?;
        provide_images(directory.path())?;
        let mut arguments = vec![
            role.to_owned(),
            format!("--data-dir={}", directory.path().display()),
            format!("--node-name={name}"),
            format!("--node-ip={}", host.address),
        ];
        arguments.extend(flags.iter().cloned());
        let mut machine = Self {
            process: None,
            arguments,
            directory,
            host,
        };
        machine.spawn()?;
        Ok(machine)
    }

    fn spawn(&mut self) -> Result<()> {
        let log = self.directory.path().join("log");
        let mut command = self.host.command(binary()?);
        self.process = Some(Process::start(command.args(&self.arguments), &log)?);
        Ok(())
    }

    fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not running")
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("server/admin.kubeconfig")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            if std::thread::panicking() {
                eprintln!("--- log ---\n{}", process.tail());
            }
            if let Err(error) = process.stop() {
                eprintln!("stopping: {error:#}");
            }
        }
        clean_data(self.directory.path());
    }
}

/// `xebec token …` against the cluster.
fn token(kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary()?);
    command
        .arg("token")
        .args(arguments)
        .arg(format!("--kubeconfig={}", kubeconfig.display()));
    run(&mut command, "")?.ok()
}

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

fn ready_nodes(kubectl: &Kubectl, wanted: usize) -> Result<()> {
    eventually("the nodes are Ready", PATIENCE, || {
        let nodes = kubectl.run("get nodes --no-headers")?;
        let ready = nodes.lines().filter(|line| line.contains(" Ready "));
        ensure!(ready.count() == wanted, "{nodes}");
        Ok(())
    })
}

#[test]
fn workers_join_with_a_token() -> Result<()> {
    let network = Network::new()?;
    let first = network.host(10)?;
    let server = format!("https://{}:6443", first.address);
    let advertise = format!("--advertise-address={}", first.address);
    let mut master = Machine::start(first, "server", "master-1", &[advertise])?;
    let kubeconfig = master.kubeconfig();
    eventually("the admin kubeconfig is written", PATIENCE, || {
        if let Some(status) = master.process()?.ended()? {
            anyhow::bail!("xebec ended with {status}: {}", master.process()?.tail());
        }
        ensure!(kubeconfig.is_file());
        Ok(())
    })?;
    let program = kubectls().into_iter().next_back().context("no kubectl")?;
    let kubectl = Kubectl::new(program, &kubeconfig);
    ready_nodes(&kubectl, 1)?;

    let secret = token(&kubeconfig, &["create", "--description=for the test"])?;
    let secret = secret.trim();
    let join = [format!("--server={server}"), format!("--token={secret}")];
    let mut worker = Machine::start(network.host(11)?, "agent", "worker-1", &join)?;
    ready_nodes(&kubectl, 2)?;
    contains(&kubectl.run("get nodes")?, "worker-1   Ready    <none>")?;
    across_nodes(&kubectl)?;
    comes_back(&kubectl, &mut worker, &server)?;
    strangers(&kubeconfig, &network.host(12)?, &server, secret)
}

/// Pods of both nodes reach each other and the Service; logs and exec reach the worker.
fn across_nodes(kubectl: &Kubectl) -> Result<()> {
    kubectl.run_with("apply -f -", WEB)?;
    kubectl.run("rollout status daemonset/web --timeout=90s")?;
    let list = kubectl
        .run("get pods -l app=web -o jsonpath={range.items[*]}{.metadata.name}{\"\\n\"}{end}")?;
    let pods: Vec<&str> = list.lines().collect();
    ensure!(pods.len() == 2, "{list}");
    for pod in pods {
        eventually("both nodes answer", PATIENCE, || {
            let mut answers = String::new();
            for _ in 0..10 {
                answers += &kubectl.run(&format!("exec {pod} -- wget -q -O - http://web"))?;
            }
            contains(&answers, "on master-1")?;
            contains(&answers, "on worker-1")
        })?;
        kubectl.run(&format!("logs {pod}"))?;
    }
    Ok(())
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
    worker.process.take().context("running")?.kill()?;
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
