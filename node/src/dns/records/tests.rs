//! Tests of the cluster's records.

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::names::place;
use super::*;
use crate::network::SliceInfo;

fn add(
    state: &mut ServiceState,
    name: &str,
    spec: serde_json::Value,
    endpoints: serde_json::Value,
) {
    let service = json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec});
    let service = serde_json::from_value(service).expect("a Service");
    state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
    let slice = json!({
        "metadata": {"namespace": "ns", "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints,
    });
    state.apply_slice(
        SliceInfo::from_api(&serde_json::from_value(slice).expect("a slice")).expect("complete"),
    );
}

fn state() -> ServiceState {
    let mut state = ServiceState::default();
    let ports = json!([{"name": "http", "port": 80}]);
    add(
        &mut state,
        "web",
        json!({"clusterIP": "10.43.0.5", "ports": ports}),
        json!([]),
    );
    add(
        &mut state,
        "db",
        json!({"clusterIP": "None", "ports": ports}),
        json!([
            {"addresses": ["10.42.0.7"], "hostname": "db-0"},
            {"addresses": ["10.42.0.8"]},
            {"addresses": ["10.42.0.9"], "hostname": "db-2", "conditions": {"ready": false}},
        ]),
    );
    add(&mut state, "none", json!({"clusterIP": "None"}), json!([]));
    add(
        &mut state,
        "out",
        json!({"type": "ExternalName", "externalName": "example.org"}),
        json!([]),
    );
    state
}

fn check(name: &str, kind: RecordType, expect: Expect) {
    let zone_name = Name::from_ascii("cluster.local.").expect("name");
    let state = state();
    let zone = Zone {
        name: &zone_name,
        server: "10.43.0.10".parse().expect("address"),
        state: &state,
    };
    let name = Name::from_ascii(name).expect("name");
    let text = match zone.find(&name, &place(&name, &zone_name), kind) {
        Found::Records {
            answers,
            additionals,
        } => {
            let line = |record: &Record| {
                format!("{} {} {}\n", record.name, record.record_type(), record.data)
            };
            let answers: String = answers.iter().map(line).collect();
            let additionals: String = additionals
                .iter()
                .map(|record| format!("+ {}", line(record)))
                .collect();
            answers + &additionals
        }
        other => format!("{other:?}"),
    };
    expect.assert_eq(&text);
}

#[test]
fn services() {
    check(
        "web.ns.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        web.ns.svc.cluster.local. A 10.43.0.5
    "#]],
    );
    check("web.ns.svc.cluster.local.", RecordType::AAAA, expect![[""]]);
    check(
        "_http._tcp.web.ns.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
            _http._tcp.web.ns.svc.cluster.local. SRV 0 100 80 web.ns.svc.cluster.local.
            + web.ns.svc.cluster.local. A 10.43.0.5
        "#]],
    );
    check(
        "_none._tcp.web.ns.svc.cluster.local.",
        RecordType::SRV,
        expect!["NoName"],
    );
    check(
        "nothing.ns.svc.cluster.local.",
        RecordType::A,
        expect!["NoName"],
    );
    check(
        "out.ns.svc.cluster.local.",
        RecordType::A,
        expect![[r#"Alias(Name("example.org."))"#]],
    );
    check(
        "5.0.43.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        5.0.43.10.in-addr.arpa. PTR web.ns.svc.cluster.local.
    "#]],
    );
}

#[test]
fn headless_services() {
    check(
        "db.ns.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
        db.ns.svc.cluster.local. A 10.42.0.7
        db.ns.svc.cluster.local. A 10.42.0.8
    "#]],
    );
    check(
        "db-0.db.ns.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
            db-0.db.ns.svc.cluster.local. A 10.42.0.7
        "#]],
    );
    check(
        "db-2.db.ns.svc.cluster.local.",
        RecordType::A,
        expect!["NoName"],
    );
    check(
        "10-42-0-8.db.ns.svc.cluster.local.",
        RecordType::A,
        expect![[r#"
            10-42-0-8.db.ns.svc.cluster.local. A 10.42.0.8
        "#]],
    );
    check(
        "_http._tcp.db.ns.svc.cluster.local.",
        RecordType::SRV,
        expect![[r#"
            _http._tcp.db.ns.svc.cluster.local. SRV 0 50 8080 db-0.db.ns.svc.cluster.local.
            _http._tcp.db.ns.svc.cluster.local. SRV 0 50 8080 10-42-0-8.db.ns.svc.cluster.local.
            + db-0.db.ns.svc.cluster.local. A 10.42.0.7
            + 10-42-0-8.db.ns.svc.cluster.local. A 10.42.0.8
        "#]],
    );
    check(
        "none.ns.svc.cluster.local.",
        RecordType::A,
        expect!["NoName"],
    );
    check(
        "7.0.42.10.in-addr.arpa.",
        RecordType::PTR,
        expect![[r#"
        7.0.42.10.in-addr.arpa. PTR db-0.db.ns.svc.cluster.local.
    "#]],
    );
    check(
        "9.0.42.10.in-addr.arpa.",
        RecordType::PTR,
        expect!["Elsewhere"],
    );
}

#[test]
fn other_names() {
    check(
        "10-42-0-7.ns.pod.cluster.local.",
        RecordType::A,
        expect![[r#"
            10-42-0-7.ns.pod.cluster.local. A 10.42.0.7
        "#]],
    );
    check(
        "dns-version.cluster.local.",
        RecordType::TXT,
        expect![[r#"
        dns-version.cluster.local. TXT 1.1.0
    "#]],
    );
    check(
        "cluster.local.",
        RecordType::SOA,
        expect![[r#"
        cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
    "#]],
    );
    check("ns.svc.cluster.local.", RecordType::A, expect![[""]]);
    check("other.svc.cluster.local.", RecordType::A, expect!["NoName"]);
    check("example.org.", RecordType::A, expect!["Elsewhere"]);
}
