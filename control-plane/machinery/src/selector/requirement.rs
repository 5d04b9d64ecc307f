//! One requirement of a label selector: a key, an operator, values.

use std::fmt;

use serde_json::Value;

use super::{LabelLookup, SelectorError};
use crate::names::{label_value_errors, qualified_name_errors};
use crate::status::{FieldError, FieldPath, aggregate_message};

/// How a requirement relates its key and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A requirement whose key, values and their number were checked.
    ///
    /// # Errors
    /// All violations, in one of upstream's aggregate messages.
    pub fn new(
        key: String,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Requirement, SelectorError> {
        let mut errors = Vec::new();
        let wrong = qualified_name_errors(&key);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(
                &FieldPath::root("key"),
                key.as_str(),
                wrong.join("; "),
            ));
        }
        let path = FieldPath::root("values");
        let list = || Value::from(values.clone());
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                errors.push(FieldError::invalid(
                    &path,
                    list(),
                    "for 'in', 'notin' operators, values set can't be empty",
                ));
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                errors.push(FieldError::invalid(
                    &path,
                    list(),
                    "exact-match compatibility requires one single value",
                ));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                let detail = "values set must be empty for exists and does not exist";
                errors.push(FieldError::invalid(&path, list(), detail));
            }
            Operator::GreaterThan | Operator::LessThan => {
                check_numbers(&path, &values, &mut errors)
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let wrong = label_value_errors(value);
            if !wrong.is_empty() {
                let element = path.index(i);
                errors.push(FieldError::invalid(
                    &element.key(&key),
                    value.as_str(),
                    wrong.join("; "),
                ));
            }
        }
        if errors.is_empty() {
            return Ok(Requirement {
                key,
                operator,
                values,
            });
        }
        Err(SelectorError(aggregate_message(&errors)))
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn operator(&self) -> Operator {
        self.operator
    }

    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether labels fulfil this. Negative operators are fulfilled where the key is absent.
    pub fn matches(&self, labels: &(impl LabelLookup + ?Sized)) -> bool {
        let label = labels.label(&self.key);
        let contained = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => {
                label.is_some_and(contained)
            }
            Operator::NotIn | Operator::NotEquals => !label.is_some_and(contained),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::GreaterThan => self.compares(label, |a, b| a > b),
            Operator::LessThan => self.compares(label, |a, b| a < b),
        }
    }

    fn compares(&self, label: Option<&str>, compare: impl Fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        match (
            label.and_then(number),
            self.values.first().and_then(|v| number(v)),
        ) {
            (Some(label), Some(bound)) => compare(label, bound),
            _ => false,
        }
    }
}

fn check_numbers(path: &FieldPath<'_>, values: &[String], errors: &mut Vec<FieldError>) {
    if values.len() != 1 {
        let detail = "for 'Gt', 'Lt' operators, exactly one value is required";
        errors.push(FieldError::invalid(
            path,
            Value::from(values.to_vec()),
            detail,
        ));
    }
    for (i, value) in values.iter().enumerate() {
        if value.parse::<i64>().is_err() {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            errors.push(FieldError::invalid(&path.index(i), value.as_str(), detail));
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator {
            Operator::Exists => f.write_str(&self.key),
            Operator::DoesNotExist => write!(f, "!{}", self.key),
            Operator::Equals => write!(f, "{}={values}", self.key),
            Operator::DoubleEquals => write!(f, "{}=={values}", self.key),
            Operator::NotEquals => write!(f, "{}!={values}", self.key),
            Operator::In => write!(f, "{} in ({values})", self.key),
            Operator::NotIn => write!(f, "{} notin ({values})", self.key),
            Operator::GreaterThan => write!(f, "{}>{values}", self.key),
            Operator::LessThan => write!(f, "{}<{values}", self.key),
        }
    }
}
