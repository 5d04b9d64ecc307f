//! The node's parts together on the machine's own containerd: images, pods, network, Service, DNS, and deaths.
//!
//! Everything happens in a network namespace and a temporary directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_cri::v1 as cri;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::process::Process;
use super::{Containerd, ContainerdConfig};
use crate::config::ProxyMode;
use crate::cri::Cri;
use crate::dns::{self, DnsConfig};
use crate::images::{self, ImagesConfig, PAUSE_IMAGE};
use crate::network::testbed::{Namespace, missing};
use crate::network::{self, NetworkConfig, ServiceCache, ServiceInfo, SliceInfo};
use crate::proxy::{self, ProxyConfig};

const IMAGE: &str = "docker.io/library/xebec-example:1";
const PATIENCE: Duration = Duration::from_secs(60);

fn script() -> PathBuf {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    Path::new(&manifest).join("../scripts/build-example-image.sh")
}

fn network_config(agent_dir: &Path) -> NetworkConfig {
    NetworkConfig {
        agent_dir: agent_dir.to_owned(),
        pod_cidr: "10.42.0.0/24".parse().expect("network"),
        cluster_cidr: "10.42.0.0/16".parse().expect("network"),
        service_cidr: "10.43.0.0/16".parse().expect("network"),
        cluster_dns: "10.43.0.10".parse().expect("address"),
        mtu: Some(1400),
    }
}

struct Pod {
    sandbox: String,
    container: String,
    ip: String,
}

async fn run_pod(cri: &Cri, name: &str, logs: &Path) -> Pod {
    let config = cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata {
            name: name.into(),
            uid: format!("xebec-test-{name}"),
            namespace: "ns".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: logs.to_string_lossy().into_owned(),
        dns_config: Some(cri::DnsConfig {
            servers: vec!["10.43.0.10".into()],
            searches: vec!["ns.svc.cluster.local".into()],
            options: vec![],
        }),
        linux: Some(cri::LinuxPodSandboxConfig {
            cgroup_parent: "/xebec-test".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let sandbox = cri.run_sandbox(config.clone()).await.expect("a sandbox");
    let image = cri::ImageSpec {
        image: IMAGE.into(),
        ..Default::default()
    };
    let container = cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata {
            name: "web".into(),
            attempt: 0,
        }),
        image: Some(image),
        log_path: format!("{name}.log"),
        linux: Some(cri::LinuxContainerConfig::default()),
        ..Default::default()
    };
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(container),
        sandbox_config: Some(config),
    };
    let container = cri.create_container(request).await.expect("a container");
    cri.start_container(&container).await.expect("it starts");
    let status = cri
        .sandbox_status(&sandbox)
        .await
        .expect("status")
        .expect("it exists");
    Pod {
        sandbox,
        container,
        ip: status.network.expect("a pod has a network").ip,
    }
}

async fn exec(cri: &Cri, pod: &Pod, command: &str) -> String {
    let words = ["sh", "-c", command].map(str::to_owned).to_vec();
    let answer = cri
        .exec_sync(&pod.container, words, PATIENCE)
        .await
        .expect("exec");
    let (out, errors) = (
        String::from_utf8_lossy(&answer.stdout),
        String::from_utf8_lossy(&answer.stderr),
    );
    assert_eq!(answer.exit_code, 0, "{command}: {out}{errors}");
    out.into_owned()
}

/// Service `ns/web` over all pods, and a headless `ns/pods`.
fn services(cache: &ServiceCache, pods: &[Pod]) {
    cache.change(|state| {
        for (name, ip) in [("web", "10.43.0.5"), ("pods", "None")] {
            let service = json!({"metadata": {"namespace": "ns", "name": name},
                "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}]}});
            let service = serde_json::from_value(service).expect("a Service");
            state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
            let endpoints: Vec<_> = pods.iter().map(|pod| json!({"addresses": [pod.ip], "nodeName": "a"})).collect();
            let slice = json!({"metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints});
            let slice = serde_json::from_value(slice).expect("a slice");
            state.apply_slice(SliceInfo::from_api(&slice).expect("complete"));
        }
    });
}

async fn import(containerd: &Containerd, agent_dir: &Path) {
    let config = ImagesConfig {
        agent_dir: agent_dir.to_owned(),
        containerd: containerd.address(),
    };
    images::import_pause(&config)
        .await
        .expect("the pause image");
    images::import_pause(&config)
        .await
        .expect("the pause image again");
    let archives = agent_dir.join("images");
    std::fs::create_dir_all(&archives).expect("directory");
    let built = Command::new(script())
        .arg(archives.join("example.tar"))
        .status()
        .expect("the script runs");
    assert!(built.success());
    let imported = images::import_all(&config).await.expect("import");
    let names = imported[0].result.as_ref().expect("a good archive");
    assert_eq!(names, &[IMAGE, "docker.io/library/xebec-example:2"]);
    assert!(
        images::import_all(&config)
            .await
            .expect("import")
            .is_empty(),
        "unchanged archives are skipped"
    );
}

async fn remove(cri: &Cri, pods: &[Pod]) {
    for pod in pods {
        cri.stop_sandbox(&pod.sandbox)
            .await
            .expect("the sandbox stops");
        cri.remove_sandbox(&pod.sandbox)
            .await
            .expect("the sandbox goes");
    }
}

/// Kills containerd and starts the supervision anew: the same containers run on.
async fn survive(
    containerd: Containerd,
    config: &ContainerdConfig,
    cri: &Cri,
    pods: &[Pod],
) -> Containerd {
    let started = cri
        .container_status(&pods[0].container)
        .await
        .expect("status")
        .expect("it exists")
        .started_at;
    let before = Process::attached(&containerd.address())
        .await
        .expect("it answers")
        .pid();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(before),
        nix::sys::signal::Signal::SIGKILL,
    )
    .expect("kill");
    let up = async {
        loop {
            match Process::attached(&containerd.address()).await {
                Some(process) if process.pid() != before => break process.pid(),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let second = tokio::time::timeout(PATIENCE, up)
        .await
        .expect("it comes back");
    containerd.detach().await;
    let containerd = Containerd::start(config).await.expect("attach");
    let third = Process::attached(&containerd.address())
        .await
        .expect("it answers")
        .pid();
    assert_eq!(second, third, "a living containerd is taken over");
    let cri = Cri::new(&containerd.endpoint());
    let again = async {
        loop {
            match cri.container_status(&pods[0].container).await {
                Ok(status) => break status.expect("it exists"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let status = tokio::time::timeout(PATIENCE, again)
        .await
        .expect("CRI answers");
    assert_eq!(
        (status.state(), status.started_at),
        (cri::ContainerState::ContainerRunning, started)
    );
    containerd
}

async fn road(agent_dir: PathBuf) {
    let config = ContainerdConfig {
        agent_dir: agent_dir.clone(),
        sandbox_image: PAUSE_IMAGE.into(),
    };
    let network = network_config(&agent_dir);
    let containerd = Containerd::start(&config).await.expect("containerd");
    import(&containerd, &agent_dir).await;
    let stop = CancellationToken::new();
    let cache = Arc::new(ServiceCache::empty());
    // Before the node has the address: it comes with the network.
    let dns = tokio::spawn(dns::run(
        cache.clone(),
        DnsConfig::new(network.cluster_dns),
        stop.clone(),
    ));
    network::configure(&network).await.expect("network");
    let cri = Cri::new(&containerd.endpoint());
    let mut pods = Vec::new();
    for name in ["one", "two"] {
        pods.push(run_pod(&cri, name, &agent_dir).await);
    }
    services(&cache, &pods);
    let proxy = ProxyConfig {
        mode: ProxyMode::Nftables,
        node_name: "a".into(),
        cluster_cidr: network.cluster_cidr,
        service_cidr: network.service_cidr,
        cluster_dns: network.cluster_dns,
    };
    let (_host_ports, no_host_ports) = tokio::sync::watch::channel(Vec::new());
    let proxy = tokio::spawn(proxy::run(
        cache.clone(),
        proxy,
        no_host_ports,
        stop.clone(),
    ));
    // The proxy's first transaction is awaited by asking until somebody answers.
    let answers = exec(
        &cri,
        &pods[0],
        "until timeout 2 wget -q -O /dev/null http://web/; do :; done
         for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
             timeout 5 wget -q -O - http://web.ns.svc.cluster.local/cgi-bin/whoami
         done",
    )
    .await;
    assert!(
        answers.contains("pod one") && answers.contains("pod two"),
        "spread over both: {answers}"
    );
    assert!(answers.contains("version 1"), "{answers}");
    let found = exec(&cri, &pods[1], "nslookup pods.ns.svc.cluster.local").await;
    assert!(pods.iter().all(|pod| found.contains(&pod.ip)), "{found}");
    let containerd = survive(containerd, &config, &cri, &pods).await;
    let cri = Cri::new(&containerd.endpoint());
    exec(&cri, &pods[1], "timeout 5 wget -q -O - http://web/").await;
    remove(&cri, &pods).await;
    stop.cancel();
    dns.await.expect("no panic").expect("no error");
    proxy.await.expect("no panic").expect("no error");
    containerd.stop().await;
}

/// Ends what a failed test leaves behind.
struct Cleanup(PathBuf);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let socket = self.0.join("containerd/containerd.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            if tokio::net::UnixStream::connect(&socket).await.is_err() {
                return;
            }
            let cri = Cri::new(&format!("unix://{}", socket.display()));
            for sandbox in cri.list_sandboxes(&[]).await.unwrap_or_default() {
                let _ = cri.stop_sandbox(&sandbox.id).await;
                let _ = cri.remove_sandbox(&sandbox.id).await;
            }
            super::process::terminate(&socket).await;
        });
    }
}

#[test]
fn two_pods_talk_through_a_service_and_outlive_containerd() {
    let needed = ["containerd", "runc", "ctr", "nft", "ip", "busybox"];
    if let Some(reason) = missing(&needed) {
        eprintln!("skipped: {reason}");
        return;
    }
    let dir = tempfile::tempdir().expect("temporary directory");
    let agent_dir = dir.path().to_owned();
    let _cleanup = Cleanup(agent_dir.clone());
    let node = Namespace::new();
    node.block_on(move || road(agent_dir));
}
