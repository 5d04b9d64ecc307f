//! The caches as parts inside the API server read them: parsed objects by group and resource, without a request.

use std::sync::Arc;

use api_machinery::{KindTable, Status};
use async_trait::async_trait;
use serde_json::Value;

use super::feed::Caches;
use super::kind_cache::{Held, KindCache};
use super::object::CachedObject;
use crate::plugin::ObjectReader;

/// Reads parsed objects from the caches.
pub(crate) struct CacheReader {
    caches: Arc<Caches>,
    table: Arc<KindTable>,
}

impl CacheReader {
    pub fn new(caches: Arc<Caches>, table: Arc<KindTable>) -> Self {
        Self { caches, table }
    }

    fn cache(&self, group: &str, plural: &str) -> Option<&Arc<KindCache>> {
        let prefix = self
            .table
            .group_resource(group, plural)?
            .storage_list_prefix(None)?;
        self.caches.by_prefix(&prefix)
    }
}

fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

#[async_trait]
impl ObjectReader for CacheReader {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.cache(group, plural)?
            .get(&key(namespace, name))
            .map(|o| o.value().clone())
    }

    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let Some(cache) = self.cache(group, plural) else {
            return Vec::new();
        };
        let prefix = namespace
            .filter(|n| !n.is_empty())
            .map(|n| format!("{n}/"))
            .unwrap_or_default();
        let held = Held {
            prefix,
            ..Held::default()
        };
        cache
            .select(&held, |_| true)
            .objects
            .iter()
            .map(|o| o.value().clone())
            .collect()
    }

    fn list_where(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        path: &str,
        value: &str,
    ) -> Vec<Arc<Value>> {
        let Some(cache) = self.cache(group, plural) else {
            return Vec::new();
        };
        let prefix = namespace
            .filter(|n| !n.is_empty())
            .map(|n| format!("{n}/"))
            .unwrap_or_default();
        let held = Held {
            prefix,
            ..Held::default()
        };
        // Most objects do not hold the text anywhere: they are passed by without being read.
        let written_as_it_is = value
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
        let text = memchr::memmem::Finder::new(value);
        let matches = |o: &CachedObject| {
            (!written_as_it_is || text.find(&o.json).is_some())
                && o.field(path).as_deref() == Some(value)
        };
        let selected = cache.select(&held, matches);
        selected.objects.iter().map(|o| o.value().clone()).collect()
    }

    fn changed(&self, group: &str, plural: &str) -> u64 {
        self.cache(group, plural).map_or(0, |c| c.changed())
    }

    async fn get_latest(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status> {
        self.caches
            .catch_up()
            .await
            .map_err(crate::errors::from_feed)?;
        Ok(self.get(group, plural, namespace, name))
    }
}
