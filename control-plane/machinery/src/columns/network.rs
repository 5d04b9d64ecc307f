//! How pods are reached: services, endpoints, ingresses, policies, addresses.

pub(super) mod endpoints;
pub(super) mod ingress;
pub(super) mod service;

use serde_json::Value;

use super::cells::{self, NONE};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(super) static NETWORK_POLICY: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Pod-Selector", "Pods that the policy is about."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::selector(object, &["spec", "podSelector"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static SERVICE_CIDR: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("CIDRs", "Ranges from which services get addresses."),
        AGE,
    ],
    |object, now| {
        let ranges: Vec<&str> = object
            .list(&["spec", "cidrs"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        vec![
            cells::name(object),
            ranges.join(",").into(),
            cells::age(object, now),
        ]
    },
);

pub(super) static IP_ADDRESS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("ParentRef", "The object that has the address."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            parent(object).into(),
            cells::age(object, now),
        ]
    },
);

fn parent(address: &Value) -> String {
    let Some(parent) = address.field(&["spec", "parentRef"]) else {
        return NONE.to_owned();
    };
    let resource = match parent.text(&["group"]) {
        "" => parent.text(&["resource"]).to_owned(),
        group => format!("{}.{group}", parent.text(&["resource"])),
    };
    let namespace = match parent.text(&["namespace"]) {
        "" => String::new(),
        namespace => format!("/{namespace}"),
    };
    format!(
        "{}{namespace}/{}",
        resource.to_lowercase(),
        parent.text(&["name"])
    )
}

/// Addresses that a load balancer gave, sorted.
pub(super) fn balancer_addresses(object: &Value) -> Vec<&str> {
    let ingress = object.list(&["status", "loadBalancer", "ingress"]).iter();
    let mut addresses: Vec<&str> = ingress
        .map(|entry| match entry.text(&["ip"]) {
            "" => entry.text(&["hostname"]),
            ip => ip,
        })
        .filter(|address| !address.is_empty())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn addresses_name_their_parent() {
        check(
            &IP_ADDRESS,
            json!({"metadata": {}, "spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "web"}}}),
            expect!["x | services/d/web | 10m"],
        );
        check(
            &NETWORK_POLICY,
            json!({"metadata": {}, "spec": {"podSelector": {}}}),
            expect!["x | <none> | 10m"],
        );
    }
}
