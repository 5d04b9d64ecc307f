//! From a message to a JSON object, along the schema table.
//!
//! Go writes fields that are no pointers even when they are empty; its JSON leaves those out, and so does this.

use serde_json::{Map, Value};

use super::ProtobufError;
use super::reader::{Reader, Wire};
use super::scalar;
use crate::schema::{Definition, DefinitionForm, Field, Schema, Type, TypeId};

/// Messages within messages; schemas of custom resources nest, everything else stays far below.
const MAX_DEPTH: usize = 100;

/// Reads the fields of a message into `out`.
pub(super) fn read(
    schema: &Schema,
    id: TypeId,
    bytes: &[u8],
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    Walk { schema, depth: 0 }.fields(schema.definition(id), &mut Vec::new(), bytes, out)
}

struct Walk<'s> {
    schema: &'s Schema,
    depth: usize,
}

impl<'s> Walk<'s> {
    /// `place` holds the field numbers of the structs that this message is inlined from: in JSON their fields are the
    /// outer struct's own, in protobuf they are messages.
    fn fields(
        &self,
        definition: &'s Definition,
        place: &mut Vec<u64>,
        bytes: &[u8],
        out: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match find(definition, place, number) {
                Found::Field(field) => self.field(definition, field, wire, out)?,
                Found::Inlined => {
                    let Wire::Bytes(inner) = wire else { continue };
                    place.push(number);
                    self.fields(definition, place, inner, out)?;
                    place.pop();
                }
                // A field of a later version.
                Found::Nothing => {}
            }
        }
        Ok(())
    }

    fn field(
        &self,
        definition: &'s Definition,
        field: &'s Field,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
    ) -> Result<(), ProtobufError> {
        let at = Place {
            message: definition.name,
            field: field.name,
        };
        match field.ty {
            Type::List(list) => {
                let item = self.schema.list(list).item;
                let slot = out
                    .entry(field.name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                let values = slot.as_array_mut().expect("lists are made as lists");
                self.items(item, wire, at, values)
            }
            Type::Map(map) => {
                let Wire::Bytes(entry) = wire else {
                    return Err(at.mismatch());
                };
                let (key, value) = self.entry(self.schema.map(map).value, entry, at)?;
                let slot = out
                    .entry(field.name)
                    .or_insert_with(|| Value::Object(Map::new()));
                slot.as_object_mut()
                    .expect("maps are made as maps")
                    .insert(key, value);
                Ok(())
            }
            ty => {
                let Some(value) = self.value(ty, wire, at)? else {
                    return Ok(());
                };
                if field.pointer()
                    || !is_empty(&value)
                    || !(field.omit_empty() || field.omit_zero())
                {
                    out.insert(field.name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    fn items(
        &self,
        item: Type,
        wire: Wire<'_>,
        at: Place,
        values: &mut Vec<Value>,
    ) -> Result<(), ProtobufError> {
        // Numbers may come packed.
        if let (Type::Int32 | Type::Int64 | Type::Bool, Wire::Bytes(packed)) = (item, wire) {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                let number = Wire::Varint(reader.varint()?);
                values.extend(self.value(item, number, at)?);
            }
            return Ok(());
        }
        values.push(self.value(item, wire, at)?.unwrap_or(Value::Null));
        Ok(())
    }

    fn entry(&self, ty: Type, bytes: &[u8], at: Place) -> Result<(String, Value), ProtobufError> {
        let mut key = String::new();
        let mut value = None;
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (number, wire) {
                (1, Wire::Bytes(text)) => key = at.text(text)?,
                (2, Wire::Bytes(wrapped)) if matches!(ty, Type::List(_)) => {
                    value = Some(self.wrapped_list(ty, wrapped, at)?);
                }
                (2, wire) => value = self.value(ty, wire, at)?,
                _ => {}
            }
        }
        let empty = || match ty {
            Type::String | Type::Bytes => "".into(),
            Type::Quantity => "0".into(),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Time | Type::MicroTime => Value::Null,
            _ => Value::Object(Map::new()),
        };
        Ok((key, value.unwrap_or_else(empty)))
    }

    /// A list that is a map's value is a message of its own, with the items under number 1.
    fn wrapped_list(&self, ty: Type, bytes: &[u8], at: Place) -> Result<Value, ProtobufError> {
        let Type::List(list) = ty else {
            return Err(at.mismatch());
        };
        let item = self.schema.list(list).item;
        let mut values = Vec::new();
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            if number == 1 {
                self.items(item, wire, at, &mut values)?;
            }
        }
        Ok(Value::Array(values))
    }

    fn value(&self, ty: Type, wire: Wire<'_>, at: Place) -> Result<Option<Value>, ProtobufError> {
        let Type::Struct(id) = ty else {
            return scalar::read(ty, wire, at);
        };
        let Wire::Bytes(bytes) = wire else {
            return Err(at.mismatch());
        };
        if self.depth == MAX_DEPTH {
            return Err(ProtobufError::Depth);
        }
        let deeper = Walk {
            schema: self.schema,
            depth: self.depth + 1,
        };
        let definition = self.schema.definition(id);
        if definition.form == DefinitionForm::Any {
            return deeper.any(definition, bytes, at);
        }
        let mut object = Map::new();
        deeper.fields(definition, &mut Vec::new(), bytes, &mut object)?;
        Ok(Some(Value::Object(object)))
    }

    /// Types whose JSON is free: raw JSON bytes, or one of two forms.
    fn any(
        &self,
        definition: &Definition,
        bytes: &[u8],
        at: Place,
    ) -> Result<Option<Value>, ProtobufError> {
        let form = definition.short_name();
        let props = || {
            let package = &definition.name[..definition.name.len() - form.len()];
            let id = self.schema.named(&format!("{package}JSONSchemaProps"));
            Type::Struct(id.expect("the union of schemas lies beside the schema"))
        };
        let (mut result, mut list) = (None, Vec::new());
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.next()? {
            match (form, number, wire) {
                ("JSONSchemaPropsOrBool", 1, Wire::Varint(allows)) => {
                    result.get_or_insert(Value::Bool(allows != 0));
                }
                ("JSONSchemaPropsOrBool", 2, wire)
                | ("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray", 1, wire) => {
                    result = self.value(props(), wire, at)?;
                }
                ("JSONSchemaPropsOrArray", 2, wire) => {
                    list.extend(self.value(props(), wire, at)?)
                }
                ("JSONSchemaPropsOrStringArray", 2, Wire::Bytes(text)) => {
                    list.push(at.text(text)?.into())
                }
                ("RawExtension" | "FieldsV1" | "JSON", 1, Wire::Bytes(raw)) => {
                    let parsed = serde_json::from_slice(raw)
                        .map_err(|error| at.problem(error.to_string()))?;
                    result = Some(parsed);
                }
                _ => {}
            }
        }
        Ok(if list.is_empty() {
            result
        } else {
            Some(Value::Array(list))
        })
    }
}

/// Where an error happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    message: &'static str,
    field: &'static str,
}

impl Place {
    pub(super) fn mismatch(self) -> ProtobufError {
        ProtobufError::Mismatch {
            message: self.message,
            field: self.field,
        }
    }

    pub(super) fn problem(self, problem: String) -> ProtobufError {
        ProtobufError::Value {
            message: self.message,
            field: self.field,
            problem,
        }
    }

    pub(super) fn text(self, bytes: &[u8]) -> Result<String, ProtobufError> {
        let text =
            std::str::from_utf8(bytes).map_err(|_| self.problem("invalid UTF-8".to_owned()))?;
        Ok(text.to_owned())
    }
}

enum Found<'d> {
    Field(&'d Field),
    /// A struct whose fields are the outer one's in JSON.
    Inlined,
    Nothing,
}

fn find<'d>(definition: &'d Definition, place: &[u64], number: u64) -> Found<'d> {
    let mut result = Found::Nothing;
    for field in &definition.fields {
        let mut path = inlined_path(field);
        if !place.iter().all(|step| path.next() == Some(*step)) {
            continue;
        }
        match path.next() {
            None if u64::from(field.number) == number => return Found::Field(field),
            Some(step) if step == number => result = Found::Inlined,
            _ => {}
        }
    }
    result
}

/// The numbers of the structs that a field is inlined from. Number 0 is a struct that protobuf leaves out.
fn inlined_path(field: &Field) -> impl Iterator<Item = u64> {
    let steps = field.inlined.into_iter().flat_map(|path| path.split(','));
    steps.filter_map(|step| step.rsplit_once(':')?.1.parse().ok())
}

/// What Go's JSON leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}
