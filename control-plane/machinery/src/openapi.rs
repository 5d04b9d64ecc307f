//! OpenAPI documents of the API: one v3 document per group and version, their index, and the v2 document of everything.
//!
//! They are generated from the table of kinds and the schema table; sentences come from `descriptions`. Documents are big
//! (the core group's is two megabytes), so they are written piece by piece to a writer and never held as a tree; the
//! caller keeps the compressed bytes, if anything. Must not know HTTP.

mod definitions;
mod descriptions;
mod operations;
mod parameters;
mod protobuf;
mod v2;

use std::collections::BTreeSet;
use std::io::{self, Write};

use serde_json::{Map, Value, json};

use crate::kind::{Kind, KindTable};
use crate::schema::{Schema, TypeId};
use definitions::{Dialect, Writer};
use operations::GroupVersion;

pub use v2::{openapi_v2, openapi_v2_protobuf};

/// The index that `/openapi/v3` answers: for every document its URL, which carries a hash of what the document is made of.
pub fn openapi_v3_index(table: &KindTable) -> Value {
    let mut paths = Map::new();
    for path in document_paths(table) {
        let hash = hash(table, &path);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The hash in the index of the document at `path` (`apis/apps/v1`), for `ETag` and for requests that name a hash.
pub fn openapi_v3_hash(table: &KindTable, path: &str) -> Option<String> {
    document_paths(table)
        .iter()
        .any(|known| known == path)
        .then(|| hash(table, path))
}

/// Writes the document at `path` (`api/v1`, `apis/apps/v1`, `apis/apps`) as JSON; `false` if there is none.
///
/// # Errors
/// Those of the writer.
pub fn write_openapi_v3(table: &KindTable, path: &str, out: &mut dyn Write) -> io::Result<bool> {
    if !document_paths(table).iter().any(|known| known == path) {
        return Ok(false);
    }
    let schema = Schema::global();
    let parts: Vec<&str> = path.split('/').collect();
    let paths = match parts[..] {
        ["api", version] => version_paths(table, "", version),
        ["apis", group, version] => version_paths(table, group, version),
        _ => vec![operations::discovery(&parts)],
    };
    let group_version = match parts[..] {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    };
    let mut wanted = BTreeSet::new();
    out.write_all(
        br#"{"openapi":"3.0.0","info":{"title":"Kubernetes","version":"unversioned"},"paths":{"#,
    )?;
    for (index, (path, item)) in paths.iter().enumerate() {
        let mut item = item.clone();
        collect_references(schema, &mut item, &mut wanted);
        write_entry(out, index, path, &item)?;
    }
    out.write_all(br#"},"components":{"schemas":{"#)?;
    let writer = Writer::new(schema, Dialect::V3, group_version);
    for (index, id) in closure(schema, wanted).into_iter().enumerate() {
        write_entry(
            out,
            index,
            schema.definition(id).name,
            &writer.definition(id),
        )?;
    }
    out.write_all(br#"},"securitySchemes":{"BearerToken":"#)?;
    serde_json::to_writer(&mut *out, &bearer_token())?;
    out.write_all(b"}}}")?;
    Ok(true)
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "in": "header", "name": "authorization", "description": "A bearer token"})
}

/// The paths of all documents, sorted.
fn document_paths(table: &KindTable) -> Vec<String> {
    let mut paths = vec!["api".to_owned(), "apis".to_owned(), "version".to_owned()];
    for group in table.groups() {
        if !group.is_empty() {
            paths.push(format!("apis/{group}"));
        }
        paths.extend(
            table
                .versions(group)
                .into_iter()
                .map(|version| GroupVersion { group, version }.path()),
        );
    }
    paths.sort();
    paths
}

/// Every path of a group and version with its path item.
fn version_paths(table: &KindTable, group: &str, version: &str) -> Vec<(String, Value)> {
    let group_version = GroupVersion { group, version };
    let mut paths = vec![operations::resources(group_version)];
    for kind in table.in_version(group, version) {
        paths.extend(operations::kind_paths(kind, group_version));
    }
    paths.sort_by(|(a, _), (b, _)| a.cmp(b));
    paths
}

fn write_entry(out: &mut dyn Write, index: usize, name: &str, value: &Value) -> io::Result<()> {
    if index > 0 {
        out.write_all(b",")?;
    }
    serde_json::to_writer(&mut *out, name)?;
    out.write_all(b":")?;
    serde_json::to_writer(out, value)?;
    Ok(())
}

/// The definitions that operations refer to.
fn collect_references(schema: &Schema, value: &mut Value, found: &mut BTreeSet<TypeId>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                let name = target.rsplit('/').next().unwrap_or_default();
                found.extend(schema.named(name));
            }
            map.values_mut()
                .for_each(|value| collect_references(schema, value, found));
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|value| collect_references(schema, value, found)),
        _ => {}
    }
}

/// Everything that `wanted` refers to, itself included, sorted by name.
fn closure(schema: &Schema, wanted: BTreeSet<TypeId>) -> BTreeSet<TypeId> {
    let mut known = BTreeSet::new();
    let mut open: Vec<TypeId> = wanted.into_iter().collect();
    while let Some(id) = open.pop() {
        if known.insert(id) {
            let fields = &schema.definition(id).fields;
            open.extend(
                fields
                    .iter()
                    .filter_map(|field| definitions::reference(schema, field.ty)),
            );
        }
    }
    known
}

/// FNV-1a over everything a document is made of: the tables that are compiled in and the rows of its kinds.
fn hash(table: &KindTable, path: &str) -> String {
    let mut state = [0xcbf2_9ce4_8422_2325_u64, 0x9e37_79b9_7f4a_7c15];
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            for word in &mut state {
                *word = (*word ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    };
    feed(env!("CARGO_PKG_VERSION").as_bytes());
    feed(&Schema::fingerprint().to_le_bytes());
    feed(&descriptions::fingerprint().to_le_bytes());
    feed(path.as_bytes());
    let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => (String::new(), version.to_owned()),
        ["apis", group, version] => (group.to_owned(), version.to_owned()),
        _ => Default::default(),
    };
    for kind in table.in_version(&group, &version) {
        feed(row(kind).as_bytes());
    }
    format!("{:016X}{:016X}", state[0], state[1])
}

/// What of a kind's row its paths depend on.
fn row(kind: &Kind) -> String {
    let parts = (
        &kind.kind,
        &kind.plural,
        kind.namespaced,
        kind.verbs,
        &kind.subresources,
    );
    format!("{parts:?}")
}

#[cfg(test)]
mod tests;
