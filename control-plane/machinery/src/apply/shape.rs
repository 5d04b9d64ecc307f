//! How values merge: what the schema says of a place in an object, in the terms of structured merge.

use serde_json::Value;

use super::path::{PathElement, Scalar};
use crate::schema::{DefinitionForm, Field, ListId, ListType, MapType, Schema, Type};

/// A place in an object. Without a type the structure follows the value: maps by entry, lists as a whole.
#[derive(Clone, Copy)]
pub(super) struct Node {
    ty: Option<Type>,
    map_type: Option<MapType>,
    /// For lists that declare no list type: whether the patch strategy makes them associative, and by which key.
    merge_key: Option<Option<&'static str>>,
}

/// The structure of a place, given the value there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar,
    List { atomic: bool },
    Map { atomic: bool },
}

const UNTYPED: Node = Node {
    ty: None,
    map_type: None,
    merge_key: None,
};

impl Node {
    pub(super) fn new(ty: Type) -> Node {
        Node {
            ty: Some(ty),
            ..UNTYPED
        }
    }

    fn field(field: &Field) -> Node {
        Node {
            ty: Some(field.ty),
            map_type: field.map_type,
            merge_key: field
                .has_patch_strategy("merge")
                .then_some(field.patch_merge_key),
        }
    }

    /// The structure at this place. A value of another kind than the schema's does not change it.
    pub(super) fn shape(self, schema: &Schema, value: &Value) -> Shape {
        match self.ty {
            Some(Type::Struct(id)) => {
                let definition = schema.definition(id);
                match definition.form {
                    DefinitionForm::Struct => {
                        let map_type = self.map_type.or(definition.map_type);
                        Shape::Map {
                            atomic: map_type == Some(MapType::Atomic),
                        }
                    }
                    _ => deduce(value),
                }
            }
            Some(Type::Map(_)) => Shape::Map {
                atomic: self.map_type == Some(MapType::Atomic),
            },
            Some(Type::List(id)) => Shape::List {
                atomic: match schema.list(id).list_type {
                    Some(list_type) => list_type == ListType::Atomic,
                    None => self.merge_key.is_none(),
                },
            },
            Some(_) => Shape::Scalar,
            None => deduce(value),
        }
    }

    /// Whether a struct here has a field of that name.
    pub(super) fn declares(self, schema: &Schema, name: &str) -> bool {
        matches!(self.ty, Some(Type::Struct(id)) if schema.definition(id).field(name).is_some())
    }

    /// Whether entries of any name are allowed here.
    pub(super) fn open(self, schema: &Schema) -> bool {
        match self.ty {
            Some(Type::Struct(id)) => schema.definition(id).form != DefinitionForm::Struct,
            _ => true,
        }
    }

    pub(super) fn entry(self, schema: &Schema, name: &str) -> Node {
        match self.ty {
            Some(Type::Struct(id)) => schema
                .definition(id)
                .field(name)
                .map_or(UNTYPED, Node::field),
            Some(Type::Map(id)) => Node::new(schema.map(id).value),
            _ => UNTYPED,
        }
    }

    pub(super) fn item(self, schema: &Schema) -> Node {
        match self.ty {
            Some(Type::List(id)) => Node::new(schema.list(id).item),
            _ => UNTYPED,
        }
    }

    pub(super) fn child(self, schema: &Schema, element: &PathElement) -> Node {
        match element {
            PathElement::Field(name) => self.entry(schema, name),
            _ => self.item(schema),
        }
    }

    /// The scalar's name in messages, if a scalar is what belongs here; the empty text for any scalar.
    pub(super) fn scalar(self) -> Option<&'static str> {
        match self.ty? {
            Type::Int32 | Type::Int64 | Type::Double => Some("numeric"),
            Type::Bool => Some("boolean"),
            Type::String | Type::Bytes | Type::Time | Type::MicroTime => Some("string"),
            Type::Quantity | Type::IntOrString => Some(""),
            _ => None,
        }
    }

    /// How an item of an associative list is named.
    pub(super) fn element(self, schema: &Schema, item: &Value) -> Result<PathElement, String> {
        let Some(Type::List(id)) = self.ty else {
            return Err("invalid indexing of non-associative list".to_owned());
        };
        let declared = &schema.list(id).keys;
        let merge_key = self.merge_key.flatten();
        match (declared.is_empty(), &merge_key) {
            (false, _) => self.keyed(schema, id, declared, item),
            (true, Some(key)) if schema.list(id).list_type.is_none() => {
                self.keyed(schema, id, std::slice::from_ref(key), item)
            }
            _ => set_member(item),
        }
    }

    fn keyed(
        self,
        schema: &Schema,
        id: ListId,
        keys: &[&'static str],
        item: &Value,
    ) -> Result<PathElement, String> {
        let map = match item {
            Value::Object(map) => map,
            Value::Null => {
                return Err("associative list with keys may not have a null element".to_owned());
            }
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let definition = match schema.list(id).item {
            Type::Struct(id) => Some(schema.definition(id)),
            _ => None,
        };
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let default = || definition?.field(key)?.known_default();
            if let Some(value) = map
                .get(*key)
                .and_then(Scalar::new)
                .or_else(|| Scalar::new(&default()?))
            {
                found.push(((*key).to_owned(), value));
            }
        }
        if found.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] \
                 (and doesn't have default values for any key fields)",
                keys.join(" ")
            ));
        }
        found.sort();
        Ok(PathElement::Key(found))
    }
}

fn set_member(item: &Value) -> Result<PathElement, String> {
    match item {
        Value::Object(_) => {
            Err("associative list without keys has an element that's a map type".to_owned())
        }
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => {
            Err("associative list without keys has an element that's an explicit null".to_owned())
        }
        scalar => Ok(PathElement::Value(
            Scalar::new(scalar).expect("what is left is a scalar"),
        )),
    }
}

fn deduce(value: &Value) -> Shape {
    match value {
        Value::Array(_) => Shape::List { atomic: true },
        Value::Object(_) => Shape::Map { atomic: false },
        _ => Shape::Scalar,
    }
}

impl Field {
    /// The published default, zero values included: it takes the place of an absent key of a list item.
    fn known_default(&self) -> Option<Value> {
        if let Some(default) = &self.default {
            return Some(Value::clone(default));
        }
        self.zero_default().then(|| match self.ty {
            Type::String => Value::String(String::new()),
            Type::Bool => Value::Bool(false),
            _ => Value::from(0),
        })
    }
}
