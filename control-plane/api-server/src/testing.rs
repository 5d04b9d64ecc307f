//! Watch caches for tests: objects in memory, by hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use api_client::{Backend, Call, WatchStream};
use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::authn::Authentication;
use crate::pki::{Pki, PkiConfig};
use crate::plugin::ObjectReader;
use crate::tokens::{ServiceAccountTokens, TokenConfig};

type Key = (String, String, String, String);

/// An [`ObjectReader`] over a map.
#[derive(Default)]
pub(crate) struct Objects(RwLock<(u64, BTreeMap<Key, Arc<Value>>)>);

fn key(group: &str, plural: &str, namespace: &str, name: &str) -> Key {
    (group.into(), plural.into(), namespace.into(), name.into())
}

impl Objects {
    pub(crate) fn put(&self, group: &str, plural: &str, object: Value) {
        let meta = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let key = key(group, plural, &meta("namespace"), &meta("name"));
        let mut state = self.0.write();
        state.0 += 1;
        state.1.insert(key, Arc::new(object));
    }

    pub(crate) fn remove(&self, group: &str, plural: &str, namespace: &str, name: &str) {
        let mut state = self.0.write();
        state.0 += 1;
        state.1.remove(&key(group, plural, namespace, name));
    }
}

#[async_trait]
impl ObjectReader for Objects {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.0
            .read()
            .1
            .get(&key(group, plural, namespace, name))
            .cloned()
    }

    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let state = self.0.read();
        let wanted = state.1.iter().filter(|((g, p, n, _), _)| {
            g == group && p == plural && namespace.is_none_or(|wanted| wanted == n)
        });
        wanted.map(|(_, object)| object.clone()).collect()
    }

    fn changed(&self, _: &str, _: &str) -> u64 {
        self.0.read().0
    }

    async fn get_latest(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status> {
        Ok(self.get(group, plural, namespace, name))
    }
}

/// Fresh certificates in `directory`.
pub(crate) fn pki(directory: &Path) -> Pki {
    let config = PkiConfig {
        node_name: "n".into(),
        advertise_address: Ipv4Addr::LOCALHOST.into(),
        service_address: Ipv4Addr::LOCALHOST.into(),
        cluster_domain: "cluster.local".into(),
        tls_sans: Vec::new(),
    };
    Pki::load_or_create(directory, &config).expect("certificates")
}

/// Authentication over fresh certificates and keys.
pub(crate) fn authentication(reader: Arc<Objects>) -> Authentication {
    let directory = tempfile::tempdir().expect("directory");
    let pki = pki(directory.path());
    let key = pki.token_keys();
    let config = TokenConfig {
        issuer: "https://i".into(),
        audiences: vec!["https://i".into()],
        jwks_uri: String::new(),
    };
    let tokens = ServiceAccountTokens::new(config, key, reader.clone());
    Authentication::new(pki.client_trust().expect("trust"), tokens, reader, true)
}

/// A [`Backend`] that takes every write and remembers it: path and body.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Vec<(String, Value)>>);

impl Calls {
    /// What was written since the last time.
    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock())
    }
}

#[async_trait]
impl Backend for Calls {
    async fn call(&self, call: Call) -> Result<Bytes, Status> {
        let body = serde_json::from_slice(&call.body).expect("JSON");
        self.0.lock().push((call.path, body));
        Ok(call.body)
    }

    fn watch(&self, _: &str, _: &str) -> Result<WatchStream, Status> {
        Ok(futures::stream::pending().boxed())
    }
}
