//! Nodes and what belongs to them.

use serde_json::Value;

use super::cells::{self, NONE, UNKNOWN};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(super) static NODE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Status", "Whether the node is ready and takes pods."),
        Column::text("Roles", "The node's roles, from its labels."),
        AGE,
        Column::text("Version", "Version of the node's agent."),
        Column::text("Internal-IP", "The node's address inside the cluster.").wide(),
        Column::text("External-IP", "The node's address outside the cluster.").wide(),
        Column::text("OS-Image", "The node's operating system.").wide(),
        Column::text("Kernel-Version", "The node's kernel and architecture.").wide(),
        Column::text("Container-Runtime", "What runs the node's containers.").wide(),
    ],
    |node, now| {
        let info = |field: &str| cells::text_or(node, &["status", "nodeInfo", field], UNKNOWN);
        vec![
            cells::name(node),
            status(node).into(),
            roles(node).into(),
            cells::age(node, now),
            cells::text(node, &["status", "nodeInfo", "kubeletVersion"]),
            address(node, "InternalIP").into(),
            address(node, "ExternalIP").into(),
            info("osImage"),
            kernel(node).into(),
            info("containerRuntimeVersion"),
        ]
    },
);

fn status(node: &Value) -> String {
    let ready = match cells::condition(node, "Ready").map(|c| c.text(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    if node.flag(&["spec", "unschedulable"]) {
        format!("{ready},SchedulingDisabled")
    } else {
        ready.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = node
        .labels()
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role),
                None if key == "kubernetes.io/role" => value.as_str(),
                None => None,
            },
        )
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        NONE.to_owned()
    } else {
        roles.join(",")
    }
}

fn address<'n>(node: &'n Value, address_type: &str) -> &'n str {
    let addresses = node.list(&["status", "addresses"]);
    addresses
        .iter()
        .find(|a| a.text(&["type"]) == address_type)
        .map_or(NONE, |a| a.text(&["address"]))
}

fn kernel(node: &Value) -> String {
    let kernel = cells::shown_or(node, &["status", "nodeInfo", "kernelVersion"], UNKNOWN);
    match node.text(&["status", "nodeInfo", "architecture"]) {
        "" => kernel,
        architecture => format!("{kernel} ({architecture})"),
    }
}

pub(super) static COMPONENT_STATUS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Status", "Whether the component is healthy."),
        Column::text("Message", "What the component says."),
        Column::text("Error", "What is wrong with it."),
    ],
    |object, _| {
        let healthy = object
            .list(&["conditions"])
            .iter()
            .find(|c| c.text(&["type"]) == "Healthy");
        let status = match healthy.map(|c| c.text(&["status"])) {
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
            None => "Unknown",
        };
        let text = |field: &str| Value::from(healthy.map_or("", |c| c.text(&[field])));
        vec![
            cells::name(object),
            status.into(),
            text("message"),
            text("error"),
        ]
    },
);

pub(super) static RUNTIME_CLASS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Handler", "The runtime's name for the class."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["handler"]),
            cells::age(object, now),
        ]
    },
);

pub(super) static LEASE: ColumnSet = ColumnSet::new(
    &[NAME, Column::text("Holder", "Who holds the lease."), AGE],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["spec", "holderIdentity"]),
            cells::age(object, now),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn nodes() {
        check(
            &NODE,
            json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
                    "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "Debian", "kernelVersion": "6.1", "architecture": "amd64", "containerRuntimeVersion": "containerd://1.6"}}}),
            expect![
                "x | Ready,SchedulingDisabled | control-plane,worker | 10m | v1.36.0 | 10.0.0.2 | <none> | Debian | 6.1 (amd64) | containerd://1.6"
            ],
        );
        check(
            &NODE,
            json!({"metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            expect![
                "x | NotReady | <none> | 10m |  | <none> | <none> | <unknown> | <unknown> | <unknown>"
            ],
        );
    }
}
