//! Which objects a list or watch is about: selectors bound to a kind, matched against cached bytes.

use api_machinery::{FieldRef, FieldSelector, Kind, LabelLookup, LabelSelector, Status};

use crate::cache::{CachedObject, Interest};

impl LabelLookup for CachedObject {
    fn label(&self, key: &str) -> Option<&str> {
        CachedObject::label(self, key)
    }
}

/// Both selectors of a request.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    labels: LabelSelector,
    fields: Vec<Term>,
}

#[derive(Clone, Debug)]
struct Term {
    place: Place,
    equal: bool,
    value: String,
}

#[derive(Clone, Debug)]
enum Place {
    Name,
    Namespace,
    Field {
        label: String,
        paths: Vec<String>,
        absent: String,
    },
}

impl Selection {
    /// # Errors
    /// 400 for what cannot be understood, or for fields that the kind cannot be filtered by.
    pub fn new(kind: &Kind, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = match labels {
            "" => LabelSelector::everything(),
            text => LabelSelector::parse(text).map_err(|e| Status::bad_request(e.0))?,
        };
        let parsed = FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.0))?;
        let bind = |term: &api_machinery::FieldTerm| {
            let place = match kind
                .selectable_field(&term.label)
                .map_err(Status::bad_request)?
            {
                FieldRef::Name => Place::Name,
                FieldRef::Namespace => Place::Namespace,
                FieldRef::Field(field) => Place::Field {
                    label: field.label.to_string(),
                    paths: field.paths.iter().map(ToString::to_string).collect(),
                    absent: field.absent.to_string(),
                },
            };
            Ok(Term {
                place,
                equal: term.equal,
                value: term.value.clone(),
            })
        };
        let fields = parsed
            .terms()
            .iter()
            .map(bind)
            .collect::<Result<_, Status>>()?;
        Ok(Self { labels, fields })
    }

    /// Leaves of the selected objects the one of this name.
    pub fn require_name(&mut self, name: &str) {
        self.fields.push(Term {
            place: Place::Name,
            equal: true,
            value: name.to_owned(),
        });
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    pub fn matches(&self, object: &CachedObject) -> bool {
        self.fields.iter().all(|term| term.matches(object)) && self.labels.matches(object)
    }

    /// The one name that objects must have, if the selection says so.
    pub fn name(&self) -> Option<&str> {
        self.required(|place| matches!(place, Place::Name))
    }

    fn required(&self, is: impl Fn(&Place) -> bool) -> Option<&str> {
        self.fields
            .iter()
            .find(|t| t.equal && is(&t.place))
            .map(|t| t.value.as_str())
    }

    /// What a watcher with this selection needs to be told of. `prefix` is its namespace with a slash, or empty.
    pub fn interest(&self, namespaced: bool, prefix: &str) -> Interest {
        let node = |p: &Place| matches!(p, Place::Field { label, .. } if label == "spec.nodeName");
        match (self.name(), self.required(node)) {
            (_, Some(node)) if !node.is_empty() => Interest::Node(node.into()),
            (Some(name), _) if !namespaced || !prefix.is_empty() => {
                Interest::Object(format!("{prefix}{name}").into())
            }
            _ => match prefix.strip_suffix('/') {
                Some(namespace) => Interest::Namespace(namespace.into()),
                None => Interest::All,
            },
        }
    }
}

impl Term {
    fn matches(&self, object: &CachedObject) -> bool {
        let holds = match &self.place {
            Place::Name => object.name() == self.value,
            Place::Namespace => object.namespace() == self.value,
            Place::Field { paths, absent, .. } => {
                let set = paths
                    .iter()
                    .find_map(|path| object.field(path).filter(|v| !v.is_empty()));
                set.as_deref().unwrap_or(absent) == self.value
            }
        };
        holds == self.equal
    }
}
