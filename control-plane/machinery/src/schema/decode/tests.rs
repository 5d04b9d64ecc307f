//! Tables of objects and what decoding makes of them.

use serde_json::json;

use super::*;

fn id(api: &str) -> TypeId {
    let parts: Vec<&str> = api.split('/').collect();
    Schema::global()
        .kind(parts[0], parts[1], parts[2])
        .expect("a known kind")
}

#[track_caller]
fn check(api: &str, mut value: Value, expect: Value) {
    let unknown = decode(Schema::global(), id(api), &mut value, Form::Complete).expect("decodes");
    assert_eq!(unknown, vec![]);
    assert_eq!(value, expect);
    let again = decode(Schema::global(), id(api), &mut value, Form::Complete).expect("decodes");
    assert_eq!((again, &value), (vec![], &expect), "decoding is idempotent");
}

#[track_caller]
fn check_error(api: &str, mut value: Value, expect: &str) {
    let error =
        decode(Schema::global(), id(api), &mut value, Form::Complete).expect_err("does not fit");
    assert_eq!(error.to_string(), expect);
}

#[test]
fn normalises_as_go_would() {
    check(
        "/v1/ConfigMap",
        json!({"kind": "ConfigMap", "metadata": {"name": "a", "creationTimestamp": null, "labels": {}},
            "data": {"a": null, "b": "x"}, "binaryData": {"c": "YW\nJj"}, "immutable": false}),
        json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "", "b": "x"},
            "binaryData": {"c": "YWJj"}, "immutable": false}),
    );
    check(
        "/v1/Pod",
        json!({"metadata": {}, "spec": {"hostNetwork": false, "enableServiceLinks": false, "containers": [
            {"name": "a", "image": "", "args": [], "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}}}]}}),
        json!({"metadata": {}, "spec": {"enableServiceLinks": false, "containers": [
            {"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}}]}, "status": {}}),
    );
    check(
        "apps/v1/ReplicaSet",
        json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-02T03:04:05.5+01:00"}, "spec": {"replicas": 0}}),
        json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-02T02:04:05Z"},
            "spec": {"replicas": 0, "template": {"metadata": {}, "spec": {}}}, "status": {"replicas": 0}}),
    );
}

#[test]
fn unknown_fields_are_pruned_and_reported() {
    let mut value = json!({"bogus": 1, "metadata": {"name": "a", "Labels": {}}, "spec": {"foo": {"a": 1},
        "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x", "env": [{"x": 1}]}]}}}});
    let found = decode(
        Schema::global(),
        id("apps/v1/Deployment"),
        &mut value,
        Form::Partial,
    )
    .expect("decodes");
    assert_eq!(
        strict_decoding_message(&found),
        "strict decoding error: unknown field \"bogus\", unknown field \"metadata.Labels\", \
         unknown field \"spec.foo\", unknown field \"spec.template.spec.containers[1].imagee\", \
         unknown field \"spec.template.spec.containers[1].env[0].x\""
    );
    assert_eq!(
        value,
        json!({"metadata": {"name": "a"}, "spec": {
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "env": [{}]}]}}}})
    );
}

#[test]
fn partial_keeps_what_is_stated() {
    let mut value =
        json!({"metadata": {"labels": {}}, "spec": {"hostNetwork": false, "nodeName": null}});
    let stated = value.clone();
    let unknown =
        decode(Schema::global(), id("/v1/Pod"), &mut value, Form::Partial).expect("decodes");
    assert_eq!((unknown, value), (vec![], stated));
}

#[test]
fn wrong_types_speak_as_upstream() {
    let deployment = |spec: Value| json!({"metadata": {"name": "a"}, "spec": spec});
    let container =
        |container: Value| json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    for (value, expect) in [
        (
            deployment(json!({"replicas": "3"})),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(json!({"replicas": 1.5})),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment(json!({"replicas": 3_000_000_000u64})),
            "json: cannot unmarshal number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            json!({"metadata": {"labels": []}}),
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            json!({"spec": "x"}),
            "json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            container(json!({"env": [{"name": "a", "value": 5}]})),
            "json: cannot unmarshal number into Go struct field \
             EnvVar.spec.template.spec.containers.env.value of type string",
        ),
        (
            container(json!({"imagePullPolicy": true})),
            "json: cannot unmarshal bool into Go struct field \
             Container.spec.template.spec.containers.imagePullPolicy of type v1.PullPolicy",
        ),
        (
            container(json!({"env": {}})),
            "json: cannot unmarshal object into Go struct field \
             Container.spec.template.spec.containers.env of type []v1.EnvVar",
        ),
        (
            json!({"spec": {"template": {"spec": {"volumes": [{"name": "a", "emptyDir": "x"}]}}}}),
            "json: cannot unmarshal string into Go struct field \
             Volume.spec.template.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource",
        ),
        (
            container(json!({"resources": {"limits": {"cpu": "lots"}}})),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            json!({"metadata": {"creationTimestamp": 5}}),
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
    ] {
        check_error("apps/v1/Deployment", value, expect);
    }
}

#[test]
fn texts_that_do_not_parse_speak_as_upstream() {
    check_error(
        "/v1/Secret",
        json!({"data": {"a": "not base64"}}),
        "illegal base64 data at input byte 3",
    );
    check_error(
        "/v1/Service",
        json!({"spec": {"ports": [{"port": 80, "targetPort": true}]}}),
        "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32",
    );
}

/// Upstream's own encoding of every type must come back as it is.
#[test]
fn golden_objects_are_unchanged() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let folder = format!("{manifest}/../../../shared/kubernetes/wire");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let mut value: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
        let api = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let (group, version) = api.split_once('/').unwrap_or(("", &api));
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let Some(id) = Schema::global().kind(group, version, &kind) else {
            continue;
        };
        seen += 1;
        let before = value.clone();
        match decode(Schema::global(), id, &mut value, Form::Complete) {
            Ok(unknown) if unknown.is_empty() && value == before => {}
            Ok(unknown) => wrong.push(format!(
                "{api} {kind}: {unknown:?}{}",
                difference("", &before, &value)
            )),
            Err(error) => wrong.push(format!("{api} {kind}: {error}")),
        }
    }
    assert!(seen > 50, "only {seen} golden objects found");
    assert_eq!(wrong, Vec::<String>::new());
}

/// The first place where two values differ.
fn difference(path: &str, before: &Value, after: &Value) -> String {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            let keys = before.keys().chain(after.keys());
            let differs = |key: &&String| before.get(*key) != after.get(*key);
            keys.into_iter().find(differs).map_or(String::new(), |key| {
                let null = Value::Null;
                let of = |map: &Map<String, Value>| map.get(key).unwrap_or(&null).clone();
                difference(&format!("{path}.{key}"), &of(before), &of(after))
            })
        }
        _ => format!(" {path}: {before} became {after}"),
    }
}
