//! The generated documents against those of an upstream API server, where they are at hand.

use std::path::PathBuf;

use super::*;

fn document(path: &str) -> Value {
    let mut out = Vec::new();
    assert!(write_openapi_v3(&KindTable::builtin(), path, &mut out).expect("memory does not fail"));
    serde_json::from_slice(&out).expect("a document is JSON")
}

fn golden(path: &str) -> Option<Value> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let folder = format!("{manifest}/../../../shared/kubernetes/openapi-v3");
    let file = PathBuf::from(folder).join(format!("{}_openapi.json", path.replace('/', "__")));
    let text = std::fs::read(file).ok()?;
    Some(serde_json::from_slice(&text).expect("golden data is JSON"))
}

/// Takes out what is worded freely or has no order.
fn plain(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.shift_remove("description");
            }
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.sort_by_key(Value::to_string);
            }
            // Without a description there is no need to wrap a reference.
            if let Some(Value::Array(all)) = map.get("allOf").cloned() {
                map.shift_remove("allOf");
                map.insert("$ref".into(), all[0]["$ref"].clone());
            }
            map.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

fn versions() -> Vec<String> {
    let table = KindTable::builtin();
    document_paths(&table)
        .into_iter()
        .filter(|path| path.starts_with("api") && path != "apis")
        .collect()
}

#[test]
fn schemas_are_upstreams() {
    let mut compared = 0;
    for path in versions() {
        let Some(mut expect) = golden(&path) else {
            continue;
        };
        let mut found = document(&path);
        let name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec";
        // A list type on a field that is no list: upstream publishes it, and it means nothing.
        if let Some(Value::Object(ca)) =
            expect["components"]["schemas"].pointer_mut(&format!("/{name}/properties/caBundle"))
        {
            ca.shift_remove("x-kubernetes-list-type");
        }
        for document in [&mut expect, &mut found] {
            plain(&mut document["components"]["schemas"]);
        }
        let expect = expect["components"]["schemas"]
            .as_object()
            .expect("schemas");
        let found = found["components"]["schemas"].as_object().expect("schemas");
        for (name, schema) in expect {
            assert_eq!(found.get(name), Some(schema), "{path} {name}");
            compared += 1;
        }
        assert_eq!(found.len(), expect.len(), "{path}");
    }
    println!("{compared} schemas compared");
}

/// Every operation as one line: method, path, id, action, kind, parameters.
fn operations_of(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("a path item") {
            if method == "parameters" {
                continue;
            }
            let lists = [&item["parameters"], &operation["parameters"]];
            let parameters: BTreeSet<String> = lists
                .iter()
                .flat_map(|list| list.as_array().into_iter().flatten())
                .map(|p| {
                    format!(
                        "{}:{}",
                        p["in"].as_str().unwrap_or("?"),
                        p["name"].as_str().unwrap_or("?")
                    )
                })
                .collect();
            lines.insert(format!(
                "{method} {path} {} {} {} {parameters:?}",
                operation["operationId"],
                operation["x-kubernetes-action"],
                operation["x-kubernetes-group-version-kind"]
            ));
        }
    }
    lines
}

#[test]
fn operations_are_upstreams() {
    for path in versions() {
        let Some(expect) = golden(&path) else {
            continue;
        };
        let (expect, found) = (operations_of(&expect), operations_of(&document(&path)));
        let missing: Vec<_> = expect.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&expect).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "{path}: missing {missing:#?}, surplus {surplus:#?}"
        );
    }
}

#[test]
fn index_names_every_document_by_hash() {
    let table = KindTable::builtin();
    let index = openapi_v3_index(&table);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("a URL");
    let hash = openapi_v3_hash(&table, "apis/apps/v1").expect("a hash");
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={hash}"));
    assert_ne!(Some(hash), openapi_v3_hash(&table, "apis/batch/v1"));
    assert!(
        !write_openapi_v3(&table, "apis/nothing/v1", &mut Vec::new())
            .expect("memory does not fail")
    );
}

#[test]
fn fields_are_described() {
    let document = document("apis/apps/v1");
    let spec = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"];
    let replicas = spec["properties"]["replicas"]["description"]
        .as_str()
        .expect("a description");
    assert!(replicas.contains("pods"), "{replicas}");
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<_> = patch["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .map(|p| &p["name"])
        .collect();
    assert!(
        names.contains(&&Value::from("fieldValidation")),
        "{names:?}"
    );
}

#[test]
fn v2_refers_only_to_what_it_defines() {
    let table = KindTable::builtin();
    let mut out = Vec::new();
    openapi_v2(&table, &mut out).expect("memory does not fail");
    let document: Value = serde_json::from_slice(&out).expect("JSON");
    let definitions = document["definitions"].as_object().expect("definitions");
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(target)) = map.get("$ref") {
                    let name = target
                        .strip_prefix("#/definitions/")
                        .expect("a v2 reference");
                    assert!(definitions.contains_key(name), "{name}");
                }
                open.extend(map.values());
            }
            Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
    let encoded = openapi_v2_protobuf(&table);
    assert!(
        encoded.starts_with(b"\x0a\x032.0\x12"),
        "the message begins with swagger and info"
    );
    assert!(encoded.len() > out.len() / 4);
}
