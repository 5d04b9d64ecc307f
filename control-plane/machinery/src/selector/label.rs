//! Label selectors, from query strings and from `LabelSelector` objects.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::{Map, Value};

use super::{Operator, Requirement, SelectorError, label_parser};
use crate::status::go_quote;

/// Labels in any form that a value can be looked up in.
pub trait LabelLookup {
    /// The value of the label `key`.
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelLookup for Map<String, Value> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl LabelLookup for Value {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }
}

impl LabelLookup for BTreeMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl LabelLookup for HashMap<String, String> {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> LabelLookup for [(K, V)] {
    fn label(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(k, _)| k.as_ref() == key)
            .map(|(_, v)| v.as_ref())
    }
}

impl<T: LabelLookup + ?Sized> LabelLookup for Option<&T> {
    fn label(&self, key: &str) -> Option<&str> {
        (*self)?.label(key)
    }
}

/// A conjunction of requirements. The empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects every object.
    pub fn everything() -> LabelSelector {
        LabelSelector {
            requirements: Vec::new(),
            nothing: false,
        }
    }

    /// Selects no object.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// From a query string such as `app=web,tier in (a,b),!old`.
    ///
    /// # Errors
    /// Upstream's sentence about the first thing that is wrong.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        Ok(Self::of(label_parser::parse(text)?))
    }

    /// From a `LabelSelector` object (`matchLabels`, `matchExpressions`). `None` and null select nothing, `{}` everything.
    ///
    /// # Errors
    /// When an operator, a key or a value is malformed.
    pub fn from_object(selector: Option<&Value>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else {
            return Ok(Self::nothing());
        };
        let mut requirements = match selector.get("matchLabels").and_then(Value::as_object) {
            Some(labels) => equalities(labels)?,
            None => Vec::new(),
        };
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |field: &str| {
                expression
                    .get(field)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            };
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        go_quote(other)
                    )));
                }
            };
            let values = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let values = values
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect();
            requirements.push(Requirement::new(text("key").to_owned(), operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    /// From a plain map, as in Services and replication controllers. An absent or empty map selects nothing.
    ///
    /// # Errors
    /// When a key or a value is malformed.
    pub fn from_map(labels: Option<&Map<String, Value>>) -> Result<LabelSelector, SelectorError> {
        match labels {
            Some(labels) if !labels.is_empty() => Ok(Self::of(equalities(labels)?)),
            _ => Ok(Self::nothing()),
        }
    }

    fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key().cmp(b.key()));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether no object is selected.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The conditions, by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &(impl LabelLookup + ?Sized)) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

fn equalities(labels: &Map<String, Value>) -> Result<Vec<Requirement>, SelectorError> {
    labels
        .iter()
        .map(|(key, value)| {
            let value = value.as_str().unwrap_or_default().to_owned();
            Requirement::new(key.clone(), Operator::Equals, vec![value])
        })
        .collect()
}

/// The query string that means the same.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn matches(selector: &str, labels: Value) -> bool {
        LabelSelector::parse(selector)
            .expect(selector)
            .matches(&labels)
    }

    #[test]
    fn strings_match_as_upstream() {
        let labels = json!({"x": "foo", "y": "baz", "n": "5"});
        for (selector, expected) in [
            ("", true),
            ("x=foo", true),
            ("x==foo,y=baz", true),
            ("x=foo,y=abc", false),
            ("x!=foo", false),
            ("z!=foo", true),
            ("z notin (a)", true),
            ("x in (foo, bar)", true),
            ("x in (bar)", false),
            ("x notin (bar)", true),
            ("x", true),
            ("!x", false),
            ("!z", true),
            ("z", false),
            ("n>4", true),
            ("n > 5", false),
            ("n<6", true),
            ("x>1", false),
            ("x=", false),
            ("x in (,foo)", true),
        ] {
            assert_eq!(matches(selector, labels.clone()), expected, "{selector}");
        }
    }

    #[test]
    fn errors_are_upstreams() {
        for (selector, expected) in [
            ("x=a||y=b", None),
            (
                "x==a==b",
                Some("found '==', expected: ',' or 'end of string'"),
            ),
            (
                ",x",
                Some("found ',', expected: !, identifier, or 'end of string'"),
            ),
            ("x,", Some("found '', expected: identifier after ','")),
            (
                "x in a",
                Some("unable to parse requirement: found 'a' expected: '('"),
            ),
            (
                "x in (a",
                Some("unable to parse requirement: found '', expected: ',' or ')'"),
            ),
            (
                "x a",
                Some(
                    "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt",
                ),
            ),
            (
                "!",
                Some("unable to parse requirement: found '', expected: identifier"),
            ),
        ] {
            let error = LabelSelector::parse(selector).expect_err(selector);
            if let Some(expected) = expected {
                assert_eq!(error.0, expected, "{selector}");
            }
        }
        let error = LabelSelector::parse("a=b$").expect_err("bad value");
        assert!(error.0.starts_with(
            "unable to parse requirement: values[0][a]: Invalid value: \"b$\": a valid label"
        ));
        let error = LabelSelector::parse("a$=b").expect_err("bad key");
        assert!(error.0.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a$\": name part must"
        ));
    }

    #[test]
    fn objects_become_selectors() {
        let selector = json!({
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["z", "y"]}, {"key": "d", "operator": "Exists"}],
        });
        let selector = LabelSelector::from_object(Some(&selector)).expect("valid");
        assert_eq!(selector.to_string(), "a=2,b=1,c notin (y,z),d");
        assert!(
            LabelSelector::from_object(None)
                .expect("valid")
                .is_nothing()
        );
        assert!(
            LabelSelector::from_object(Some(&json!({})))
                .expect("valid")
                .is_everything()
        );
        let wrong = json!({"matchExpressions": [{"key": "c", "operator": "Near"}]});
        let error = LabelSelector::from_object(Some(&wrong)).expect_err("operator");
        assert_eq!(error.0, r#""Near" is not a valid label selector operator"#);
        assert!(
            LabelSelector::from_map(Some(&Map::new()))
                .expect("valid")
                .is_nothing()
        );
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "[ a-c!=(),<>i n0-9.$]{0,24}") {
            if let Ok(selector) = LabelSelector::parse(&text) {
                let again = LabelSelector::parse(&selector.to_string()).expect("canonical form");
                prop_assert_eq!(again.to_string(), selector.to_string());
            }
        }
    }
}
