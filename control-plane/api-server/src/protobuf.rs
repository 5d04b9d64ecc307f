//! Protobuf in: the objects that typed clients (`kubectl create`, kubelets) send, decoded by the schema table.
//!
//! The wire form is Kubernetes' own: `k8s\0`, then an `Unknown` message with the type and the object's bytes. Answers to such
//! clients are JSON, which they accept besides.

use api_machinery::{
    Definition, DefinitionForm, Field, Schema, Status, Timestamp, Type, TypeId, format_micro_time,
    format_time,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may lie in each other.
const DEPTH_LIMIT: usize = 64;

/// Why bytes are no such object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProtobufError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    NoMagic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: wrong wireType = {0}")]
    WireType(u64),
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("proto: nested too deeply")]
    TooDeep,
    #[error("{0}")]
    Json(String),
}

impl From<ProtobufError> for Status {
    fn from(error: ProtobufError) -> Self {
        Status::bad_request(format!("error decoding the body as protobuf: {error}"))
    }
}

/// Decodes an object with its envelope. `api_version` and `kind` stand in where it does not name its own.
pub(crate) fn decode(body: &[u8], api_version: &str, kind: &str) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut raw, mut own_version, mut own_kind) = (&[][..], String::new(), String::new());
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(meta)) => {
                for field in Fields(meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => own_version = lossy(text),
                        (2, Wire::Bytes(text)) => own_kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    if own_version.is_empty() {
        own_version = api_version.to_owned();
    }
    if own_kind.is_empty() {
        own_kind = kind.to_owned();
    }
    let (group, version) = own_version.rsplit_once('/').unwrap_or(("", &own_version));
    let schema = Schema::global();
    let Some(id) = schema.kind(group, version, &own_kind) else {
        return Err(ProtobufError::UnknownKind {
            api_version: own_version,
            kind: own_kind,
        });
    };
    let mut object = Map::new();
    object.insert("apiVersion".into(), own_version.into());
    object.insert("kind".into(), own_kind.into());
    Decoder { schema }.message(schema.definition(id), &[], raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

enum Wire<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Truncated)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self
            .0
            .split_at_checked(len)
            .ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), ProtobufError> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed(
                self.take(8)?
                    .iter()
                    .rev()
                    .fold(0, |n, b| n << 8 | u64::from(*b)),
            ),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(len)?)
            }
            5 => Wire::Fixed(
                self.take(4)?
                    .iter()
                    .rev()
                    .fold(0, |n, b| n << 8 | u64::from(*b)),
            ),
            other => return Err(ProtobufError::WireType(other)),
        };
        Ok((tag >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The numbers of the messages that a field is inlined from, outermost first.
fn inlined(field: &Field) -> impl Iterator<Item = u64> + Clone {
    let text = field.inlined.unwrap_or_default();
    text.split(',')
        .filter_map(|part| part.split_once(':')?.1.parse().ok())
}

struct Decoder {
    schema: &'static Schema,
}

impl Decoder {
    /// `within` names the inlined messages that were entered on the way here.
    fn message(
        &self,
        definition: &Definition,
        within: &[u64],
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > DEPTH_LIMIT {
            return Err(ProtobufError::TooDeep);
        }
        for field in Fields(bytes) {
            let (number, wire) = field?;
            let direct = definition
                .fields
                .iter()
                .find(|f| u64::from(f.number) == number && inlined(f).eq(within.iter().copied()));
            if let Some(field) = direct {
                self.field(field, wire, out, depth)?;
                continue;
            }
            let mut inner = within.to_vec();
            inner.push(number);
            let is_inlined = definition
                .fields
                .iter()
                .any(|f| inlined(f).take(inner.len()).eq(inner.iter().copied()));
            if let (true, Wire::Bytes(bytes)) = (is_inlined, wire) {
                self.message(definition, &inner, bytes, out, depth + 1)?;
            }
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        match field.ty {
            Type::List(id) => {
                let item = self.schema.list(id).item;
                let slot = out
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(items) = slot else {
                    return Ok(());
                };
                match wire {
                    Wire::Bytes(bytes)
                        if matches!(item, Type::Int32 | Type::Int64 | Type::Bool) =>
                    {
                        let mut packed = Fields(bytes);
                        while !packed.0.is_empty() {
                            items.push(self.value(item, Wire::Varint(packed.varint()?), depth)?);
                        }
                    }
                    wire => items.push(self.value(item, wire, depth)?),
                }
            }
            Type::Map(id) => {
                let Wire::Bytes(entry) = wire else {
                    return Ok(());
                };
                let (mut key, mut value) = (String::new(), Value::Null);
                let ty = self.schema.map(id).value;
                for part in Fields(entry) {
                    match part? {
                        (1, Wire::Bytes(text)) => key = lossy(text),
                        (2, wire) => value = self.value(ty, wire, depth)?,
                        _ => {}
                    }
                }
                let slot = out
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = slot {
                    map.insert(key, value);
                }
            }
            ty => {
                let value = self.value(ty, wire, depth)?;
                out.insert(field.name.to_owned(), value);
            }
        }
        Ok(())
    }

    fn value(&self, ty: Type, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
        Ok(match (ty, wire) {
            (Type::Bool, Wire::Varint(n)) => Value::Bool(n != 0),
            (Type::Int32 | Type::Int64, Wire::Varint(n)) => Value::from(n.cast_signed()),
            (Type::Double, Wire::Fixed(bits)) => Value::from(f64::from_bits(bits)),
            (Type::String, Wire::Bytes(text)) => Value::String(lossy(text)),
            (Type::Bytes, Wire::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
            (Type::Quantity, Wire::Bytes(bytes)) => Value::String(lossy(first_bytes(bytes, 1)?)),
            (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => time(ty, bytes)?,
            (Type::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
            (Type::Struct(id), Wire::Bytes(bytes)) => self.structure(id, bytes, depth)?,
            // A list that is the value of a map is a message of its own.
            (Type::List(id), Wire::Bytes(bytes)) => {
                let item = self.schema.list(id).item;
                let items = Fields(bytes).map(|field| self.value(item, field?.1, depth));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            (_, Wire::Varint(_)) => return Err(ProtobufError::WireType(0)),
            (_, Wire::Fixed(_)) => return Err(ProtobufError::WireType(1)),
            (_, Wire::Bytes(_)) => return Err(ProtobufError::WireType(2)),
        })
    }

    fn structure(&self, id: TypeId, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
        let definition = self.schema.definition(id);
        if definition.form == DefinitionForm::Any {
            // Raw JSON under the first number: RawExtension, FieldsV1, JSON.
            return match first_bytes(bytes, 1)? {
                [] => Ok(Value::Null),
                raw => serde_json::from_slice(raw).map_err(|e| ProtobufError::Json(e.to_string())),
            };
        }
        let mut out = Map::new();
        self.message(definition, &[], bytes, &mut out, depth + 1)?;
        Ok(Value::Object(out))
    }
}

fn first_bytes(message: &[u8], number: u64) -> Result<&[u8], ProtobufError> {
    for field in Fields(message) {
        if let (n, Wire::Bytes(bytes)) = field?
            && n == number
        {
            return Ok(bytes);
        }
    }
    Ok(&[])
}

fn varints(message: &[u8]) -> Result<[u64; 3], ProtobufError> {
    let mut values = [0; 3];
    for field in Fields(message) {
        if let (n @ 1..=3, Wire::Varint(value)) = field? {
            values[n as usize - 1] = value;
        }
    }
    Ok(values)
}

/// Zero is no time at all.
fn time(ty: Type, message: &[u8]) -> Result<Value, ProtobufError> {
    let [seconds, nanos, _] = varints(message)?;
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos.cast_signed()).unwrap_or(0);
    let Ok(at) = Timestamp::new(seconds.cast_signed(), nanos) else {
        return Err(ProtobufError::Json("a time that is out of range".into()));
    };
    Ok(Value::String(if ty == Type::MicroTime {
        format_micro_time(at)
    } else {
        format_time(at)
    }))
}

fn int_or_string(message: &[u8]) -> Result<Value, ProtobufError> {
    let [is_string, number, _] = varints(message)?;
    Ok(match is_string {
        0 => Value::from(number.cast_signed()),
        _ => Value::String(lossy(first_bytes(message, 3)?)),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use api_machinery::{Form, decode as complete};
    use proptest::prelude::*;

    use super::*;

    /// Upstream's objects in each form, where they are at hand.
    const GOLDEN: &str = "../../../shared/kubernetes/wire";
    /// Not served, or no objects of the API proper.
    const SKIPPED: [&str; 4] = [
        "admission.k8s.io",
        "imagepolicy.k8s.io",
        "apidiscovery.k8s.io",
        "beta",
    ];

    #[test]
    fn golden_objects_are_what_their_json_says() {
        let Ok(folder) = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN))
        else {
            return;
        };
        let schema = Schema::global();
        let (mut seen, mut wrong) = (0, Vec::new());
        for path in folder
            .map(|e| e.expect("entry").path())
            .filter(|p| p.extension().is_some_and(|e| e == "pb"))
        {
            let name = path
                .file_stem()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            let expected = std::fs::read(path.with_extension("json")).expect("json");
            let mut expected: Value = serde_json::from_slice(&expected).expect("json");
            let (api_version, kind) = (expected["apiVersion"].as_str(), expected["kind"].as_str());
            let (api_version, kind) = (
                api_version.expect("version").to_owned(),
                kind.expect("kind").to_owned(),
            );
            let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
            let Some(id) = schema.kind(group, version, &kind) else {
                continue;
            };
            if SKIPPED.iter().any(|s| name.contains(s)) {
                continue;
            }
            seen += 1;
            let mut got = decode(&std::fs::read(&path).expect("pb"), "", "").expect(&name);
            complete(schema, id, &mut got, Form::Complete).expect(&name);
            complete(schema, id, &mut expected, Form::Complete).expect(&name);
            if got != expected {
                wrong.push(name);
            }
        }
        assert!(seen > 50, "only {seen} golden objects were found");
        assert!(
            wrong.is_empty(),
            "{} of {seen} differ: {wrong:?}",
            wrong.len()
        );
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut body = MAGIC.to_vec();
            body.extend_from_slice(&bytes);
            let _ = decode(&body, "v1", "Pod");
            body.truncate(4);
            body.extend([0x12, bytes.len() as u8]);
            body.extend(&bytes);
            let _ = decode(&body, "v1", "Pod");
        }
    }
}
