//! Parses the generated table into its in-memory form.
//!
//! One line per definition, `T name form kind… [U=unions] [untyped]`, where form is `-`, `atomic`, `granular`, `any`,
//! `empty` or `scalar` and a kind is `group/version/kind`; then one line per field, `F name type flags attribute…`.
//! Types: `s` string, `b` bytes, `t` bool, `i` int32, `l` int64, `d` double, `q` Quantity, `x` IntOrString, `T` Time,
//! `M` MicroTime, `@n` the n-th definition, `[` list of, `{` map of, `*` an untyped object. Flags: `r` required,
//! `p` pointer, `o` omitempty, `z` omitzero, `d` zero default. Attributes: `D=` default, `L=` list type and keys,
//! `M=` map type, `S=` patch strategy, `K=` merge key, `N=` protobuf number, `V=` inlined from, `G=` Go type.
//! The text stays in memory: every name is a slice of it. The table is compiled in, so a malformed one is a bug.

use std::io::Read;

use super::{
    Definition, DefinitionForm, DefinitionKind, Field, List, ListId, ListType, Map, MapId, MapType,
    OMIT_EMPTY, OMIT_ZERO, POINTER, REQUIRED, Schema, Type, TypeId, ZERO_DEFAULT,
};

/// Inflates and parses the compiled-in table.
pub(super) fn load(compressed: &[u8]) -> Schema {
    let mut text = String::new();
    flate2::read::GzDecoder::new(compressed)
        .read_to_string(&mut text)
        .expect("the compiled-in schema table inflates");
    Builder::default().parse(Box::leak(text.into_boxed_str()))
}

#[derive(Default)]
struct Builder {
    definitions: Vec<Definition>,
    fields: Vec<Field>,
    lists: Vec<List>,
    maps: Vec<Map>,
    kinds: Vec<(DefinitionKind, TypeId)>,
    /// Index of the definition that stands for an untyped object.
    raw: u32,
}

impl Builder {
    fn parse(mut self, text: &'static str) -> Schema {
        const RAW: &str = "T io.k8s.apimachinery.pkg.runtime.RawExtension ";
        self.raw = text
            .lines()
            .filter(|line| line.starts_with("T "))
            .position(|line| line.starts_with(RAW))
            .expect("the schema table has RawExtension") as u32;
        for line in text.lines() {
            let mut words = line.split(' ');
            match words.next() {
                Some("T") => self.definition(words),
                Some("F") => {
                    let field = self.field(words);
                    self.fields.push(field);
                }
                _ => unreachable!("the schema table has only T and F lines"),
            }
        }
        self.close();
        let key = |kind: &DefinitionKind| (kind.kind, kind.group, kind.version);
        self.kinds.sort_by(|(a, _), (b, _)| key(a).cmp(&key(b)));
        let mut schema = Schema {
            definitions: self.definitions.into(),
            lists: self.lists.into(),
            maps: self.maps.into(),
            kinds: self.kinds.into(),
        };
        mark_defaults(&mut schema);
        schema
    }

    /// Gives the fields read so far to the last definition.
    fn close(&mut self) {
        if let Some(last) = self.definitions.last_mut() {
            last.fields = std::mem::take(&mut self.fields).into();
            let always = last
                .fields
                .iter()
                .enumerate()
                .filter(|(_, f)| always_encoded(f));
            last.always_encoded = always.map(|(index, _)| index as u16).collect();
        }
    }

    fn definition(&mut self, mut words: std::str::Split<'static, char>) {
        self.close();
        let id = TypeId(self.definitions.len() as u32);
        let name = words.next().expect("a definition has a name");
        let form = words.next().expect("a definition has a form");
        let mut definition = Definition {
            name,
            form: match form {
                "any" => DefinitionForm::Any,
                "scalar" => DefinitionForm::Scalar,
                _ => DefinitionForm::Struct,
            },
            map_type: map_type(form),
            untyped: false,
            kinds: Box::default(),
            unions: None,
            fields: Box::default(),
            always_encoded: Box::default(),
            defaults_below: false,
        };
        let mut kinds = Vec::new();
        for word in words {
            if word == "untyped" {
                definition.untyped = true;
            } else if let Some(unions) = word.strip_prefix("U=") {
                definition.unions = Some(unions);
            } else {
                let mut parts = word.split('/');
                let mut part = || parts.next().expect("a kind is group/version/kind");
                let kind = DefinitionKind {
                    group: part(),
                    version: part(),
                    kind: part(),
                };
                self.kinds.push((kind, id));
                kinds.push(kind);
            }
        }
        definition.kinds = kinds.into();
        self.definitions.push(definition);
    }

    fn field(&mut self, mut words: std::str::Split<'static, char>) -> Field {
        let name = words.next().expect("a field has a name");
        let code = words.next().expect("a field has a type");
        let flags = words.next().expect("a field has flags");
        let ty = self.ty(code);
        let mut field = Field {
            name,
            ty,
            flags: flags.bytes().fold(0, |all, flag| all | flag_bit(flag)),
            number: 0,
            map_type: None,
            default: None,
            patch_strategy: None,
            patch_merge_key: None,
            inlined: None,
            go_type: None,
        };
        for word in words {
            let (key, value) = word.split_once('=').expect("an attribute is KEY=value");
            match key {
                "D" => {
                    field.default = Some(Box::new(
                        serde_json::from_str(value).expect("a default is JSON"),
                    ))
                }
                "L" => self.list_type(ty, value),
                "M" => field.map_type = map_type(value),
                "S" => field.patch_strategy = Some(value),
                "K" => field.patch_merge_key = Some(value),
                "N" => field.number = value.parse().expect("a field number is a number"),
                "V" => field.inlined = Some(value),
                "G" => field.go_type = Some(value),
                _ => unreachable!("the schema table has no attribute {key}"),
            }
        }
        field
    }

    fn ty(&mut self, code: &str) -> Type {
        let rest = code.get(1..).unwrap_or_default();
        match code.as_bytes().first() {
            Some(b's') => Type::String,
            Some(b'b') => Type::Bytes,
            Some(b't') => Type::Bool,
            Some(b'i') => Type::Int32,
            Some(b'l') => Type::Int64,
            Some(b'd') => Type::Double,
            Some(b'q') => Type::Quantity,
            Some(b'x') => Type::IntOrString,
            Some(b'T') => Type::Time,
            Some(b'M') => Type::MicroTime,
            Some(b'*') => Type::Struct(TypeId(self.raw)),
            Some(b'@') => Type::Struct(TypeId(
                rest.parse().expect("a definition's index is a number"),
            )),
            Some(b'[') => {
                let item = self.ty(rest);
                self.lists.push(List {
                    item,
                    list_type: None,
                    keys: Box::default(),
                });
                Type::List(ListId(self.lists.len() as u32 - 1))
            }
            Some(b'{') => {
                let value = self.ty(rest);
                self.maps.push(Map { value });
                Type::Map(MapId(self.maps.len() as u32 - 1))
            }
            _ => unreachable!("the schema table has no type {code}"),
        }
    }

    fn list_type(&mut self, ty: Type, text: &'static str) {
        // Upstream declares a list type on a few fields that are no lists, where it means nothing.
        let Type::List(ListId(index)) = ty else {
            return;
        };
        let list = &mut self.lists[index as usize];
        let (name, keys) = text.split_once(':').unwrap_or((text, ""));
        list.keys = keys.split(',').filter(|key| !key.is_empty()).collect();
        list.list_type = Some(match name {
            "atomic" => ListType::Atomic,
            "set" => ListType::Set,
            "map" => ListType::Map,
            _ => unreachable!("the schema table has no list type {name}"),
        });
    }
}

/// Marks every definition from which a declared default can be reached; types refer to each other in circles.
fn mark_defaults(schema: &mut Schema) {
    let mut changed = true;
    while changed {
        changed = false;
        for index in 0..schema.definitions.len() {
            let definition = &schema.definitions[index];
            let reached = |field: &Field| {
                let element = schema.element_definition(field.ty);
                field.default.is_some()
                    || element.is_some_and(|id| schema.definition(id).defaults_below)
            };
            if !definition.defaults_below && definition.fields.iter().any(reached) {
                schema.definitions[index].defaults_below = true;
                changed = true;
            }
        }
    }
}

fn map_type(text: &str) -> Option<MapType> {
    match text {
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        _ => None,
    }
}

fn flag_bit(flag: u8) -> u8 {
    match flag {
        b'r' => REQUIRED,
        b'p' => POINTER,
        b'o' => OMIT_EMPTY,
        b'z' => OMIT_ZERO,
        b'd' => ZERO_DEFAULT,
        _ => 0,
    }
}

/// Whether Go's encoder writes the field's zero value. For a struct `omitempty` has no effect; other types that Go
/// would write as `null` or through a codec of their own count as absent.
fn always_encoded(field: &Field) -> bool {
    if field.pointer() || field.omit_zero() {
        return false;
    }
    match field.ty {
        Type::Struct(_) => field.zero_default(),
        Type::String | Type::Bool | Type::Int32 | Type::Int64 | Type::Double => {
            field.zero_default() && !field.omit_empty()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_kinds_and_walks_to_fields() {
        let schema = Schema::global();
        let deployment = schema
            .kind("apps", "v1", "Deployment")
            .expect("apps/v1 Deployment");
        assert_eq!(schema.definition(deployment).go_name(), "v1.Deployment");
        assert!(schema.kind("apps", "v1", "Pod").is_none());
        assert!(schema.kind("batch", "v1", "DeleteOptions").is_some());
        let path = ["spec", "template", "spec", "containers"];
        let Some(Type::List(containers)) = schema.walk(deployment, &path) else {
            panic!("containers is a list")
        };
        let containers = schema.list(containers);
        assert_eq!(
            (containers.list_type, &*containers.keys),
            (Some(ListType::Map), &["name"][..])
        );
        let container = schema
            .element_definition(containers.item)
            .expect("a struct");
        let ports = schema.definition(container).field("ports").expect("ports");
        assert_eq!(ports.patch_merge_key, Some("containerPort"));
        assert!(ports.has_patch_strategy("merge") && !ports.required());
    }

    #[test]
    fn fields_are_sorted_and_definitions_too() {
        let schema = Schema::global();
        assert!(schema.definitions.is_sorted_by(|a, b| a.name < b.name));
        for (_, definition) in schema.definitions() {
            assert!(
                definition.fields.is_sorted_by(|a, b| a.name < b.name),
                "{}",
                definition.name
            );
        }
    }
}
