//! Schemas of types as OpenAPI has them, from the schema table.
//!
//! It is here once for both dialects: v2 and v3 differ in how they refer and in what they may say beside a reference.

use serde_json::{Map, Value, json};

use super::descriptions::{DefinitionText, Descriptions};
use crate::schema::{Definition, DefinitionForm, Field, ListType, MapType, Schema, Type, TypeId};

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Time";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

/// The version of OpenAPI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    V2,
    V3,
}

/// Writes definitions of one document.
pub(super) struct Writer<'a> {
    schema: &'a Schema,
    dialect: Dialect,
    /// Shared definitions (DeleteOptions) name the kinds of this group and version and of the core group only.
    group_version: Option<(&'a str, &'a str)>,
    descriptions: Descriptions,
}

/// The definition that a type refers to, if it does.
pub(super) fn reference(schema: &Schema, ty: Type) -> Option<TypeId> {
    match ty {
        Type::Struct(id) => Some(id),
        Type::Quantity => schema.named(QUANTITY),
        Type::IntOrString => schema.named(INT_OR_STRING),
        Type::Time => schema.named(TIME),
        Type::MicroTime => schema.named(MICRO_TIME),
        Type::List(id) => reference(schema, schema.list(id).item),
        Type::Map(id) => reference(schema, schema.map(id).value),
        _ => None,
    }
}

/// A reference to a definition.
pub(super) fn pointer(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::V2 => format!("#/definitions/{name}"),
        Dialect::V3 => format!("#/components/schemas/{name}"),
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        schema: &'a Schema,
        dialect: Dialect,
        group_version: Option<(&'a str, &'a str)>,
    ) -> Writer<'a> {
        Writer {
            schema,
            dialect,
            group_version,
            descriptions: Descriptions::load(),
        }
    }

    /// The schema of a definition.
    pub(super) fn definition(&self, id: TypeId) -> Value {
        let definition = self.schema.definition(id);
        let text = self.text(definition);
        let mut out = Map::new();
        if let Some(own) = text.own.clone() {
            out.insert("description".into(), own.into());
        }
        match definition.form {
            DefinitionForm::Scalar => self.scalar(definition, &mut out),
            _ if definition.untyped => {}
            _ => {
                out.insert("type".into(), "object".into());
            }
        }
        if !definition.fields.is_empty() {
            let properties = definition.fields.iter().map(|field| {
                let property = self.property(field, text.fields.get(field.name));
                (field.name.to_owned(), Value::Object(property))
            });
            out.insert("properties".into(), Value::Object(properties.collect()));
        }
        let required: Vec<&str> = definition
            .fields
            .iter()
            .filter(|f| f.required())
            .map(|f| f.name)
            .collect();
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
        self.extensions(definition, &mut out);
        Value::Object(out)
    }

    fn extensions(&self, definition: &Definition, out: &mut Map<String, Value>) {
        let kinds: Vec<Value> = definition
            .kinds
            .iter()
            .filter(|kind| {
                let here = |(group, version)| kind.group == group && kind.version == version;
                definition.kinds.len() == 1
                    || kind.group.is_empty()
                    || self.group_version.is_none_or(here)
            })
            .map(|kind| json!({"group": kind.group, "kind": kind.kind, "version": kind.version}))
            .collect();
        if !kinds.is_empty() {
            out.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
        if let Some(map_type) = definition.map_type {
            out.insert(
                "x-kubernetes-map-type".into(),
                map_type_name(map_type).into(),
            );
        }
        if let Some(unions) = definition.unions {
            let unions: Value =
                serde_json::from_str(unions).expect("unions in the schema table are JSON");
            out.insert("x-kubernetes-unions".into(), unions);
        }
    }

    fn scalar(&self, definition: &Definition, out: &mut Map<String, Value>) {
        let shape = match (definition.name, self.dialect) {
            (QUANTITY, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            (INT_OR_STRING, Dialect::V3) => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            (INT_OR_STRING, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
            (TIME | MICRO_TIME, _) => json!({"type": "string", "format": "date-time"}),
            _ => json!({"type": "string"}),
        };
        if let Value::Object(shape) = shape {
            out.extend(shape);
        }
    }

    fn property(&self, field: &Field, description: Option<&String>) -> Map<String, Value> {
        let mut out = self.ty(field.ty);
        let mut beside = Map::new();
        if let Some(description) = description {
            beside.insert("description".into(), description.clone().into());
        }
        if self.dialect == Dialect::V3
            && let Some(default) = default_of(field)
        {
            beside.insert("default".into(), default);
        }
        if let Type::List(id) = field.ty {
            let list = self.schema.list(id);
            if !list.keys.is_empty() {
                beside.insert(
                    "x-kubernetes-list-map-keys".into(),
                    list.keys.to_vec().into(),
                );
            }
            if let Some(list_type) = list.list_type {
                beside.insert(
                    "x-kubernetes-list-type".into(),
                    list_type_name(list_type).into(),
                );
            }
        }
        if let Some(map_type) = field.map_type {
            beside.insert(
                "x-kubernetes-map-type".into(),
                map_type_name(map_type).into(),
            );
        }
        if let Some(key) = field.patch_merge_key {
            beside.insert("x-kubernetes-patch-merge-key".into(), key.into());
        }
        if let Some(strategy) = field.patch_strategy {
            beside.insert("x-kubernetes-patch-strategy".into(), strategy.into());
        }
        // In v3 nothing may stand beside a reference, so it is wrapped where something does.
        if self.dialect == Dialect::V3
            && !beside.is_empty()
            && let Some(target) = out.shift_remove("$ref")
        {
            out.insert("allOf".into(), json!([{"$ref": target}]));
        }
        out.extend(beside);
        out
    }

    fn ty(&self, ty: Type) -> Map<String, Value> {
        let plain = |ty: &str| json!({"type": ty});
        let formatted = |ty: &str, format: &str| json!({"type": ty, "format": format});
        let shape = match ty {
            Type::String => plain("string"),
            Type::Bool => plain("boolean"),
            Type::Bytes => formatted("string", "byte"),
            Type::Int32 => formatted("integer", "int32"),
            Type::Int64 => formatted("integer", "int64"),
            Type::Double => formatted("number", "double"),
            Type::List(id) => json!({"type": "array", "items": self.ty(self.schema.list(id).item)}),
            Type::Map(id) => {
                json!({"type": "object", "additionalProperties": self.ty(self.schema.map(id).value)})
            }
            Type::Quantity => self.refer(QUANTITY),
            Type::IntOrString => self.refer(INT_OR_STRING),
            Type::Time => self.refer(TIME),
            Type::MicroTime => self.refer(MICRO_TIME),
            Type::Struct(id) => self.refer(self.schema.definition(id).name),
        };
        match shape {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn refer(&self, name: &str) -> Value {
        json!({"$ref": pointer(self.dialect, name)})
    }

    /// The sentences of a definition. The crate has none for lists: those are the same for every kind.
    fn text(&self, definition: &Definition) -> DefinitionText {
        let mut text = self.descriptions.definition(definition.name);
        let list_of = definition.short_name().strip_suffix("List");
        if let (None, Some(kind)) = (&text.own, list_of) {
            text.own = Some(format!("A list of {kind} objects."));
            for (field, sentence) in [
                (
                    "apiVersion",
                    "The group and version of this representation.",
                ),
                ("kind", "The kind of this object; in CamelCase."),
                (
                    "metadata",
                    "The list's metadata: its resourceVersion and how to continue it.",
                ),
                ("items", "The objects of the list."),
            ] {
                text.fields.insert(field.to_owned(), sentence.to_owned());
            }
        }
        text
    }
}

fn default_of(field: &Field) -> Option<Value> {
    if let Some(default) = &field.default {
        return Some(Value::clone(default));
    }
    field.zero_default().then(|| match field.ty {
        Type::String => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Double => 0.into(),
        _ => json!({}),
    })
}

fn list_type_name(list_type: ListType) -> &'static str {
    match list_type {
        ListType::Atomic => "atomic",
        ListType::Set => "set",
        ListType::Map => "map",
    }
}

fn map_type_name(map_type: MapType) -> &'static str {
    match map_type {
        MapType::Atomic => "atomic",
        MapType::Granular => "granular",
    }
}
