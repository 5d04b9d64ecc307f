//! Endpoints and endpoint slices.

use serde_json::Value;

use crate::columns::cells::{self, NONE, UNSET};
use crate::columns::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(in crate::columns) static ENDPOINTS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Endpoints", "Addresses and ports behind the service."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            addresses(object).into(),
            cells::age(object, now),
        ]
    },
);

fn addresses(endpoints: &Value) -> String {
    let subsets = endpoints.list(&["subsets"]);
    if subsets.is_empty() {
        return NONE.to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips = || {
            subset
                .list(&["addresses"])
                .iter()
                .map(|address| address.text(&["ip"]))
        };
        let ports = subset.list(&["ports"]);
        if ports.is_empty() {
            all.extend(ips().map(str::to_owned));
        }
        for port in ports {
            let port = cells::count(port, &["port"]);
            all.extend(ips().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    cells::first_three(&all, "")
}

pub(in crate::columns) static ENDPOINT_SLICE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("AddressType", "Family of the addresses."),
        Column::text("Ports", "Ports of every endpoint."),
        Column::text("Endpoints", "Addresses behind the service."),
        AGE,
    ],
    |slice, now| {
        let ports: Vec<String> = slice
            .list(&["ports"])
            .iter()
            .map(|port| match port.number(&["port"]) {
                Some(number) => number.to_string(),
                None => cells::shown_or(port, &["name"], "*"),
            })
            .collect();
        let endpoints = slice.list(&["endpoints"]).iter();
        let addresses: Vec<String> = endpoints
            .flat_map(|endpoint| endpoint.list(&["addresses"]))
            .map(|address| address.as_str().unwrap_or_default().to_owned())
            .collect();
        vec![
            cells::name(slice),
            cells::text(slice, &["addressType"]),
            cells::first_three(&ports, UNSET).into(),
            cells::first_three(&addresses, UNSET).into(),
            cells::age(slice, now),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::columns::check::check;

    #[test]
    fn three_are_shown() {
        check(
            &ENDPOINTS,
            json!({"metadata": {}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            expect!["x | 10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more... | 10m"],
        );
        check(
            &ENDPOINT_SLICE,
            json!({"metadata": {}, "addressType": "IPv4", "ports": [{"port": 80}],
                "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}),
            expect!["x | IPv4 | 80 | 10.0.0.1,10.0.0.2 | 10m"],
        );
        check(
            &ENDPOINT_SLICE,
            json!({"metadata": {}}),
            expect!["x |  | <unset> | <unset> | 10m"],
        );
    }
}
