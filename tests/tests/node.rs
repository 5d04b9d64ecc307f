//! The whole road: real containers behind a Service, driven by the real kubectl. Needs root.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Cluster, Kubectl, eventually, repository};

/// Pods of the example become Ready within this on a busy machine.
const ROLLOUT: Duration = Duration::from_secs(90);

fn example(kubectl: &Kubectl) -> Result<()> {
    let manifest = repository().join("examples/hello.yaml");
    kubectl.run(&format!("apply -f {}", manifest.display()))?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    kubectl.run("rollout status daemonset/hello-daemon --timeout=60s")?;
    kubectl.run("wait --for=condition=complete job/hello-once --timeout=60s")?;
    eventually("the replication controller's pod is ready", ROLLOUT, || {
        let ready = kubectl.run("get rc hello-rc -o jsonpath={.status.readyReplicas}")?;
        ensure!(ready == "1", "{ready}");
        Ok(())
    })
}

/// One HTTP request on a connection of its own.
fn http_get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: hello\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.") && answer.contains(" 200 "),
        "{answer}"
    );
    Ok(answer)
}

fn service_address(kubectl: &Kubectl) -> Result<SocketAddr> {
    let ip = kubectl.run("get service hello -o jsonpath={.spec.clusterIP}")?;
    Ok(SocketAddr::new(
        ip.parse().with_context(|| format!("clusterIP {ip:?}"))?,
        80,
    ))
}

#[test]
fn the_example_runs_and_its_service_answers() -> Result<()> {
    let cluster = Cluster::with_node()?;
    let kubectl = cluster.kubectl()?;
    let nodes = kubectl.run("get nodes")?;
    ensure!(nodes.contains("node-1   Ready"), "{nodes}");
    example(&kubectl)?;
    let service = service_address(&kubectl)?;
    let mut answered_by = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let answer = http_get(service)?;
        let (_, name) = answer.rsplit_once(" from ").context("greeting")?;
        answered_by.insert(name.trim().to_owned());
    }
    ensure!(
        answered_by.len() == 3,
        "all three endpoints answer: {answered_by:?}"
    );
    let ip = kubectl.run("get node node-1 -o jsonpath={.status.addresses[0].address}")?;
    http_get(SocketAddr::new(ip.parse()?, 30080)).context("NodePort")?;
    let pod = kubectl.run("get pods -l app=hello-rc -o jsonpath={.items[0].metadata.name}")?;
    let by_name = kubectl.run(&format!(
        "exec {pod} -- wget -q -O - http://hello.default.svc.cluster.local"
    ))?;
    ensure!(by_name.contains("Hello from Xebec"), "{by_name}");
    look_inside(&kubectl, &pod)?;
    let everything = kubectl.run("get all -A")?;
    for part in [
        "pod/hello-",
        "service/hello",
        "deployment.apps/hello",
        "job.batch/hello-once",
        "daemonset.apps/",
    ] {
        ensure!(everything.contains(part), "{part} in\n{everything}");
    }
    Ok(())
}

fn look_inside(kubectl: &Kubectl, pod: &str) -> Result<()> {
    let job_log = kubectl.run("logs job/hello-once")?;
    ensure!(job_log.contains("counted to 10"), "{job_log}");
    let secret = kubectl.run("exec deploy/hello -- cat /etc/secret/password")?;
    ensure!(secret == "three-masts", "{secret}");
    let variable = kubectl.run("exec deploy/hello -- sh -c 'echo $PASSWORD'")?;
    ensure!(variable.trim() == "three-masts", "{variable}");
    let token = kubectl.run(&format!(
        "exec {pod} -- ls /var/run/secrets/kubernetes.io/serviceaccount"
    ))?;
    ensure!(
        token.contains("token") && token.contains("ca.crt") && token.contains("namespace"),
        "{token}"
    );
    let echoed = kubectl.run_with(&format!("exec -i {pod} -- cat"), "through standard input")?;
    ensure!(echoed == "through standard input", "{echoed}");
    let failed = kubectl.fail(&format!("exec {pod} -- sh -c 'exit 3'"), "")?;
    ensure!(failed.contains("exit code 3"), "{failed}");
    let described = kubectl.run(&format!("describe pod {pod}"))?;
    for part in ["Scheduled", "Started", "QoS Class:"] {
        ensure!(described.contains(part), "{part} in\n{described}");
    }
    Ok(())
}

/// A rolling update under constant requests, then back: not one request fails.
#[test]
fn a_rolling_update_loses_no_request() -> Result<()> {
    let cluster = Cluster::with_node()?;
    let kubectl = cluster.kubectl()?;
    example(&kubectl)?;
    let service = service_address(&kubectl)?;
    let stop = Arc::new(AtomicBool::new(false));
    let requests = std::thread::spawn({
        let stop = stop.clone();
        move || -> Result<usize> {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                http_get(service).with_context(|| format!("request {count}"))?;
                count += 1;
            }
            Ok(count)
        }
    });
    kubectl.run("set image deployment/hello web=xebec-example:2")?;
    kubectl.run("rollout status deployment/hello --timeout=120s")?;
    kubectl.run("rollout undo deployment/hello")?;
    kubectl.run("rollout status deployment/hello --timeout=120s")?;
    stop.store(true, Ordering::Relaxed);
    let count = requests
        .join()
        .expect("the requesting thread does not panic")?;
    ensure!(count > 50, "only {count} requests were made");
    Ok(())
}

/// kill -9 of everything but the containers: they keep running, and nothing is forgotten.
#[test]
fn containers_survive_the_server() -> Result<()> {
    let mut cluster = Cluster::with_node()?;
    let kubectl = cluster.kubectl()?;
    example(&kubectl)?;
    let restarts = "get pods -o jsonpath={range.items[*]}{.metadata.uid}{.status.containerStatuses[0].containerID}\
                    {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let before = kubectl.run(restarts)?;
    let service = service_address(&kubectl)?;
    cluster.kill()?;
    http_get(service).context("the Service answers without a server")?;
    cluster.spawn()?;
    cluster.wait_ready()?;
    kubectl.run("wait --for=condition=Ready pod -l app=hello --timeout=60s")?;
    let after = kubectl.run(restarts)?;
    ensure!(before == after, "before:\n{before}\nafter:\n{after}");
    http_get(service)?;
    kubectl.run("scale deployment hello --replicas=1")?;
    eventually("scaled down", ROLLOUT, || {
        let pods = kubectl.run("get pods -l app=hello --no-headers")?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })
}

/// Drain is honest about budgets, and uncordon lets pods come back.
#[test]
fn drain_and_uncordon() -> Result<()> {
    let cluster = Cluster::with_node()?;
    let kubectl = cluster.kubectl()?;
    example(&kubectl)?;
    kubectl.run("create poddisruptionbudget hello --selector=app=hello --min-available=3")?;
    eventually("the budget is counted", ROLLOUT, || {
        let healthy = kubectl.run("get pdb hello -o jsonpath={.status.currentHealthy}")?;
        ensure!(healthy == "3", "{healthy}");
        Ok(())
    })?;
    let refused = kubectl.fail("drain node-1 --ignore-daemonsets --force --timeout=10s", "")?;
    ensure!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget"),
        "{refused}"
    );
    kubectl.run("delete pdb hello")?;
    kubectl.run("drain node-1 --ignore-daemonsets --force --timeout=90s")?;
    let nodes = kubectl.run("get nodes")?;
    ensure!(nodes.contains("Ready,SchedulingDisabled"), "{nodes}");
    kubectl.run("uncordon node-1")?;
    kubectl.run("rollout status deployment/hello --timeout=90s")?;
    Ok(())
}
