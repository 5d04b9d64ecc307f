//! A resource at run time: a row of the table of kinds in one served version, with what the verbs need at hand.

use std::collections::HashMap;
use std::sync::Arc;

use api_machinery::{Kind, KindTable, Schema, Status, TypeId};

use crate::cache::{Caches, KindCache};
use crate::conversion::{Conversion, conversion_for};
use crate::rules::{Rules, rules_for};
use crate::strategy::{Strategy, strategy_for};

/// One kind in one served version.
pub(crate) struct Resource {
    pub kind: Arc<Kind>,
    pub version: String,
    /// `v1`, `apps/v1`.
    pub api_version: String,
    /// Between this version and the stored one; none where they are the same.
    pub conversion: Option<&'static Conversion>,
    /// None for kinds that are not stored.
    pub cache: Option<Arc<KindCache>>,
    pub rules: &'static dyn Rules,
    pub strategy: &'static Strategy,
    /// The type in this version.
    pub schema: Option<TypeId>,
}

impl Resource {
    /// The cache, for verbs that only stored kinds have.
    ///
    /// # Errors
    /// 405 for kinds that are not stored.
    pub fn stored(&self, action: &str) -> Result<&Arc<KindCache>, Status> {
        self.cache.as_ref().ok_or_else(|| {
            Status::method_not_supported(&self.kind.group, &self.kind.plural, action)
        })
    }

    /// The key below the kind's prefix.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.kind.namespaced {
            format!("{namespace}/{name}")
        } else {
            name.to_owned()
        }
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.kind.group == group && self.kind.plural == plural
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.kind.group, &self.kind.plural, name)
    }

    pub fn modified(&self, name: &str) -> Status {
        Status::object_modified(&self.kind.group, &self.kind.plural, name)
    }
}

type ByPlural = HashMap<String, Arc<Resource>>;

/// All resources, by group, version and plural.
pub(crate) struct Resources {
    pub table: Arc<KindTable>,
    by_group: HashMap<String, HashMap<String, ByPlural>>,
}

impl Resources {
    pub fn new(table: Arc<KindTable>, caches: &Caches) -> Self {
        let mut by_group: HashMap<String, HashMap<String, ByPlural>> = HashMap::new();
        for kind in table.iter() {
            for version in &kind.versions {
                let resource = Arc::new(make(kind, version, caches));
                let versions = by_group.entry(kind.group.to_string()).or_default();
                versions
                    .entry(version.to_string())
                    .or_default()
                    .insert(kind.plural.to_string(), resource);
            }
        }
        Self { table, by_group }
    }

    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_group.get(group)?.get(version)?.get(plural)
    }

    /// The resource in its preferred version.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let version = self.table.group_resource(group, plural)?.versions.first()?;
        self.get(group, version, plural)
    }
}

fn make(kind: &Arc<Kind>, version: &str, caches: &Caches) -> Resource {
    let cache = kind
        .storage_list_prefix(None)
        .and_then(|prefix| caches.by_prefix(&prefix).cloned());
    Resource {
        kind: kind.clone(),
        version: version.to_owned(),
        api_version: kind.api_version(version),
        conversion: conversion_for(&kind.group, version, &kind.kind),
        cache,
        rules: rules_for(&kind.group, &kind.kind),
        strategy: strategy_for(&kind.group, &kind.plural),
        schema: Schema::global().kind(&kind.group, version, &kind.kind),
    }
}
