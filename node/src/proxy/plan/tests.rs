//! Tests of the choice of endpoints and of stale UDP flows.

use serde_json::json;

use super::*;
use crate::network::SliceInfo;

/// A state with one Service `ns/web` and one slice whose endpoints are (address, node, ready, serving, terminating).
fn state(service: serde_json::Value, endpoints: &[(&str, &str, bool, bool, bool)]) -> ServiceState {
    let mut state = ServiceState::default();
    let service = json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": service});
    let service: k8s_openapi::api::core::v1::Service =
        serde_json::from_value(service).expect("a Service");
    state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(address, node, ready, serving, terminating)| {
            json!({"addresses": [address], "nodeName": node,
                   "conditions": {"ready": ready, "serving": serving, "terminating": terminating}})
        })
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

fn check(
    service: serde_json::Value,
    given: &[(&str, &str, bool, bool, bool)],
    cluster: &[&str],
    local: &[&str],
) {
    let state = state(service, given);
    let service = state.service("ns", "web").expect("there");
    let found = endpoints(&state, service, &service.ports[0], "a");
    let texts = |addresses: &[SocketAddrV4]| {
        addresses
            .iter()
            .map(|a| a.ip().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (texts(&found.cluster), texts(&found.local)),
        (
            cluster.iter().map(ToString::to_string).collect(),
            local.iter().map(ToString::to_string).collect(),
        )
    );
}

#[test]
fn ready_endpoints_come_before_terminating_ones() {
    let web = || json!({"clusterIP": "10.43.0.5", "ports": [{"port": 80}]});
    check(
        web(),
        &[
            ("10.42.0.1", "a", true, true, false),
            ("10.42.1.1", "b", true, true, false),
            ("10.42.1.2", "b", false, false, false),
        ],
        &["10.42.0.1", "10.42.1.1"],
        &["10.42.0.1"],
    );
    // Locally only one that shuts down: good enough for local traffic.
    check(
        web(),
        &[
            ("10.42.0.1", "a", false, true, true),
            ("10.42.1.1", "b", true, true, false),
        ],
        &["10.42.1.1"],
        &["10.42.0.1"],
    );
    check(web(), &[("10.42.0.1", "a", false, false, true)], &[], &[]);
    let unready = json!({"clusterIP": "10.43.0.5", "publishNotReadyAddresses": true, "ports": [{"port": 80}]});
    check(
        unready,
        &[("10.42.0.1", "a", false, false, false)],
        &["10.42.0.1"],
        &["10.42.0.1"],
    );
}

/// As the masters that share an address: `default/kubernetes` has a slice for each port.
#[test]
fn slices_may_have_ports_of_their_own() {
    let mut state = state(
        json!({"clusterIP": "10.43.0.1", "ports": [{"port": 443}]}),
        &[("10.0.0.1", "a", true, true, false)],
    );
    let further = json!({
        "metadata": {"namespace": "ns", "name": "web-2", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8081}],
        "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
    });
    let further = serde_json::from_value(further).expect("a slice");
    state.apply_slice(SliceInfo::from_api(&further).expect("complete"));
    let service = state.service("ns", "web").expect("there");
    let found = endpoints(&state, service, &service.ports[0], "a").cluster;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.1:8081", "10.0.0.2:8081"]);
}

#[test]
fn flows_to_removed_endpoints_are_stale() {
    let frontends = |endpoints: &[&str]| {
        let state = state(
            json!({"clusterIP": "10.43.0.5", "ports": [{"port": 53, "protocol": "UDP", "nodePort": 30053}]}),
            &[],
        );
        let service = state.service("ns", "web").expect("there");
        let cluster = endpoints
            .iter()
            .map(|a| a.parse().expect("address"))
            .collect();
        let mut udp = UdpFrontends::default();
        udp.add(
            service,
            &service.ports[0],
            &PortEndpoints {
                cluster,
                local: Vec::new(),
            },
        );
        udp
    };
    let address = |text: &str| text.parse::<SocketAddr>().expect("address");
    let before = frontends(&["10.42.0.1:53", "10.42.0.2:53"]);
    let now = frontends(&["10.42.0.2:53"]);
    assert!(now.lost_since(&before) && !before.lost_since(&now));
    assert!(now.is_stale(&before, address("10.43.0.5:53"), address("10.42.0.1:53")));
    assert!(!now.is_stale(&before, address("10.43.0.5:53"), address("10.42.0.2:53")));
    assert!(now.is_stale(&before, address("192.0.2.2:30053"), address("10.42.0.1:53")));
    assert!(!now.is_stale(&before, address("8.8.8.8:30053"), address("8.8.8.8:30053")));
    assert!(!now.is_stale(&before, address("10.43.0.6:99"), address("10.42.0.1:53")));
    let gone = UdpFrontends::default();
    assert!(gone.is_stale(&before, address("10.43.0.5:53"), address("10.42.0.1:53")));
}
