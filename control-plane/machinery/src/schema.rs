//! The schema of every built-in type as one compact table: fields, JSON types, defaults, list types, merge keys.
//!
//! It is here so that decoding, defaulting, strategic merge, structured merge, OpenAPI and codecs all walk the same
//! data instead of code per kind. It knows types only: no kinds' rules, no requests, no storage.

mod base64;
mod decode;
mod default;
mod json;
mod table;
mod time;
mod zero;

use std::sync::OnceLock;

use serde_json::Value;

pub use decode::{DecodeError, Form, StrictError, decode, strict_decoding_message};
pub use default::apply_defaults;
pub use json::{ParsedJson, SyntaxError, parse_json};
pub use time::{TimeError, parse_time};

/// The generated table (`scripts/generate-schema.py`), inflated on first use.
static TABLE: &[u8] = include_bytes!("../data/schema.txt.gz");

/// Names a definition (a struct type) of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// Names a list shape: element type, list type and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListId(pub(crate) u32);

/// Names a map shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MapId(pub(crate) u32);

/// The type of a value as the API's Go types define it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Quantity,
    IntOrString,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    Struct(TypeId),
    List(ListId),
    /// Map from string.
    Map(MapId),
}

/// How a list merges in server-side apply (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// A list: what it holds and how it merges.
#[derive(Debug)]
pub struct List {
    pub item: Type,
    /// What the published schema declares; absent means atomic.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-list-map-keys`, empty but for [`ListType::Map`].
    pub keys: Box<[&'static str]>,
}

/// A map from string.
#[derive(Debug)]
pub struct Map {
    pub value: Type,
}

/// What a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionForm {
    /// An object with the listed fields.
    Struct,
    /// Any JSON value, kept as it is (RawExtension, FieldsV1, JSON).
    Any,
    /// Published under this name, but every use is a scalar [`Type`] (Quantity, Time).
    Scalar,
}

/// Whether a map or struct is merged field by field or as a whole (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    Granular,
    Atomic,
}

/// A group, version and kind under which a definition is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DefinitionKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

/// One definition.
#[derive(Debug)]
pub struct Definition {
    /// As published in OpenAPI: `io.k8s.api.apps.v1.Deployment`.
    pub name: &'static str,
    pub form: DefinitionForm,
    /// Declared on the definition itself, if at all.
    pub map_type: Option<MapType>,
    /// Whether OpenAPI publishes it without a `type`.
    pub untyped: bool,
    pub kinds: Box<[DefinitionKind]>,
    /// `x-kubernetes-unions` as JSON text.
    pub unions: Option<&'static str>,
    /// Sorted by name.
    pub fields: Box<[Field]>,
    /// Fields that Go's encoder writes even when they are zero: indices into `fields`.
    pub(crate) always_encoded: Box<[u16]>,
    /// Whether it or anything in it declares a default.
    pub(crate) defaults_below: bool,
}

/// One field of a definition.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub ty: Type,
    pub(crate) flags: u8,
    /// Protobuf field number in its Go struct; 0 where it has none.
    pub number: u16,
    /// Declared on the field, overrides that of its type.
    pub map_type: Option<MapType>,
    /// A default that is no zero value.
    pub default: Option<Box<Value>>,
    /// `x-kubernetes-patch-strategy`.
    pub patch_strategy: Option<&'static str>,
    /// `x-kubernetes-patch-merge-key`.
    pub patch_merge_key: Option<&'static str>,
    /// Go structs that this field is inlined from, outermost first, as `Name:protobuf-number`, comma-separated.
    pub inlined: Option<&'static str>,
    /// Go's spelling of the type, where it does not follow from `ty`.
    pub go_type: Option<&'static str>,
}

pub(crate) const REQUIRED: u8 = 1;
pub(crate) const POINTER: u8 = 2;
pub(crate) const OMIT_EMPTY: u8 = 4;
pub(crate) const OMIT_ZERO: u8 = 8;
pub(crate) const ZERO_DEFAULT: u8 = 16;

impl Field {
    /// Whether the published schema lists the field as required.
    pub fn required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// Whether absent and zero are different things (a Go pointer).
    pub fn pointer(&self) -> bool {
        self.flags & POINTER != 0
    }

    /// Whether Go's encoder leaves the field out when it is empty.
    pub fn omit_empty(&self) -> bool {
        self.flags & OMIT_EMPTY != 0
    }

    /// Whether Go's encoder leaves the field out when it is the zero value.
    pub fn omit_zero(&self) -> bool {
        self.flags & OMIT_ZERO != 0
    }

    /// Whether OpenAPI publishes the type's zero value as default.
    pub fn zero_default(&self) -> bool {
        self.flags & ZERO_DEFAULT != 0
    }

    /// Whether the strategic merge patch strategy contains `strategy` (`merge`, `replace`, `retainKeys`).
    pub fn has_patch_strategy(&self, strategy: &str) -> bool {
        self.patch_strategy
            .is_some_and(|all| all.split(',').any(|one| one == strategy))
    }
}

impl Definition {
    /// The field of that exact name; names are case-sensitive as in upstream's decoder.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|field| field.name.cmp(name))
            .ok()
            .map(|index| &self.fields[index])
    }

    /// The type's name without package: `Deployment`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The name as Go prints the type: `v1.Deployment`.
    pub fn go_name(&self) -> &'static str {
        let short = self.short_name().len();
        let package = self.name[..self.name.len() - short - 1]
            .rfind('.')
            .map_or(0, |dot| dot + 1);
        &self.name[package..]
    }
}

/// The whole table.
#[derive(Debug)]
pub struct Schema {
    definitions: Box<[Definition]>,
    lists: Box<[List]>,
    maps: Box<[Map]>,
    /// Sorted; a kind may be served by several groups (DeleteOptions).
    kinds: Box<[(DefinitionKind, TypeId)]>,
}

impl Schema {
    /// The table of all built-in types of Kubernetes v1.36; parsed once, under a millisecond-scale first call.
    pub fn global() -> &'static Schema {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| table::load(TABLE))
    }

    /// A number that changes with the table: the checksum and length in the packed data's trailer.
    pub fn fingerprint() -> u64 {
        TABLE
            .last_chunk::<8>()
            .map_or(0, |tail| u64::from_le_bytes(*tail))
    }

    /// The definition that is served as this group (empty for core), version and kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<TypeId> {
        let key = |kind: &DefinitionKind| (kind.kind, kind.group, kind.version);
        self.kinds
            .binary_search_by(|(known, _)| key(known).cmp(&(kind, group, version)))
            .ok()
            .map(|index| self.kinds[index].1)
    }

    /// The definition of that published name.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.definitions
            .binary_search_by(|definition| definition.name.cmp(name))
            .ok()
            .map(|index| TypeId(index as u32))
    }

    pub fn definition(&self, id: TypeId) -> &Definition {
        &self.definitions[id.0 as usize]
    }

    pub fn list(&self, id: ListId) -> &List {
        &self.lists[id.0 as usize]
    }

    pub fn map(&self, id: MapId) -> &Map {
        &self.maps[id.0 as usize]
    }

    /// Every definition, sorted by name.
    pub fn definitions(&self) -> impl Iterator<Item = (TypeId, &Definition)> {
        self.definitions
            .iter()
            .enumerate()
            .map(|(index, definition)| (TypeId(index as u32), definition))
    }

    /// The type at a path of field names from `root`; lists and maps are stepped through without an element
    /// (`["spec", "containers", "image"]`).
    pub fn walk(&self, root: TypeId, path: &[&str]) -> Option<Type> {
        let mut ty = Type::Struct(root);
        for name in path {
            while let Type::List(list) = ty {
                ty = self.list(list).item;
            }
            ty = match ty {
                Type::Struct(id) => self.definition(id).field(name)?.ty,
                Type::Map(map) => self.map(map).value,
                _ => return None,
            };
        }
        Some(ty)
    }

    /// The definition under a type, through lists and maps.
    pub fn element_definition(&self, mut ty: Type) -> Option<TypeId> {
        loop {
            ty = match ty {
                Type::Struct(id) => return Some(id),
                Type::List(id) => self.list(id).item,
                Type::Map(id) => self.map(id).value,
                _ => return None,
            };
        }
    }
}
