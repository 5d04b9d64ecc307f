//! JSON from the network: parsing that notices duplicate fields, and syntax errors in Go's words.
//!
//! It is here because clients compare the API's messages, and because a duplicate is lost once the value is built.
//! It knows no schema.

mod syntax;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// A parsed document.
#[derive(Debug)]
pub struct ParsedJson {
    pub value: Value,
    /// Paths of fields that occur more than once (`spec.containers[0].image`); the last one counts.
    pub duplicates: Vec<String>,
}

/// The document is no JSON; the text is what Go's parser says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SyntaxError(pub String);

/// Parses a JSON document. Bytes that are no UTF-8 become replacement characters, as in Go.
pub fn parse_json(bytes: &[u8]) -> Result<ParsedJson, SyntaxError> {
    match parse_strictly(bytes) {
        Ok(parsed) => Ok(parsed),
        Err(_) if std::str::from_utf8(bytes).is_err() => {
            let text = String::from_utf8_lossy(bytes);
            parse_strictly(text.as_bytes()).map_err(|error| explain(text.as_bytes(), &error))
        }
        Err(error) => Err(explain(bytes, &error)),
    }
}

fn explain(bytes: &[u8], error: &serde_json::Error) -> SyntaxError {
    SyntaxError(syntax::explain(bytes).unwrap_or_else(|| {
        // Only the depth limit and lone surrogates are refused here and not by Go.
        if error.to_string().starts_with("recursion limit") {
            "exceeded max depth".to_owned()
        } else {
            error.to_string()
        }
    }))
}

fn parse_strictly(bytes: &[u8]) -> Result<ParsedJson, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Builder(&mut duplicates).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(ParsedJson { value, duplicates })
}

/// Builds a value and collects duplicates. Paths are put together only on the way out of a subtree that has some.
struct Builder<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Builder<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Builder<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let before = self.0.len();
            let Some(item) = access.next_element_seed(Builder(self.0))? else {
                return Ok(Value::Array(items));
            };
            for path in &mut self.0[before..] {
                prefix(path, &format!("[{}]", items.len()));
            }
            items.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let before = self.0.len();
            let value = access.next_value_seed(Builder(self.0))?;
            for path in &mut self.0[before..] {
                prefix(path, &key);
            }
            match map.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(value);
                }
                Entry::Occupied(mut known) => {
                    if !self.0.contains(known.key()) {
                        self.0.push(known.key().clone());
                    }
                    known.insert(value);
                }
            }
        }
        Ok(Value::Object(map))
    }
}

/// Puts a field name or an index in front of a path.
pub(super) fn prefix(path: &mut String, parent: &str) {
    if !path.starts_with('[') {
        path.insert(0, '.');
    }
    path.insert_str(0, parent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_duplicates() {
        for (text, expect) in [
            (r#"{"a":1,"b":{"a":2}}"#, vec![]),
            (
                r#"{"spec":{"replicas":1,"replicas":2}}"#,
                vec!["spec.replicas"],
            ),
            (
                r#"{"a":[{},{"b":1,"b":2,"b":3}],"a":1}"#,
                vec!["a[1].b", "a"],
            ),
        ] {
            assert_eq!(
                parse_json(text.as_bytes()).expect("valid").duplicates,
                expect,
                "{text}"
            );
        }
        let last = parse_json(br#"{"a":1,"a":2}"#).expect("valid").value;
        assert_eq!(last, serde_json::json!({"a": 2}));
    }

    #[test]
    fn deep_nesting_is_refused_and_bad_utf8_replaced() {
        let deep = "[".repeat(5000);
        assert!(parse_json(deep.as_bytes()).is_err());
        let nested = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let error = parse_json(nested.as_bytes()).expect_err("too deep");
        assert_eq!(error.to_string(), "exceeded max depth");
        let parsed = parse_json(b"\"a\xffb\"").expect("replaced");
        assert_eq!(parsed.value, "a\u{fffd}b");
    }
}
