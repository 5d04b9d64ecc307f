//! Tests of the reduced Services and slices.

use serde_json::json;

use super::*;

fn service(value: serde_json::Value) -> ServiceInfo {
    ServiceInfo::from_api(&serde_json::from_value(value).expect("a Service")).expect("complete")
}

fn slice(name: &str, address: &str) -> SliceInfo {
    let value = json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
    });
    SliceInfo::from_api(&serde_json::from_value(value).expect("a slice")).expect("complete")
}

#[test]
fn service_is_reduced() {
    let info = service(json!({
        "metadata": {"namespace": "ns", "name": "web"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.43.1.1", "clusterIPs": ["10.43.1.1"],
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "UDP"}],
            "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": ["192.0.2.0/24"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}]}},
    }));
    assert_eq!(info.ports[0].protocol, Protocol::Udp);
    assert_eq!(
        info.affinity,
        Some(Affinity {
            timeout_seconds: 10_800
        })
    );
    assert!(info.external_local && !info.internal_local && !info.headless && info.proxied);
    assert_eq!(
        info.load_balancer_ips,
        ["192.0.2.9".parse::<IpAddr>().expect("address")]
    );
}

#[test]
fn headless_and_external_names_have_no_address() {
    let headless = service(json!({
        "metadata": {"namespace": "ns", "name": "db"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"]},
    }));
    assert!(headless.headless && headless.cluster_ips.is_empty());
    let external = service(json!({
        "metadata": {"namespace": "ns", "name": "out"}, "spec": {"type": "ExternalName", "externalName": "example.org"},
    }));
    assert_eq!(external.external_name.as_deref(), Some("example.org"));
}

#[test]
fn indexes_follow_changes() {
    let address: IpAddr = "10.42.0.5".parse().expect("address");
    let mut state = ServiceState::default();
    let web =
        json!({"metadata": {"namespace": "ns", "name": "web"}, "spec": {"clusterIP": "10.43.1.1"}});
    assert!(state.apply_service(service(web.clone())));
    assert!(
        !state.apply_service(service(web)),
        "the same again changes nothing"
    );
    assert!(state.apply_slice(slice("a", "10.42.0.5")));
    assert!(state.apply_slice(slice("b", "10.42.0.5")));
    assert_eq!(state.slices(&("ns".into(), "web".into())).count(), 2);
    assert!(state.delete_slice(&("ns".into(), "a".into())));
    assert_eq!(
        state.services_of_endpoint(address).count(),
        1,
        "slice b still has the address"
    );
    assert!(state.delete_slice(&("ns".into(), "b".into())));
    assert_eq!(state.services_of_endpoint(address).count(), 0);
    assert!(state.by_endpoint.is_empty() && state.by_service.is_empty());
    assert!(state.has_namespace("ns") && !state.has_namespace("n"));
    assert!(state.delete_service(&("ns".into(), "web".into())));
    assert!(state.by_cluster_ip.is_empty());
}
