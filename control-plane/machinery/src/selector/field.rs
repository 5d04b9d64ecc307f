//! Field selectors: `spec.nodeName=n1,status.phase!=Running`.
//!
//! Which fields may be named, and where they lie in an object, is in the kind's row.

use std::borrow::Cow;

use serde_json::Value;

use super::SelectorError;
use crate::kind::{FieldRef, Kind, SelectableField};
use crate::meta::ObjectExt;

/// One condition on a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub label: String,
    /// `true` for `=` and `==`, `false` for `!=`.
    pub equal: bool,
    pub value: String,
}

/// A conjunction of terms. The empty one selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// From a query string.
    ///
    /// # Errors
    /// Upstream's sentence about what cannot be understood.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((label, equal, value)) = split_term(part) else {
                return Err(SelectorError(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                )));
            };
            terms.push(FieldTerm {
                label: label.to_owned(),
                equal,
                value: unescape(value)?,
            });
        }
        Ok(FieldSelector { terms })
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one value that `label` must have, if the selector says so: lists by name read a single object.
    pub fn required_value(&self, label: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.equal && term.label == label)
            .map(|term| term.value.as_str())
    }

    /// Binds the terms to a kind's fields.
    ///
    /// # Errors
    /// Upstream's sentence when the kind cannot be filtered by one of them.
    pub fn bind(&self, kind: &Kind) -> Result<FieldMatcher, SelectorError> {
        let terms = self.terms.iter().map(|term| {
            let place = match kind.selectable_field(&term.label).map_err(SelectorError)? {
                FieldRef::Name => Place::Name,
                FieldRef::Namespace => Place::Namespace,
                FieldRef::Field(field) => Place::Field(field.clone()),
            };
            Ok(BoundTerm {
                place,
                equal: term.equal,
                value: term.value.clone(),
            })
        });
        Ok(FieldMatcher {
            terms: terms.collect::<Result<_, _>>()?,
        })
    }
}

/// A field selector bound to one kind.
#[derive(Debug, Clone, Default)]
pub struct FieldMatcher {
    terms: Vec<BoundTerm>,
}

#[derive(Debug, Clone)]
struct BoundTerm {
    place: Place,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone)]
enum Place {
    Name,
    Namespace,
    Field(SelectableField),
}

impl FieldMatcher {
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object in its stored form is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let actual = match &term.place {
                Place::Name => Cow::Borrowed(object.name()),
                Place::Namespace => Cow::Borrowed(object.namespace()),
                Place::Field(field) => field.value(object),
            };
            (actual == term.value.as_str()) == term.equal
        })
    }
}

impl SelectableField {
    /// The field's value as text, as selectors compare it.
    pub fn value<'o>(&'o self, object: &'o Value) -> Cow<'o, str> {
        for path in &self.paths {
            let found = path
                .split('.')
                .try_fold(object, |value, step| value.get(step));
            match found {
                Some(Value::String(text)) if !text.is_empty() => return Cow::Borrowed(text),
                Some(Value::Bool(_) | Value::Number(_)) => {
                    return Cow::Owned(found.map(Value::to_string).unwrap_or_default());
                }
                _ => {}
            }
        }
        Cow::Borrowed(&self.absent)
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.sort_unstable();
    parts
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term
        .char_indices()
        .find(|(i, c)| *c == '=' || term[*i..].starts_with("!="))
        .map(|(i, _)| i)?;
    let (label, rest) = term.split_at(at);
    let (equal, length) = match rest {
        _ if rest.starts_with("!=") => (false, 2),
        _ if rest.starts_with("==") => (true, 2),
        _ => (true, 1),
    };
    Some((label, equal, &rest[length..]))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                let message = format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                );
                return Err(SelectorError(message));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::KindTable;

    #[test]
    fn terms_are_parsed() {
        let selector = FieldSelector::parse(r"b!=2,a=1\,x,c==").expect("valid");
        let terms: Vec<_> = selector
            .terms()
            .iter()
            .map(|t| (t.label.as_str(), t.equal, t.value.as_str()))
            .collect();
        assert_eq!(
            terms,
            [("a", true, "1,x"), ("b", false, "2"), ("c", true, "")]
        );
        assert_eq!(selector.required_value("a"), Some("1,x"));
        assert_eq!(
            FieldSelector::parse("abc").expect_err("no operator").0,
            "invalid selector: 'abc'; can't understand 'abc'"
        );
        assert!(FieldSelector::parse("a=b=c").is_err());
    }

    #[test]
    fn fields_are_matched() {
        let table = KindTable::builtin();
        let pod = json!({"metadata": {"name": "web", "namespace": "prod"}, "spec": {"nodeName": "n1"}, "status": {}});
        for (selector, expected) in [
            ("metadata.name=web,spec.nodeName=n1", true),
            ("metadata.namespace!=prod", false),
            ("spec.hostNetwork=false", true),
            ("status.phase=", true),
            ("status.phase=Running", false),
        ] {
            let row = table.kind("", "Pod").expect("Pod");
            let matcher = FieldSelector::parse(selector)
                .expect("valid")
                .bind(row)
                .expect("supported");
            assert_eq!(matcher.matches(&pod), expected, "{selector}");
        }
        let job = table.kind("batch", "Job").expect("Job");
        let matcher = FieldSelector::parse("status.successful=3")
            .expect("valid")
            .bind(job)
            .expect("supported");
        assert!(matcher.matches(&json!({"status": {"succeeded": 3}})));
    }
}
