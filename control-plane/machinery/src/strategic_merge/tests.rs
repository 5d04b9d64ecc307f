//! Tables of original, patch and result, and properties that any patch must have.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn merge(api: &str, original: Value, patch: Value) -> Result<Value, StrategicMergeError> {
    let parts: Vec<&str> = api.split('/').collect();
    let schema = Schema::global();
    let id = schema
        .kind(parts[0], parts[1], parts[2])
        .expect("a known kind");
    strategic_merge(schema, id, original, patch)
}

fn pod(spec: Value) -> Value {
    json!({"spec": spec})
}

#[track_caller]
fn check(original: Value, patch: Value, expect: Value) {
    assert_eq!(merge("/v1/Pod", pod(original), pod(patch)), Ok(pod(expect)));
}

#[track_caller]
fn check_error(original: Value, patch: Value, expect: &str) {
    let error = merge("/v1/Pod", pod(original), pod(patch)).expect_err("refused");
    assert_eq!(error.to_string(), expect);
}

#[test]
fn maps_merge_and_nulls_delete() {
    check(
        json!({"nodeName": "a", "nodeSelector": {"x": "1", "y": "2"}}),
        json!({"nodeName": null, "nodeSelector": {"y": null, "z": "3"}, "hostname": null, "dnsConfig": {"options": null}}),
        json!({"nodeSelector": {"x": "1", "z": "3"}, "dnsConfig": {}}),
    );
    check(
        json!({"nodeSelector": {"x": "1"}}),
        json!({"nodeSelector": {"y": "2", "$patch": "replace"}}),
        json!({"nodeSelector": {"y": "2"}}),
    );
    check(
        json!({"nodeSelector": {"x": "1"}}),
        json!({"nodeSelector": {"$patch": "delete"}}),
        json!({"nodeSelector": {}}),
    );
    check(
        json!({}),
        json!({"nodeSelector": {"$patch": "delete"}}),
        json!({}),
    );
}

#[test]
fn lists_merge_by_key() {
    let original = json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]});
    check(
        original.clone(),
        json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}),
        json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "2"}, {"name": "c"}]}),
    );
    check(
        original.clone(),
        json!({"containers": [{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "$patch": "delete"}]}]}),
        json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "Y", "value": "2"}]}, {"name": "b", "image": "1"}]}),
    );
    check(
        original.clone(),
        json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
        json!({"containers": [{"name": "c"}]}),
    );
    check(
        original,
        json!({"$setElementOrder/containers": [{"name": "c"}, {"name": "b"}], "containers": [{"name": "c"}]}),
        json!({"containers": [{"name": "c"}, {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]}),
    );
    // args has no merge strategy: it is replaced.
    check(
        json!({"containers": [{"name": "a", "args": ["1", "2"]}]}),
        json!({"containers": [{"name": "a", "args": ["3"]}]}),
        json!({"containers": [{"name": "a", "args": ["3"]}]}),
    );
}

#[test]
fn order_of_server_only_elements_is_kept() {
    let named = |names: &str| {
        Value::from(
            names
                .chars()
                .map(|c| json!({"name": c.to_string()}))
                .collect::<Vec<_>>(),
        )
    };
    for (original, patch, order, expect) in [
        ("abc", "", "cab", "cab"),
        ("abcd", "", "db", "acdb"),
        ("abc", "x", "cxa", "bcxa"),
        ("ab", "cd", "dc", "!"),
        ("", "ba", "ba", "ba"),
    ] {
        let mut patched = json!({"$setElementOrder/containers": named(order)});
        if !patch.is_empty() {
            patched["containers"] = named(patch);
        }
        let found = match merge(
            "/v1/Pod",
            pod(json!({"containers": named(original)})),
            pod(patched),
        ) {
            Ok(value) => {
                let list = value["spec"]["containers"]
                    .as_array()
                    .expect("a list")
                    .clone();
                list.iter()
                    .filter_map(|item| item["name"].as_str())
                    .collect::<String>()
            }
            Err(_) => "!".to_owned(),
        };
        assert_eq!(found, expect, "{original} {patch} {order}");
    }
}

#[test]
fn lists_of_scalars() {
    let finalizers = |list: Value| json!({"metadata": list});
    for (original, patch, expect) in [
        (
            json!({"finalizers": ["a", "b"]}),
            json!({"finalizers": ["c", "a"]}),
            json!({"finalizers": ["c", "a", "b"]}),
        ),
        (
            json!({"finalizers": ["a", "b", "c"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["b"]}),
            json!({"finalizers": ["a", "c"]}),
        ),
        (
            json!({"finalizers": ["a", "b", "c"]}),
            json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["c", "d", "a"],
                "finalizers": ["d"]}),
            json!({"finalizers": ["c", "d", "a"]}),
        ),
    ] {
        assert_eq!(
            merge("/v1/Pod", finalizers(original), finalizers(patch)),
            Ok(finalizers(expect))
        );
    }
}

#[test]
fn retain_keys_clears_the_others() {
    let deployment = |strategy: Value| json!({"spec": {"strategy": strategy}});
    let found = merge(
        "apps/v1/Deployment",
        deployment(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})),
        deployment(json!({"$retainKeys": ["type"], "type": "Recreate"})),
    );
    assert_eq!(found, Ok(deployment(json!({"type": "Recreate"}))));
    check(
        json!({"volumes": [{"name": "a", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "a", "hostPath": {"path": "/"}}]}),
        json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}),
    );
    check_error(
        json!({"volumes": [{"name": "a"}]}),
        json!({"volumes": [{"$retainKeys": ["name"], "name": "a", "emptyDir": {}}]}),
        "invalid patch format of retainKeys",
    );
}

#[test]
fn errors_speak_as_upstream() {
    let original = json!({"containers": [{"name": "a"}], "nodeSelector": {"a": "b"}});
    for (patch, expect) in [
        (
            json!({"containers": [{"image": "x"}]}),
            "map: map[image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"$patch": "delete"}]}),
            "map: map[$patch:delete] does not contain declared merge key: name",
        ),
        (
            json!({"containers": [{"name": "a", "$patch": "bad"}]}),
            "unknown patch type: bad in map: map[$patch:bad name:a]",
        ),
        (
            json!({"nodeSelector": {"$patch": "merge"}}),
            "unknown patch type: merge in map: map[$patch:merge]",
        ),
        (
            json!({"containers": [["a"]]}),
            "list element types are not identical: [[map[name:a]] [[a]]]",
        ),
        (
            json!({"$setElementOrder/containers": "a"}),
            "expected a []interface {}, but received a string",
        ),
        (
            json!({"$setElementOrder": []}),
            "invalid patch format of setElementOrder list",
        ),
        (
            json!({"$deleteFromPrimitiveList": []}),
            "invalid patch format of primitive list",
        ),
        (
            json!({"$setElementOrder/foo": [], "foo": []}),
            "unable to find api field in struct PodSpec for the json field \"foo\"",
        ),
    ] {
        check_error(original.clone(), patch, expect);
    }
}

proptest! {
    /// Applying a patch twice is applying it once, and an element of the patch is always in the result.
    #[test]
    fn merging_is_idempotent(original in "[a-f]{0,6}", patch in "[a-f]{0,6}", image in "[xy]") {
        let named = |names: &str, image: &str| {
            let mut seen = String::new();
            let unique = names.chars().filter(|c| !seen.contains(*c) && { seen.push(*c); true });
            Value::from(unique.map(|c| json!({"name": c.to_string(), "image": image})).collect::<Vec<_>>())
        };
        let patch_value = pod(json!({"containers": named(&patch, &image)}));
        let once = merge("/v1/Pod", pod(json!({"containers": named(&original, "o")})), patch_value.clone()).expect("merges");
        let twice = merge("/v1/Pod", once.clone(), patch_value).expect("merges");
        prop_assert_eq!(&once, &twice);
        let list = once["spec"]["containers"].as_array().expect("a list");
        for name in original.chars().chain(patch.chars()) {
            let found = list.iter().find(|item| item["name"] == name.to_string()).expect("kept");
            let expect = if patch.contains(name) { image.as_str() } else { "o" };
            prop_assert_eq!(found["image"].as_str(), Some(expect));
        }
    }
}
