//! The OpenAPI v2 document of the whole API, as JSON and in the protobuf form that older clients ask for.
//!
//! Paths are those of the v3 documents, turned: bodies become parameters, content types are listed per operation.

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::definitions::{Dialect, Writer};
use super::{
    closure, collect_references, operations, parameters, protobuf, version_paths, write_entry,
};
use crate::kind::KindTable;
use crate::schema::Schema;

/// Writes the document as JSON.
///
/// # Errors
/// Those of the writer.
pub fn openapi_v2(table: &KindTable, out: &mut dyn Write) -> io::Result<()> {
    let schema = Schema::global();
    let mut wanted = BTreeSet::new();
    let mut index = 0;
    out.write_all(
        br#"{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.36.0"},"paths":{"#,
    )?;
    for_each_path(table, &mut |path, item| {
        collect_references(schema, item, &mut wanted);
        index += 1;
        write_entry(out, index - 1, path, item)
    })?;
    out.write_all(br#"},"definitions":{"#)?;
    let writer = Writer::new(schema, Dialect::V2, None);
    for (index, id) in closure(schema, wanted).into_iter().enumerate() {
        write_entry(
            out,
            index,
            schema.definition(id).name,
            &writer.definition(id),
        )?;
    }
    out.write_all(
        br#"},"securityDefinitions":{"BearerToken":{"type":"apiKey","in":"header","name":"authorization","description":"A bearer token"}},"security":[{"BearerToken":[]}]}"#,
    )
}

/// The document as a gnostic `openapi.v2.Document` message
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn openapi_v2_protobuf(table: &KindTable) -> Vec<u8> {
    let schema = Schema::global();
    let mut wanted = BTreeSet::new();
    let mut document = protobuf::Document::new("Kubernetes", "v1.36.0");
    for_each_path(table, &mut |path, item| {
        collect_references(schema, item, &mut wanted);
        document.path(path, item);
        Ok(())
    })
    .expect("nothing is written that could fail");
    let writer = Writer::new(schema, Dialect::V2, None);
    for id in closure(schema, wanted) {
        document.definition(schema.definition(id).name, &writer.definition(id));
    }
    document.finish()
}

fn for_each_path(
    table: &KindTable,
    each: &mut dyn FnMut(&str, &mut Value) -> io::Result<()>,
) -> io::Result<()> {
    let mut emit = |paths: Vec<(String, Value)>| {
        paths.into_iter().try_for_each(|(path, item)| {
            let mut item = path_item(item);
            each(&path, &mut item)
        })
    };
    for group in table.groups() {
        if !group.is_empty() {
            emit(vec![operations::discovery(&["apis", group])])?;
        }
        for version in table.versions(group) {
            emit(version_paths(table, group, version))?;
        }
    }
    emit(vec![
        operations::discovery(&["api"]),
        operations::discovery(&["apis"]),
        operations::discovery(&["version"]),
    ])
}

/// A v3 path item as v2 has it.
fn path_item(item: Value) -> Value {
    let Value::Object(methods) = item else {
        return item;
    };
    let mut out = Map::new();
    for (method, value) in methods {
        let turned = match (method.as_str(), value) {
            ("parameters", Value::Array(list)) => {
                Value::Array(list.iter().map(parameter).collect())
            }
            (_, Value::Object(operation)) => Value::Object(turn(operation)),
            (_, other) => other,
        };
        out.insert(method, turned);
    }
    Value::Object(out)
}

fn parameter(v3: &Value) -> Value {
    let name = v3["name"].as_str().unwrap_or_default();
    match v3["in"] == "path" {
        true => parameters::parameter(&format!("{{{name}}}"), true),
        false => parameters::parameter(name, true),
    }
}

fn turn(mut operation: Map<String, Value>) -> Map<String, Value> {
    let mut list: Vec<Value> = Vec::new();
    let mut consumes: Vec<Value> = vec!["*/*".into()];
    if let Some(body) = operation.shift_remove("requestBody") {
        let content = body["content"].as_object();
        let schema = content
            .and_then(|content| content.values().next())
            .map(|first| turn_schema(&first["schema"]));
        let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
        if body["required"] == true {
            parameter["required"] = true.into();
        }
        list.push(parameter);
        consumes = content.map_or(consumes, |content| {
            content.keys().map(|ty| ty.clone().into()).collect()
        });
    }
    if let Some(Value::Array(own)) = operation.shift_remove("parameters") {
        list.extend(own.iter().map(parameter));
    }
    let mut produces: Vec<Value> = Vec::new();
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        for response in responses.values_mut() {
            let content = response["content"].as_object();
            let mut turned = json!({"description": response["description"]});
            if let Some((_, first)) = content.and_then(|content| content.iter().next()) {
                turned["schema"] = turn_schema(&first["schema"]);
            }
            for ty in content.into_iter().flat_map(Map::keys) {
                if !produces.iter().any(|known| known == ty) {
                    produces.push(ty.clone().into());
                }
            }
            *response = turned;
        }
    }
    operation.insert("consumes".into(), consumes.into());
    operation.insert("produces".into(), produces.into());
    operation.insert("schemes".into(), json!(["https"]));
    if !list.is_empty() {
        operation.insert("parameters".into(), list.into());
    }
    operation
}

fn turn_schema(schema: &Value) -> Value {
    match schema["$ref"]
        .as_str()
        .and_then(|target| target.rsplit('/').next())
    {
        Some(name) => json!({"$ref": format!("#/definitions/{name}")}),
        None => schema.clone(),
    }
}
