//! What people do all day with real pods, with every kubectl of the machine. Needs root.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Background, Cluster, Kubectl, contains, eventually, kubectls, repository};

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

const COUNTER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: counter, labels: {app: counter}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  containers:
  - name: count
    image: xebec-example:1
    command: [sh, -c, 'for i in $(seq 1 5); do echo line $i; sleep 0.3; done; until [ -e /tmp/end ]; do sleep 0.1; done; echo the end']
"#;

fn example() -> String {
    let path = repository().join("examples/hello.yaml");
    path.display().to_string()
}

#[test]
fn every_kubectl_does_its_daily_work() -> Result<()> {
    let cluster = Cluster::with_node()?;
    for program in kubectls() {
        let kubectl = Kubectl::new(program, cluster.kubeconfig());
        day(&kubectl).with_context(|| format!("with {}", kubectl.program().display()))?;
    }
    Ok(())
}

fn day(kubectl: &Kubectl) -> Result<()> {
    let example = example();
    kubectl.run(&format!("apply -f {example}"))?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    for line in kubectl.run(&format!("apply -f {example}"))?.lines() {
        contains(line, "unchanged")?;
    }
    ensure!(kubectl.run(&format!("diff -f {example}"))?.is_empty());
    looks(kubectl)?;
    follow(kubectl)?;
    terminal(kubectl)?;
    edit(kubectl)?;
    watch(kubectl)?;
    mark(kubectl)?;
    let deleted = kubectl.run(&format!("delete -f {example} --timeout=90s"))?;
    contains(&deleted, "deployment.apps \"hello\" deleted")?;
    eventually("all pods are gone", PATIENCE, || {
        let pods = kubectl.run("get pods --no-headers")?;
        ensure!(pods.is_empty(), "{pods}");
        Ok(())
    })
}

/// The tables and texts that people read.
fn looks(kubectl: &Kubectl) -> Result<()> {
    contains(
        &kubectl.run("get nodes -o wide")?,
        "NAME     STATUS   ROLES           AGE",
    )?;
    contains(
        &kubectl.run("get pods -o wide -l app=hello")?,
        "NOMINATED NODE   READINESS GATES",
    )?;
    let everything = kubectl.run("get all -A")?;
    contains(&everything, "replicationcontroller/hello-rc")?;
    for part in ["Allocated resources:", "Non-terminated Pods:", "kubelet"] {
        contains(&kubectl.run("describe node node-1")?, part)?;
    }
    for part in ["NodePort:", "Endpoints:", "10.42."] {
        contains(&kubectl.run("describe service hello")?, part)?;
    }
    contains(
        &kubectl.run("describe deployment hello")?,
        "NewReplicaSet:   hello-",
    )?;
    contains(
        &kubectl.run("explain pod.spec.containers.readinessProbe --recursive")?,
        "periodSeconds",
    )?;
    contains(&kubectl.run("auth can-i delete nodes")?, "yes")?;
    contains(&kubectl.run("api-resources --namespaced=false")?, "nodes")?;
    ensure!(kubectl.run("create token default --duration=10m")?.len() > 100);
    Ok(())
}

/// `logs -f` shows lines as they come, and ends with the container.
fn follow(kubectl: &Kubectl) -> Result<()> {
    kubectl.run_with("apply -f -", COUNTER)?;
    kubectl.run("wait --for=condition=Ready pod/counter --timeout=60s")?;
    let mut logs = Background::start(&mut kubectl.command("logs -f counter"))?;
    logs.says("line 5", PATIENCE)?;
    kubectl.run("exec counter -- touch /tmp/end")?;
    let said = logs.ends(PATIENCE)?;
    let expected = ["line 1", "line 2", "line 3", "line 4", "line 5", "the end"];
    ensure!(said == expected, "{said:?}");
    ensure!(kubectl.run("logs counter --tail=2")? == "line 5\nthe end\n");
    kubectl.run("wait --for=jsonpath={.status.phase}=Succeeded pod/counter --timeout=60s")?;
    kubectl.run("delete pod counter").map(drop)
}

/// `exec -it`, as a person at a terminal runs it.
fn terminal(kubectl: &Kubectl) -> Result<()> {
    // The size comes after the start, as a message of its own.
    let inside = "until stty size | grep \"24 80\"; do sleep 0.1; done; test -t 0 && test -t 1 && echo a terminal";
    let typed = format!(
        "{} exec -it deploy/hello -- sh -c '{inside}'",
        kubectl.program().display()
    );
    // `script` gives the command a terminal, 80 columns wide.
    let mut command = Command::new("script");
    command.args([
        "-qec",
        &format!("stty rows 24 cols 80; {typed}"),
        "/dev/null",
    ]);
    for (name, value) in kubectl.command("version").get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let said = tests::run(&mut command, "")?.ok()?;
    contains(&said, "24 80")?;
    contains(&said, "a terminal")
}

/// `edit` with an editor that changes one number.
fn edit(kubectl: &Kubectl) -> Result<()> {
    let mut command = kubectl.command("edit deployment hello");
    command.env("KUBE_EDITOR", "sed -i 's/^  replicas: 3$/  replicas: 2/'");
    contains(
        &tests::run(&mut command, "")?.ok()?,
        "deployment.apps/hello edited",
    )?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    let replicas = kubectl.run("get deployment hello -o jsonpath={.status.replicas}")?;
    eventually("two replicas", PATIENCE, || {
        ensure!(kubectl.run("get deployment hello -o jsonpath={.spec.replicas}")? == "2");
        Ok(())
    })
    .with_context(|| replicas)
}

/// `get -w` tells of every step of a scale up and down.
fn watch(kubectl: &Kubectl) -> Result<()> {
    let mut watch = Background::start(&mut kubectl.command("get deployment hello -w"))?;
    watch.says("READY", PATIENCE)?;
    kubectl.run("scale deployment hello --replicas=4")?;
    watch.says("4/4", PATIENCE)?;
    kubectl.run("scale deployment hello --replicas=1")?;
    watch.says("1/1", PATIENCE)?;
    kubectl.run("set image deployment/hello web=xebec-example:2")?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    contains(&kubectl.run("rollout history deployment/hello")?, "2")?;
    kubectl.run("rollout undo deployment/hello")?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    let image = "get deployment hello -o jsonpath={.spec.template.spec.containers[0].image}";
    ensure!(kubectl.run(image)? == "xebec-example:1");
    kubectl.run("rollout restart deployment/hello")?;
    kubectl
        .run("rollout status deployment/hello --timeout=90s")
        .map(drop)
}

/// Labels and annotations of nodes and pods, and a node that takes no pods for a while.
fn mark(kubectl: &Kubectl) -> Result<()> {
    kubectl.run("label node node-1 disk=fast --overwrite")?;
    contains(
        &kubectl.run("get nodes -l disk=fast -o name")?,
        "node/node-1",
    )?;
    kubectl.run("label node node-1 disk-")?;
    kubectl.run("label pods -l app=hello checked=yes")?;
    kubectl.run("annotate pods -l app=hello note='by hand'")?;
    let note =
        kubectl.run("get pods -l checked=yes -o jsonpath={.items[0].metadata.annotations.note}")?;
    ensure!(note == "by hand", "{note}");
    let drained = kubectl.run("drain node-1 --ignore-daemonsets --force --timeout=90s")?;
    contains(&drained, "node/node-1 drained")?;
    contains(&kubectl.run("get nodes")?, "Ready,SchedulingDisabled")?;
    kubectl.run("uncordon node-1")?;
    kubectl.run("wait --for=condition=Available deployment/hello --timeout=90s")?;
    Ok(())
}
