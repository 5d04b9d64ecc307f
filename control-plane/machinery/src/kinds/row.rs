//! The words in which a row of the table is written: a kind with the usual traits, and what makes it different.

use std::borrow::Cow;

use crate::kind::{
    FieldSelectorErrors, Kind, STORAGE_ROOT, SelectableField, Subresource, Verb, Verbs,
};

/// A namespaced kind of version v1, stored at `/registry/PLURAL`, with every verb.
pub(super) fn namespaced(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    row(group, kind, plural, true)
}

/// A cluster-scoped kind, else as `namespaced`.
pub(super) fn cluster(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    row(group, kind, plural, false)
}

/// A kind that is asked and not stored: it can only be created.
pub(super) fn review(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    cluster(group, kind, plural).not_stored(Verbs::CREATE)
}

fn row(group: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> Kind {
    Kind {
        group: group.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: kind.to_ascii_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        versions: vec!["v1".into()],
        storage_group: group.into(),
        storage_version: "v1".into(),
        hash_version: None,
        verbs: Verbs::ALL,
        subresources: Vec::new(),
        storage_prefix: Some(format!("{STORAGE_ROOT}/{plural}").into()),
        generation: false,
        selectable_fields: Vec::new(),
        field_selector_errors: FieldSelectorErrors::OnlyMetadata,
    }
}

impl Kind {
    pub(super) fn short(mut self, names: &[&'static str]) -> Kind {
        self.short_names = names.iter().map(|n| Cow::Borrowed(*n)).collect();
        self
    }

    pub(super) fn category(mut self, category: &'static str) -> Kind {
        self.categories.push(category.into());
        self
    }

    /// Part of `kubectl get all`.
    pub(super) fn in_all(self) -> Kind {
        self.category("all")
    }

    pub(super) fn keeps_generation(mut self) -> Kind {
        self.generation = true;
        self
    }

    /// Stored below `/registry/PREFIX` instead of the plural name.
    pub(super) fn stored_at(mut self, prefix: &str) -> Kind {
        self.storage_prefix = Some(format!("{STORAGE_ROOT}/{prefix}").into());
        self
    }

    pub(super) fn not_stored(mut self, verbs: Verbs) -> Kind {
        self.storage_prefix = None;
        self.verbs = verbs;
        self
    }

    pub(super) fn without(mut self, verb: Verb) -> Kind {
        self.verbs = self.verbs.without(verb);
        self
    }

    /// Served and stored in other versions than v1; the first served one is preferred.
    pub(super) fn versions(mut self, served: &[&'static str], storage: &'static str) -> Kind {
        self.versions = served.iter().map(|v| Cow::Borrowed(*v)).collect();
        self.storage_version = storage.into();
        self
    }

    /// A subresource whose body is of the parent's group and version.
    pub(super) fn sub(mut self, name: &'static str, kind: &'static str, verbs: Verbs) -> Kind {
        self.subresources.push(Subresource {
            name: name.into(),
            verbs,
            group: None,
            version: None,
            kind: kind.into(),
        });
        self
    }

    /// A subresource whose body is of another group.
    pub(super) fn sub_of(
        mut self,
        name: &'static str,
        (group, version, kind): (&'static str, &'static str, &'static str),
        verbs: Verbs,
    ) -> Kind {
        self.subresources.push(Subresource {
            name: name.into(),
            verbs,
            group: Some(group.into()),
            version: Some(version.into()),
            kind: kind.into(),
        });
        self
    }

    /// A subresource that shows the parent's own kind.
    pub(super) fn own_sub(mut self, name: &'static str, verbs: Verbs) -> Kind {
        let kind = self.kind.clone();
        self.subresources.push(Subresource {
            name: name.into(),
            verbs,
            group: None,
            version: None,
            kind,
        });
        self
    }

    pub(super) fn status(self) -> Kind {
        self.own_sub("status", Verbs::GET_PATCH_UPDATE)
    }

    pub(super) fn scale(self) -> Kind {
        self.sub_of(
            "scale",
            ("autoscaling", "v1", "Scale"),
            Verbs::GET_PATCH_UPDATE,
        )
    }

    /// A field selector whose label is its path.
    pub(super) fn field(self, label: &'static str) -> Kind {
        self.field_or(label, "")
    }

    /// A field selector with the value that an unset field has.
    pub(super) fn field_or(self, label: &'static str, absent: &'static str) -> Kind {
        self.field_at(label, &[label], absent)
    }

    /// A field selector whose label differs from its path in the stored form.
    pub(super) fn field_at(
        mut self,
        label: &'static str,
        paths: &[&'static str],
        absent: &'static str,
    ) -> Kind {
        self.field_selector_errors = FieldSelectorErrors::NotSupported;
        self.selectable_fields.push(SelectableField {
            label: label.into(),
            paths: paths.iter().map(|p| Cow::Borrowed(*p)).collect(),
            absent: absent.into(),
        });
        self
    }

    /// Upstream's storage hash names an earlier version than the one stored here.
    pub(super) fn hashed_as(mut self, version: &'static str) -> Kind {
        self.hash_version = Some(version.into());
        self
    }
}
