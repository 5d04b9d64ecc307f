//! Services.

use serde_json::Value;

use super::balancer_addresses;
use crate::columns::cells::{self, NONE, UNKNOWN};
use crate::columns::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(in crate::columns) static SERVICE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Type", "How the service is reached."),
        Column::text("Cluster-IP", "Its address inside the cluster."),
        Column::text("External-IP", "Its addresses outside the cluster."),
        Column::text("Port(s)", "Its ports, with the nodes' ports."),
        AGE,
        Column::text("Selector", "Labels of the pods behind it.").wide(),
    ],
    |service, now| {
        let cluster_ip = service
            .list(&["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or(NONE);
        vec![
            cells::name(service),
            cells::text(service, &["spec", "type"]),
            cluster_ip.into(),
            external_addresses(service).into(),
            ports(service).into(),
            cells::age(service, now),
            cells::labels(service.map(&["spec", "selector"])),
        ]
    },
);

fn external_addresses(service: &Value) -> String {
    let external = || {
        service
            .list(&["spec", "externalIPs"])
            .iter()
            .filter_map(Value::as_str)
    };
    let (addresses, none): (Vec<&str>, &str) = match service.text(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => (external().collect(), NONE),
        "LoadBalancer" => (
            balancer_addresses(service)
                .into_iter()
                .chain(external())
                .collect(),
            "<pending>",
        ),
        "ExternalName" => return service.text(&["spec", "externalName"]).to_owned(),
        _ => return UNKNOWN.to_owned(),
    };
    if addresses.is_empty() {
        none.to_owned()
    } else {
        addresses.join(",")
    }
}

fn ports(service: &Value) -> String {
    let ports: Vec<String> = service
        .list(&["spec", "ports"])
        .iter()
        .map(|port| {
            let (number, protocol) = (cells::count(port, &["port"]), port.text(&["protocol"]));
            match cells::count(port, &["nodePort"]) {
                node_port if node_port > 0 => format!("{number}:{node_port}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    if ports.is_empty() {
        NONE.to_owned()
    } else {
        ports.join(",")
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::columns::check::check;

    #[test]
    fn every_type() {
        let ports = json!([{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 53, "protocol": "UDP"}]);
        check(
            &SERVICE,
            json!({"metadata": {}, "spec": {"type": "NodePort", "clusterIPs": ["10.43.0.1"], "ports": ports, "selector": {"b": "2", "a": "1"}}}),
            expect!["x | NodePort | 10.43.0.1 | <none> | 80:30080/TCP,53/UDP | 10m | a=1,b=2"],
        );
        check(
            &SERVICE,
            json!({"metadata": {}, "spec": {"type": "LoadBalancer"}}),
            expect!["x | LoadBalancer | <none> | <pending> | <none> | 10m | <none>"],
        );
        check(
            &SERVICE,
            json!({"metadata": {}, "spec": {"type": "ExternalName", "externalName": "example.com"}}),
            expect!["x | ExternalName | <none> | example.com | <none> | 10m | <none>"],
        );
    }
}
