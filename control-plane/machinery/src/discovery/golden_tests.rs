//! Compares discovery with what Kubernetes 1.36 answers, where that data is at hand.

use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// Golden discovery documents, or `None` where the folder is absent.
fn golden(file: &str) -> Option<Value> {
    let root = std::env::var_os("XEBEC_GOLDEN").map(PathBuf::from);
    let root = root.unwrap_or_else(|| {
        let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
        PathBuf::from(manifest).join("../../../shared/kubernetes")
    });
    let text = std::fs::read(root.join("discovery").join(file)).ok()?;
    Some(serde_json::from_slice(&text).expect("golden files are JSON"))
}

fn is_stable(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

#[test]
fn resource_lists_equal_upstreams() {
    let table = KindTable::builtin();
    for group in table.groups() {
        for version in table.versions(group) {
            let file = match group {
                "" => format!("api__{version}.json"),
                group => format!("apis__{group}__{version}.json"),
            };
            let Some(expected) = golden(&file) else {
                return;
            };
            let document = api_resource_list(&table, group, version).expect("served");
            let actual = serde_json::to_value(document).expect("plain data");
            for (a, e) in actual["resources"]
                .as_array()
                .expect("list")
                .iter()
                .zip(expected["resources"].as_array().expect("list"))
            {
                assert_eq!(a, e, "{file}");
            }
            assert_eq!(actual, expected, "{file}");
        }
    }
}

#[test]
fn group_list_equals_upstreams_stable_part() {
    let Some(mut expected) = golden("apis.json") else {
        return;
    };
    let groups = expected["groups"].as_array_mut().expect("list");
    for group in groups.iter_mut() {
        group["versions"]
            .as_array_mut()
            .expect("list")
            .retain(|v| is_stable(v["version"].as_str().expect("text")));
    }
    groups.retain(|g| !g["versions"].as_array().expect("list").is_empty());
    let actual = serde_json::to_value(api_group_list(&KindTable::builtin())).expect("plain data");
    assert_eq!(actual, expected);
}

#[test]
fn aggregated_equals_upstreams_stable_part() {
    let Some(mut expected) = golden("aggregated_v2.json") else {
        return;
    };
    let groups = expected["items"].as_array_mut().expect("list");
    for group in groups.iter_mut() {
        group["versions"]
            .as_array_mut()
            .expect("list")
            .retain(|v| is_stable(v["version"].as_str().expect("text")));
    }
    groups.retain(|g| !g["versions"].as_array().expect("list").is_empty());
    let actual = serde_json::to_value(aggregated_apis(&KindTable::builtin(), AGGREGATED_V2))
        .expect("plain data");
    let pairs = actual["items"]
        .as_array()
        .expect("list")
        .iter()
        .zip(expected["items"].as_array().expect("list"));
    for (a, e) in pairs {
        assert_eq!(a, e);
    }
    assert_eq!(actual, expected);
}

#[test]
fn single_group_equals_upstreams() {
    let Some(expected) = golden("apis__autoscaling.json") else {
        return;
    };
    let group = api_group(&KindTable::builtin(), "autoscaling").expect("served");
    assert_eq!(serde_json::to_value(group).expect("plain data"), expected);
    assert!(api_group(&KindTable::builtin(), "example.com").is_none());
}
