//! Ownership: what an update or an apply does to the fields of every manager.
//!
//! A manager that changes a field takes it from the others. An applier that wants to, without force, meets a conflict; and
//! what it applied last time and no longer does is removed if nobody else owns it.

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::field_set::FieldSet;
use super::managed::{Manager, Managers, Owned};
use super::merge::{merge, remove};
use super::path::{PathElement, show};
use super::shape::Node;
use super::walk::fields_of;
use super::{ApplyError, Conflict};
use crate::schema::Schema;

/// The type of the object and the fields that the written resource never changes.
pub(super) struct Updater<'a> {
    pub(super) schema: &'a Schema,
    pub(super) node: Node,
    pub(super) reset: &'a FieldSet,
}

impl Updater<'_> {
    /// Records that `manager` turned `live` into `new`.
    pub(super) fn update(
        &self,
        live: &Value,
        new: &Value,
        mut managers: Managers,
        manager: &Manager,
        api_version: &str,
    ) -> Result<Managers, ApplyError> {
        let comparison = self.take(live, new, &mut managers, manager, true)?;
        let mine = managers.remove(manager).unwrap_or_default().fields;
        let fields = mine
            .difference(&comparison.removed)
            .union(&comparison.modified)
            .union(&comparison.added)
            .recursive_difference(self.reset);
        if !fields.is_empty() {
            let api_version = api_version.to_owned();
            managers.insert(
                manager.clone(),
                Owned {
                    fields,
                    api_version,
                    time: None,
                },
            );
        }
        Ok(managers)
    }

    /// Merges `config` into `live` for `manager`; the new object and the owners.
    pub(super) fn apply(
        &self,
        live: &Value,
        config: &Value,
        mut managers: Managers,
        manager: &Manager,
        api_version: &str,
        force: bool,
    ) -> Result<(Value, Managers), ApplyError> {
        let merged = merge(self.schema, self.node, live, config)
            .map_err(|error| ApplyError::Internal(format!("failed to merge config: {error}")))?;
        let fields = fields_of(self.schema, self.node, config).recursive_difference(self.reset);
        let last = managers.remove(manager);
        let time = last.as_ref().and_then(|last| last.time.clone());
        let api_version = api_version.to_owned();
        managers.insert(
            manager.clone(),
            Owned {
                fields,
                api_version,
                time,
            },
        );
        let new = match last {
            Some(last) if !last.fields.is_empty() => self.prune(merged, &managers, &last.fields),
            _ => merged,
        };
        self.take(live, &new, &mut managers, manager, force)?;
        Ok((new, managers))
    }

    /// Takes the fields that changed away from everyone but `manager`, which it must be allowed to do by `force`.
    fn take(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &Manager,
        force: bool,
    ) -> Result<Comparison, ApplyError> {
        let comparison = compare(self.schema, self.node, live, new)
            .map_err(|error| ApplyError::Internal(format!("failed to compare objects: {error}")))?
            .without(self.reset);
        let changed = comparison.modified.clone().union(&comparison.added);
        let mut conflicts = Vec::new();
        for (other, owned) in managers.iter_mut().filter(|(other, _)| *other != manager) {
            let lost = owned.fields.intersection(&changed);
            if !lost.is_empty() && !force {
                let manager = other.show();
                let of = |path: Vec<PathElement>| Conflict {
                    manager: manager.clone(),
                    path: show(&path),
                };
                conflicts.extend(lost.paths().into_iter().map(of));
            }
            owned.fields = owned
                .fields
                .difference(&lost)
                .difference(&comparison.removed);
        }
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        managers.retain(|_, owned| !owned.fields.is_empty());
        Ok(comparison)
    }

    /// Removes what the manager applied last time, does not apply now, and nobody else owns.
    fn prune(&self, merged: Value, managers: &Managers, last: &FieldSet) -> Value {
        let named = |set: &FieldSet| set.with_named_fields(self.schema, self.node);
        let fields = |value: &Value| named(&fields_of(self.schema, self.node, value));
        let merged_fields = fields(&merged);
        let pruned = remove(self.schema, self.node, &merged, &named(last));
        // Put back what others, or the new configuration, own.
        let owned = managers
            .values()
            .fold(FieldSet::default(), |all, owned| all.union(&owned.fields));
        let gone = merged_fields.difference(&fields(&pruned).union(&named(&owned)));
        let pruned = remove(self.schema, self.node, &merged, &gone);
        // Put back what the manager never owned itself.
        let gone = merged_fields
            .difference(&fields(&pruned))
            .intersection(&named(last));
        remove(self.schema, self.node, &merged, &gone)
    }
}
