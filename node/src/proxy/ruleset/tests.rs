//! Golden texts of rulesets.

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::text::difference;
use super::*;
use crate::config::ProxyMode;
use crate::network::SliceInfo;

pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        mode: ProxyMode::Nftables,
        node_name: "a".into(),
        cluster_cidr: "10.42.0.0/16".parse().expect("network"),
        service_cidr: "10.43.0.0/16".parse().expect("network"),
        cluster_dns: "10.43.0.10".parse().expect("address"),
    }
}

fn state(spec: serde_json::Value, endpoints: &[(&str, &str)]) -> ServiceState {
    let mut state = ServiceState::default();
    let service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.80"}]}}});
    let service = serde_json::from_value(service).expect("a Service");
    state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(ip, node)| json!({"addresses": [ip], "nodeName": node}))
        .collect();
    let slice = json!({
        "metadata": {"namespace": "ns", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints,
    });
    state.apply_slice(
        SliceInfo::from_api(&serde_json::from_value(slice).expect("a slice")).expect("complete"),
    );
    state
}

/// Compares what a Service adds to the rules of an empty cluster.
fn check(
    spec: serde_json::Value,
    endpoints: &[(&str, &str)],
    host_ports: &[HostPort],
    expect: Expect,
) {
    let empty = build(&ServiceState::default(), &config(), &[]).ruleset;
    let desired = build(&state(spec, endpoints), &config(), host_ports).ruleset;
    expect.assert_eq(&difference("T", &empty, &desired).concat());
}

#[test]
fn cluster_ip() {
    check(
        json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]}),
        &[("10.42.0.2", "a"), ("10.42.1.2", "b")],
        &[],
        expect![[r#"
            add chain T svc-4720f9d358-ns/web/tcp/80-44e7248a44
            add rule T svc-4720f9d358-ns/web/tcp/80-44e7248a44 meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.1.2 . 8080 }
            add element T hairpins { 10.42.0.2 . 10.42.0.2 }
            add element T service-ips { 10.43.0.5 . tcp . 80 : goto svc-4720f9d358-ns/web/tcp/80-44e7248a44 }
        "#]],
    );
}

#[test]
fn no_endpoints_are_rejected() {
    check(
        json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80, "nodePort": 30080}]}),
        &[],
        &[],
        expect![[r#"
            add element T no-endpoint-ips { 10.43.0.5 . tcp . 80 }
            add element T no-endpoint-node-ports { tcp . 30080 }
        "#]],
    );
}

#[test]
fn cluster_dns_and_headless_services_get_no_rule() {
    check(
        json!({"clusterIP": "10.43.0.10", "ports": [{"port": 53}]}),
        &[("10.42.0.2", "a")],
        &[],
        expect![[""]],
    );
    check(
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        &[("10.42.0.2", "a")],
        &[],
        expect![[""]],
    );
}

#[test]
fn load_balancer_with_local_policy_and_source_ranges() {
    check(
        json!({"type": "LoadBalancer", "clusterIP": "10.43.0.5", "externalTrafficPolicy": "Local",
               "loadBalancerSourceRanges": ["192.0.2.0/24"], "ports": [{"port": 80, "nodePort": 30080}]}),
        &[("10.42.0.2", "a"), ("10.42.1.2", "b")],
        &[],
        expect![[r#"
            add chain T ext-4720f9d358-ns/web/tcp/80-87dd9c072c
            add chain T lb-4720f9d358-ns/web/tcp/80-ef8ffc3bbe
            add chain T local-4720f9d358-ns/web/tcp/80-8f86d44355
            add chain T svc-4720f9d358-ns/web/tcp/80-44e7248a44
            add rule T ext-4720f9d358-ns/web/tcp/80-87dd9c072c ip saddr 10.42.0.0/16 goto svc-4720f9d358-ns/web/tcp/80-44e7248a44
            add rule T ext-4720f9d358-ns/web/tcp/80-87dd9c072c fib saddr type local jump mark-masquerade
            add rule T ext-4720f9d358-ns/web/tcp/80-87dd9c072c fib saddr type local goto svc-4720f9d358-ns/web/tcp/80-44e7248a44
            add rule T ext-4720f9d358-ns/web/tcp/80-87dd9c072c goto local-4720f9d358-ns/web/tcp/80-8f86d44355
            add rule T lb-4720f9d358-ns/web/tcp/80-ef8ffc3bbe ip saddr 192.0.2.0/24 goto ext-4720f9d358-ns/web/tcp/80-87dd9c072c
            add rule T lb-4720f9d358-ns/web/tcp/80-ef8ffc3bbe drop
            add rule T local-4720f9d358-ns/web/tcp/80-8f86d44355 meta l4proto tcp dnat to numgen random mod 1 map { 0 : 10.42.0.2 . 8080 }
            add rule T svc-4720f9d358-ns/web/tcp/80-44e7248a44 meta l4proto tcp dnat to numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.1.2 . 8080 }
            add element T hairpins { 10.42.0.2 . 10.42.0.2 }
            add element T service-ips { 10.43.0.5 . tcp . 80 : goto svc-4720f9d358-ns/web/tcp/80-44e7248a44, 192.0.2.80 . tcp . 80 : goto lb-4720f9d358-ns/web/tcp/80-ef8ffc3bbe }
            add element T service-node-ports { tcp . 30080 : goto ext-4720f9d358-ns/web/tcp/80-87dd9c072c }
        "#]],
    );
}

#[test]
fn session_affinity() {
    check(
        json!({"clusterIP": "10.43.0.5", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}),
        &[("10.42.0.2", "a"), ("10.42.1.2", "b")],
        &[],
        expect![[r#"
            add set T clients10800s-4720f9d358-10.42.0.2/8080-ns/web/tcp/80 { type ipv4_addr; flags dynamic, timeout; timeout 10800s; }
            add set T clients10800s-4720f9d358-10.42.1.2/8080-ns/web/tcp/80 { type ipv4_addr; flags dynamic, timeout; timeout 10800s; }
            add chain T ep-4720f9d358-10.42.0.2/8080-ns/web/tcp/80-f9778c5036
            add chain T ep-4720f9d358-10.42.1.2/8080-ns/web/tcp/80-e641e8820f
            add chain T svc-4720f9d358-ns/web/tcp/80-0b99c0be88
            add rule T ep-4720f9d358-10.42.0.2/8080-ns/web/tcp/80-f9778c5036 update @clients10800s-4720f9d358-10.42.0.2/8080-ns/web/tcp/80 { ip saddr }
            add rule T ep-4720f9d358-10.42.0.2/8080-ns/web/tcp/80-f9778c5036 meta l4proto tcp dnat to 10.42.0.2:8080
            add rule T ep-4720f9d358-10.42.1.2/8080-ns/web/tcp/80-e641e8820f update @clients10800s-4720f9d358-10.42.1.2/8080-ns/web/tcp/80 { ip saddr }
            add rule T ep-4720f9d358-10.42.1.2/8080-ns/web/tcp/80-e641e8820f meta l4proto tcp dnat to 10.42.1.2:8080
            add rule T svc-4720f9d358-ns/web/tcp/80-0b99c0be88 ip saddr @clients10800s-4720f9d358-10.42.0.2/8080-ns/web/tcp/80 goto ep-4720f9d358-10.42.0.2/8080-ns/web/tcp/80-f9778c5036
            add rule T svc-4720f9d358-ns/web/tcp/80-0b99c0be88 ip saddr @clients10800s-4720f9d358-10.42.1.2/8080-ns/web/tcp/80 goto ep-4720f9d358-10.42.1.2/8080-ns/web/tcp/80-e641e8820f
            add rule T svc-4720f9d358-ns/web/tcp/80-0b99c0be88 numgen random mod 2 vmap { 0 : goto ep-4720f9d358-10.42.0.2/8080-ns/web/tcp/80-f9778c5036, 1 : goto ep-4720f9d358-10.42.1.2/8080-ns/web/tcp/80-e641e8820f }
            add element T hairpins { 10.42.0.2 . 10.42.0.2 }
            add element T service-ips { 10.43.0.5 . tcp . 80 : goto svc-4720f9d358-ns/web/tcp/80-0b99c0be88 }
        "#]],
    );
}

#[test]
fn host_ports() {
    let host_port = |host_ip: Option<&str>| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().expect("address")),
        host_port: 8080,
        protocol: crate::network::Protocol::Tcp,
        pod_ip: "10.42.0.9".parse().expect("address"),
        container_port: 80,
    };
    let service = json!({"clusterIP": "None"});
    check(
        service,
        &[],
        &[host_port(None), host_port(Some("127.0.0.1"))],
        expect![[r#"
            add chain T host-tcp/8080-10.42.0.9/80-0669f50396
            add rule T host-tcp/8080-10.42.0.9/80-0669f50396 meta l4proto tcp dnat to 10.42.0.9:80
            add element T hairpins { 10.42.0.9 . 10.42.0.9 }
            add element T host-ports { tcp . 8080 : goto host-tcp/8080-10.42.0.9/80-0669f50396 }
            add element T service-ips { 127.0.0.1 . tcp . 8080 : goto host-tcp/8080-10.42.0.9/80-0669f50396 }
        "#]],
    );
}

#[test]
fn long_names_stay_apart() {
    let long = "n".repeat(63);
    let service = |name: &str| ServiceInfo {
        namespace: long.clone(),
        name: format!("{}{name}", "s".repeat(62)),
        ..state(json!({}), &[])
            .service("ns", "web")
            .expect("there")
            .as_ref()
            .clone()
    };
    let port = ServicePort {
        name: String::new(),
        protocol: crate::network::Protocol::Tcp,
        port: 80,
        node_port: 0,
    };
    let (one, two) = (
        Names::new(&service("a"), &port).chain("svc"),
        Names::new(&service("b"), &port).chain("svc"),
    );
    assert!(one.len() <= MAX_NAME_BYTES && one != two, "{one} {two}");
}
