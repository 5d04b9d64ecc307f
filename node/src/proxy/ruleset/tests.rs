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
    expect.assert_eq(&difference("T", &empty, &desired));
}

#[test]
fn cluster_ip() {
    check(
        json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]}),
        &[("10.42.0.2", "a"), ("10.42.1.2", "b")],
        &[],
        expect![[""]],
    );
}

#[test]
fn no_endpoints_are_rejected() {
    check(
        json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80, "nodePort": 30080}]}),
        &[],
        &[],
        expect![[""]],
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
        expect![[""]],
    );
}

#[test]
fn session_affinity() {
    check(
        json!({"clusterIP": "10.43.0.5", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}),
        &[("10.42.0.2", "a"), ("10.42.1.2", "b")],
        &[],
        expect![[""]],
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
        expect![[""]],
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
