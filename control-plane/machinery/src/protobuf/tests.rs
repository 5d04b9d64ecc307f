//! Golden objects of Kubernetes 1.36 in both forms, where they are at hand, and garbage.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Files that hold no object of the API proper.
const SKIPPED: [&str; 3] = [
    "admission.k8s.io",
    "imagepolicy.k8s.io",
    "apidiscovery.k8s.io",
];

#[test]
fn golden_objects_are_the_same_in_both_forms() {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests");
    let root = PathBuf::from(manifest).join("../../../shared/kubernetes/wire");
    let Ok(folder) = std::fs::read_dir(root) else {
        return;
    };
    let (mut seen, mut wrong) = (0, Vec::new());
    for file in folder {
        let path = file.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.extension().is_none_or(|e| e != "pb") || SKIPPED.iter().any(|s| name.starts_with(s))
        {
            continue;
        }
        let json =
            std::fs::read(path.with_extension("json")).expect("every object is there as JSON");
        let expected: Value = serde_json::from_slice(&json).expect("golden files are JSON");
        match decode_protobuf(
            Schema::global(),
            &std::fs::read(&path).expect("a file"),
            ("", ""),
        ) {
            Ok(value) if value == expected => seen += 1,
            // Versions that are not served are not in the table.
            Err(ProtobufError::Kind { .. }) => {}
            Ok(value) => wrong.push(format!(
                "{name}: {}",
                first_difference("", &value, &expected)
            )),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(seen >= 100, "only {seen} objects were compared");
}

fn first_difference(path: &str, actual: &Value, expected: &Value) -> String {
    match (actual, expected) {
        (Value::Object(a), Value::Object(e)) => {
            for key in a.keys().chain(e.keys()) {
                let (a, e) = (
                    a.get(key).unwrap_or(&Value::Null),
                    e.get(key).unwrap_or(&Value::Null),
                );
                if a != e {
                    return first_difference(&format!("{path}.{key}"), a, e);
                }
            }
            format!("{path}: null or absent")
        }
        (Value::Array(a), Value::Array(e)) if a.len() == e.len() => {
            let place = a
                .iter()
                .zip(e)
                .position(|(a, e)| a != e)
                .expect("they differ");
            first_difference(&format!("{path}[{place}]"), &a[place], &e[place])
        }
        _ => format!("{path}: {actual} is not {expected}"),
    }
}

#[test]
fn empty_fields_are_left_out() {
    // {metadata: {name: "n", generateName: "", namespace: ""}, spec: {}, status: {phase: ""}} of a Namespace.
    let meta = [&[0x0a, 1, b'n', 0x12, 0, 0x1a, 0][..]].concat();
    let object = [
        &[0x0a, meta.len() as u8][..],
        &meta,
        &[0x12, 0, 0x1a, 2, 0x0a, 0],
    ]
    .concat();
    let head = [0x0a, 15, 0x0a, 2, b'v', b'1', 0x12, 9];
    let bytes = [
        &PROTOBUF_MAGIC[..],
        &head,
        b"Namespace",
        &[0x12, object.len() as u8],
        &object,
    ]
    .concat();
    assert_eq!(
        decode_protobuf(Schema::global(), &bytes, ("", "")),
        Ok(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}, "spec": {}, "status": {}})
        )
    );
}

#[test]
fn garbage_is_refused() {
    let decode = |bytes: &[u8]| decode_protobuf(Schema::global(), bytes, ("v1", "Pod"));
    assert_eq!(decode(b"{}"), Err(ProtobufError::Prefix));
    assert_eq!(decode(b"k8s\0\x12\x05ab"), Err(ProtobufError::Truncated));
    assert_eq!(decode(b"k8s\0\x00"), Err(ProtobufError::Tag));
    let unknown = decode_protobuf(Schema::global(), b"k8s\0", ("v1", "Nothing"));
    assert_eq!(
        unknown.expect_err("no such kind").to_string(),
        r#"no kind "Nothing" is registered for version "v1""#
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let framed = [&PROTOBUF_MAGIC[..], &[0x12, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8], &bytes].concat();
        let _ = decode_protobuf(Schema::global(), &framed, ("v1", "Pod"));
    }
}
