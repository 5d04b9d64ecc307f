//! The path to a field, for error messages: `spec.containers[0].image`, `metadata.labels[app]`.
//!
//! A path is a chain of borrowed steps, so that validation allocates nothing until something is wrong.

use std::fmt;

/// A step below a parent, or a root. Printed only when an error is made.
#[derive(Debug, Clone, Copy)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// A path that begins with `name`; the empty name is the object itself, below which names come without a dot.
    pub const fn root(name: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: None,
            step: Step::Name(name),
        }
    }

    /// The field `name` of this one; `name` may hold dots.
    pub const fn child(&'a self, name: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Name(name),
        }
    }

    /// The element at `index` of this list.
    pub const fn index(&'a self, index: usize) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    /// The entry `key` of this map.
    pub const fn key(&'a self, key: &'a str) -> FieldPath<'a> {
        FieldPath {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Name(name) => {
                let below_root_object = self
                    .parent
                    .is_some_and(|p| p.parent.is_none() && matches!(p.step, Step::Name("")));
                if self.parent.is_some() && !below_root_object {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_upstream() {
        let spec = FieldPath::root("spec");
        let list = spec.child("containers");
        let first = list.index(0);
        assert_eq!(first.child("image").to_string(), "spec.containers[0].image");
        let labels = FieldPath::root("metadata.labels");
        assert_eq!(labels.key("app").to_string(), "metadata.labels[app]");
        let object = FieldPath::root("");
        assert_eq!(object.child("spec").child("x").to_string(), "spec.x");
    }
}
