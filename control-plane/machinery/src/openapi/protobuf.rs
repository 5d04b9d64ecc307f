//! The gnostic `openapi.v2` messages, written straight from the JSON form of the v2 document.
//!
//! Only what the document has is encoded; field numbers are those of gnostic's public `OpenAPIv2.proto`.

use serde_json::{Map, Value};

/// Writes one message.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u64, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.bytes(field, text.as_bytes());
        }
    }

    fn texts(&mut self, field: u64, value: Option<&Value>) {
        for item in value.and_then(Value::as_array).into_iter().flatten() {
            self.text(field, Some(item));
        }
    }

    fn flag(&mut self, field: u64, value: Option<&Value>) {
        if value == Some(&Value::Bool(true)) {
            self.varint(field << 3);
            self.varint(1);
        }
    }

    fn message(&mut self, field: u64, message: Message) {
        self.bytes(field, &message.0);
    }

    /// A `Named…` message: name and value.
    fn named(&mut self, field: u64, name: &str, value: Message) {
        let mut named = Message::default();
        named.bytes(1, name.as_bytes());
        named.message(2, value);
        self.message(field, named);
    }

    /// Extensions as `NamedAny`, whose values are YAML; JSON is YAML too.
    fn extensions(&mut self, field: u64, map: &Map<String, Value>) {
        for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
            let mut any = Message::default();
            any.bytes(2, format!("{value}\n").as_bytes());
            self.named(field, name, any);
        }
    }
}

/// A message that holds one other.
fn wrap(field: u64, inner: Message) -> Message {
    let mut out = Message::default();
    out.message(field, inner);
    out
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// The document under construction.
pub(super) struct Document {
    info: Message,
    paths: Message,
    definitions: Message,
}

impl Document {
    pub(super) fn new(title: &str, version: &str) -> Document {
        let mut info = Message::default();
        info.bytes(1, title.as_bytes());
        info.bytes(2, version.as_bytes());
        Document {
            info,
            paths: Message::default(),
            definitions: Message::default(),
        }
    }

    pub(super) fn path(&mut self, path: &str, item: &Value) {
        self.paths.named(2, path, path_item(item));
    }

    pub(super) fn definition(&mut self, name: &str, value: &Value) {
        self.definitions.named(1, name, schema(value));
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Message::default();
        out.bytes(1, b"2.0");
        out.message(2, self.info);
        out.message(8, self.paths);
        out.message(9, self.definitions);
        out.0
    }
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    let Some(map) = value.as_object() else {
        return out;
    };
    out.text(1, map.get("$ref"));
    out.text(2, map.get("format"));
    out.text(4, map.get("description"));
    out.texts(19, map.get("required"));
    if let Some(inner) = map.get("additionalProperties") {
        out.message(21, wrap(1, schema(inner)));
    }
    if let Some(ty) = map.get("type") {
        let mut item = Message::default();
        item.text(1, Some(ty));
        out.message(22, item);
    }
    if let Some(inner) = map.get("items") {
        out.message(23, wrap(1, schema(inner)));
    }
    if map.contains_key("properties") {
        let mut properties = Message::default();
        for (name, value) in entries(map.get("properties")) {
            properties.named(1, name, schema(value));
        }
        out.message(25, properties);
    }
    out.extensions(31, map);
    out
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, field) in [
        ("get", 2),
        ("put", 3),
        ("post", 4),
        ("delete", 5),
        ("options", 6),
        ("head", 7),
        ("patch", 8),
    ] {
        if let Some(Value::Object(value)) = item.get(method) {
            out.message(field, operation(value));
        }
    }
    for value in item
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(9, parameter(value));
    }
    out
}

fn operation(map: &Map<String, Value>) -> Message {
    let mut out = Message::default();
    out.texts(1, map.get("tags"));
    out.text(3, map.get("description"));
    out.text(5, map.get("operationId"));
    out.texts(6, map.get("produces"));
    out.texts(7, map.get("consumes"));
    for value in map
        .get("parameters")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.message(8, parameter(value));
    }
    let mut responses = Message::default();
    for (code, value) in entries(map.get("responses")) {
        let mut response = Message::default();
        response.text(1, value.get("description"));
        if let Some(inner) = value.get("schema") {
            response.message(2, wrap(1, schema(inner)));
        }
        responses.named(1, code, wrap(1, response));
    }
    out.message(9, responses);
    out.texts(10, map.get("schemes"));
    out.extensions(13, map);
    out
}

fn parameter(value: &Value) -> Message {
    let mut out = Message::default();
    let place = value["in"].as_str().unwrap_or_default();
    if place == "body" {
        out.text(2, value.get("name"));
        out.text(3, value.get("in"));
        out.flag(4, value.get("required"));
        out.message(5, schema(&value["schema"]));
        return wrap(1, wrap(1, out));
    }
    let (number, ty, unique) = if place == "path" {
        (4, 5, 19)
    } else {
        (3, 6, 20)
    };
    out.flag(1, value.get("required"));
    out.text(2, value.get("in"));
    out.text(3, value.get("description"));
    out.text(4, value.get("name"));
    out.text(ty, value.get("type"));
    out.flag(unique, value.get("uniqueItems"));
    wrap(1, wrap(2, wrap(number, out)))
}
