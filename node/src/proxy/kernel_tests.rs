//! The whole way of a packet in a real kernel: a node, its pods and an outsider, each in a network namespace.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::apply::Kernel;
use super::ruleset::build;
use super::{HostPort, ProxyConfig};
use crate::config::ProxyMode;
use crate::network::testbed::{Namespace, missing};
use crate::network::{self, NetworkConfig, Protocol, ServiceInfo, ServiceState, SliceInfo};

const PATIENCE: Duration = Duration::from_secs(5);

/// A node with three pods on its bridge and a neighbour outside.
struct Bed {
    node: Arc<Namespace>,
    pods: Vec<Namespace>,
    outside: Namespace,
    kernel: Arc<parking_lot::Mutex<Option<Kernel>>>,
    _dir: tempfile::TempDir,
}

fn config() -> ProxyConfig {
    ProxyConfig {
        mode: ProxyMode::Nftables,
        node_name: "a".into(),
        cluster_cidr: "10.42.0.0/16".parse().expect("network"),
        service_cidr: "10.43.0.0/16".parse().expect("network"),
        cluster_dns: "10.43.0.10".parse().expect("address"),
    }
}

impl Bed {
    /// `None` when this machine cannot run the test.
    fn new(bridge_netfilter: bool) -> Option<Bed> {
        if let Some(reason) = missing(&["nft", "ip"]) {
            eprintln!("skipped: {reason}");
            return None;
        }
        let dir = tempfile::tempdir().expect("temporary directory");
        let node = Arc::new(Namespace::new());
        let outside = Namespace::new();
        node.plug("uplink", &outside);
        node.ip("addr add 192.0.2.2/24 dev uplink");
        outside.ip("addr add 192.0.2.1/24 dev eth0");
        outside.ip("route add 10.43.0.0/16 via 192.0.2.2");
        let network = NetworkConfig {
            agent_dir: dir.path().to_owned(),
            pod_cidr: "10.42.0.0/24".parse().expect("network"),
            cluster_cidr: config().cluster_cidr,
            service_cidr: config().service_cidr,
            cluster_dns: config().cluster_dns,
            mtu: None,
        };
        // Twice: it may be repeated.
        let again = network.clone();
        node.block_on(|| async move { network::configure(&network).await })
            .expect("network");
        node.block_on(|| async move { network::configure(&again).await })
            .expect("the same network");
        node.run(move || {
            let setting = "/proc/sys/net/bridge/bridge-nf-call-iptables";
            if std::path::Path::new(setting).exists() {
                std::fs::write(setting, if bridge_netfilter { "1" } else { "0" }).expect("setting");
            }
        });
        let pods = (0..3).map(|i| pod(&node, i)).collect();
        Some(Bed {
            node,
            pods,
            outside,
            kernel: Arc::default(),
            _dir: dir,
        })
    }

    /// Tells the kernel of a Service `10.43.0.5:80` (NodePort 30080) whose endpoints are these pods.
    fn serve(&self, spec: serde_json::Value, pods: &[usize], host_ports: Vec<HostPort>) {
        let mut state = ServiceState::default();
        let mut base = json!({"clusterIP": "10.43.0.5"});
        base.as_object_mut()
            .expect("object")
            .extend(spec.as_object().expect("object").clone());
        let protocol = base["ports"][0]["protocol"].clone();
        let service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": base});
        let service = serde_json::from_value(service).expect("a Service");
        state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
        let endpoints: Vec<_> = pods
            .iter()
            .map(|i| json!({"addresses": [pod_ip(*i).to_string()], "nodeName": "a"}))
            .collect();
        let slice = json!({
            "metadata": {"namespace": "ns", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": protocol}], "endpoints": endpoints,
        });
        let slice = serde_json::from_value(slice).expect("a slice");
        state.apply_slice(SliceInfo::from_api(&slice).expect("complete"));
        let desired = build(&state, &config(), &host_ports);
        let kernel = self.kernel.clone();
        self.node.block_on(move || async move {
            let mut current = kernel.lock().take().unwrap_or_default();
            current.bring_to(desired).await.expect("rules are accepted");
            *kernel.lock() = Some(current);
        });
    }
}

fn pod_ip(index: usize) -> IpAddr {
    format!("10.42.0.{}", index + 2).parse().expect("address")
}

/// A pod with a server on port 8080 (TCP and UDP) that says who it is and who asks.
fn pod(node: &Namespace, index: usize) -> Namespace {
    let pod = Namespace::new();
    node.plug(&format!("veth{index}"), &pod);
    node.ip(&format!("link set veth{index} master xebec0"));
    // As the CNI plugin does: with bridge netfilter a pod that reaches itself never leaves the bridge.
    node.ip(&format!(
        "link set veth{index} type bridge_slave hairpin on"
    ));
    pod.ip(&format!("addr add {}/24 dev eth0", pod_ip(index)));
    pod.ip("route add default via 10.42.0.1");
    pod.run(move || {
        let tcp = TcpListener::bind("0.0.0.0:8080").expect("listen");
        std::thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                std::thread::spawn(move || {
                    let client = stream.peer_addr().expect("peer").ip();
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        let _ = stream.write_all(format!("{index} {client}\n").as_bytes());
                    }
                });
            }
        });
        let udp = UdpSocket::bind("0.0.0.0:8080").expect("bind");
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            while let Ok((_, client)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{index} {}\n", client.ip()).as_bytes(), client);
            }
        });
    });
    pod
}

fn connect(to: &str) -> std::io::Result<TcpStream> {
    let address: SocketAddr = to.parse().expect("address");
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// One question over an open connection: which pod answers, and whom it sees.
fn ask_over(stream: &mut TcpStream) -> std::io::Result<(usize, IpAddr)> {
    stream.write_all(b"?")?;
    let mut text = String::new();
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
        text.push(char::from(byte[0]));
    }
    let (pod, client) = text.trim().split_once(' ').expect("two words");
    Ok((
        pod.parse().expect("number"),
        client.parse().expect("address"),
    ))
}

/// One question over a new connection from a namespace.
fn ask(from: &Namespace, to: &str) -> std::io::Result<(usize, IpAddr)> {
    let to = to.to_owned();
    from.run(move || ask_over(&mut connect(&to)?))
}

/// Which pods answer in many tries.
fn answering(from: &Namespace, to: &str) -> Vec<usize> {
    let mut pods: Vec<usize> = (0..40)
        .map(|_| {
            ask(from, to)
                .unwrap_or_else(|error| panic!("{to}: {error}"))
                .0
        })
        .collect();
    pods.sort_unstable();
    pods.dedup();
    pods
}

fn web() -> serde_json::Value {
    json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]})
}

#[test]
fn cluster_ip_with_and_without_bridge_netfilter() {
    for bridge_netfilter in [false, true] {
        let Some(bed) = Bed::new(bridge_netfilter) else {
            return;
        };
        bed.serve(web(), &[0, 1, 2], Vec::new());
        assert_eq!(
            answering(&bed.pods[0], "10.43.0.5:80"),
            [0, 1, 2],
            "from a pod, itself among the endpoints"
        );
        assert_eq!(
            answering(&bed.node, "10.43.0.5:80"),
            [0, 1, 2],
            "from the node"
        );
        assert_eq!(
            answering(&bed.outside, "10.43.0.5:80"),
            [0, 1, 2],
            "from outside"
        );
        assert_eq!(
            ask(&bed.pods[0], "10.42.0.3:8080").expect("answer"),
            (1, pod_ip(0)),
            "from pod to pod"
        );
        bed.serve(web(), &[1], Vec::new());
        let (_, client) = ask(&bed.pods[0], "10.43.0.5:80").expect("answer");
        assert_eq!(client, pod_ip(0), "a pod is seen with its own address");
    }
}

/// New connections find an endpoint at every moment of a change: none falls between the old rules and the new.
#[test]
fn changing_endpoints_refuse_nobody() {
    /// Each is a chance for a packet to be in the rules while they change.
    const CHANGES: usize = 100;
    let Some(bed) = Bed::new(false) else { return };
    bed.serve(web(), &[0, 1, 2], Vec::new());
    let done = Arc::new(AtomicBool::new(false));
    let until = done.clone();
    let client = move || {
        let mut connections = 0;
        while !until.load(Ordering::Relaxed) {
            connect("10.43.0.5:80").map_err(|error| format!("{connections}: {error}"))?;
            connections += 1;
        }
        Ok::<_, String>(connections)
    };
    let connections = std::thread::scope(|scope| {
        let client = scope.spawn(|| bed.outside.run(client));
        for change in 0..CHANGES {
            let pods: &[usize] = if change % 2 == 0 { &[0, 1] } else { &[0, 1, 2] };
            bed.serve(web(), pods, Vec::new());
        }
        done.store(true, Ordering::Relaxed);
        client.join().expect("the client does not panic")
    })
    .expect("every connection is accepted");
    assert!(connections > CHANGES, "{connections} connections");
}

#[test]
fn node_ports_on_every_address() {
    let Some(bed) = Bed::new(false) else { return };
    bed.serve(web(), &[0, 1], Vec::new());
    for address in ["192.0.2.2:30080", "127.0.0.1:30080", "10.42.0.1:30080"] {
        assert_eq!(
            answering(&bed.node, address),
            [0, 1],
            "from the node to {address}"
        );
    }
    assert_eq!(
        answering(&bed.pods[0], "192.0.2.2:30080"),
        [0, 1],
        "from a pod"
    );
    assert_eq!(
        answering(&bed.outside, "192.0.2.2:30080"),
        [0, 1],
        "from outside"
    );
    let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]});
    bed.serve(local, &[0], Vec::new());
    let (_, client) = ask(&bed.outside, "192.0.2.2:30080").expect("answer");
    assert_eq!(
        client.to_string(),
        "192.0.2.1",
        "policy Local keeps the client's address"
    );
}

#[test]
fn services_without_endpoints_refuse_at_once() {
    let Some(bed) = Bed::new(false) else { return };
    bed.serve(web(), &[], Vec::new());
    let started = Instant::now();
    for (from, to) in [
        (&bed.pods[0], "10.43.0.5:80"),
        (&bed.pods[0], "10.43.9.9:80"),
        (&bed.outside, "192.0.2.2:30080"),
        (&*bed.node, "10.43.0.5:80"),
        (&*bed.node, "127.0.0.1:30080"),
    ] {
        let error = ask(from, to).expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}: {error}");
    }
    assert!(started.elapsed() < PATIENCE);
}

#[test]
fn clients_with_affinity_stay() {
    let Some(bed) = Bed::new(false) else { return };
    let sticky = json!({"sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    bed.serve(sticky.clone(), &[0, 1, 2], Vec::new());
    let first = answering(&bed.outside, "10.43.0.5:80");
    assert_eq!(first.len(), 1);
    let others: Vec<usize> = (0..3).filter(|pod| *pod != first[0]).collect();
    bed.serve(sticky.clone(), &others, Vec::new());
    let second = answering(&bed.outside, "10.43.0.5:80");
    assert_eq!(second.len(), 1);
    bed.serve(sticky, &[0, 1, 2], Vec::new());
    assert_eq!(
        answering(&bed.outside, "10.43.0.5:80"),
        second,
        "other endpoints that come change nothing"
    );
}

#[test]
fn connections_outlive_changes_of_other_endpoints() {
    let Some(bed) = Bed::new(false) else { return };
    bed.serve(web(), &[0], Vec::new());
    let mut stream = bed
        .outside
        .run(|| connect("192.0.2.2:30080").expect("connection"));
    assert_eq!(ask_over(&mut stream).expect("answer").0, 0);
    for endpoints in [&[0, 1, 2][..], &[1, 2], &[]] {
        bed.serve(web(), endpoints, Vec::new());
        assert_eq!(
            ask_over(&mut stream).expect("answer").0,
            0,
            "the connection goes on"
        );
    }
}

#[test]
fn udp_clients_leave_removed_endpoints() {
    let Some(bed) = Bed::new(false) else { return };
    let udp = json!({"ports": [{"port": 80, "protocol": "UDP"}]});
    bed.serve(udp.clone(), &[1], Vec::new());
    let socket = bed.pods[0].run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("timeout");
        socket.connect("10.43.0.5:80").expect("connect");
        socket
    });
    let answer = |socket: &UdpSocket| {
        socket.send(b"?").expect("send");
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(answer(&socket).starts_with("1 "));
    bed.serve(udp, &[2], Vec::new());
    assert!(
        answer(&socket).starts_with("2 "),
        "the same client port reaches the new endpoint"
    );
}

#[test]
fn host_ports_lead_to_their_pod() {
    let Some(bed) = Bed::new(false) else { return };
    let host_port = HostPort {
        host_ip: None,
        host_port: 8888,
        protocol: Protocol::Tcp,
        pod_ip: pod_ip(1),
        container_port: 8080,
    };
    bed.serve(web(), &[0], vec![host_port]);
    assert_eq!(
        ask(&bed.outside, "192.0.2.2:8888")
            .expect("answer")
            .1
            .to_string(),
        "192.0.2.1"
    );
    assert_eq!(answering(&bed.node, "127.0.0.1:8888"), [1]);
    assert_eq!(
        answering(&bed.pods[1], "192.0.2.2:8888"),
        [1],
        "a pod reaches itself"
    );
    bed.serve(web(), &[0], Vec::new());
    let error = ask(&bed.outside, "192.0.2.2:8888").expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn deleted_rules_come_back() {
    let Some(bed) = Bed::new(false) else { return };
    let again = bed.node.block_on(|| async {
        let cache = Arc::new(network::ServiceCache::empty());
        cache.change(|_| {});
        let stop = tokio_util::sync::CancellationToken::new();
        let (_host_ports, none) = tokio::sync::watch::channel(Vec::new());
        let proxy = tokio::spawn(super::run(cache, config(), none, stop.clone()));
        let mut watch = network::TableWatch::new().expect("netlink");
        let exists = || async {
            while !network::table_exists(super::ruleset::TABLE).await {
                tokio::task::yield_now().await;
            }
        };
        let patient = |wait| tokio::time::timeout(PATIENCE, wait);
        patient(exists()).await.expect("rules are applied at first");
        network::apply_nft("all", "flush ruleset")
            .await
            .expect("flush");
        tokio::time::timeout(PATIENCE, watch.gone("ip xebec-pods"))
            .await
            .expect("the deletion is heard");
        let again = patient(exists()).await;
        stop.cancel();
        proxy.await.expect("no panic").expect("no error");
        again
    });
    again.expect("the rules are back");
}
