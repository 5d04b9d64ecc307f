//! Watch caches for tests: objects in memory, by hand.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use parking_lot::RwLock;
use serde_json::Value;

use crate::authn::Authentication;
use crate::pki::{Pki, PkiConfig};
use crate::plugin::ObjectReader;
use crate::tokens::{ServiceAccountTokens, SigningKey, TokenConfig};

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

/// Authentication over fresh certificates and keys, which are answered by nobody else.
pub(crate) fn authentication(reader: Arc<Objects>) -> Authentication {
    let directory = tempfile::tempdir().expect("directory");
    let config = PkiConfig {
        node_name: "n".into(),
        advertise_address: Ipv4Addr::LOCALHOST.into(),
        service_address: Ipv4Addr::LOCALHOST.into(),
        cluster_domain: "cluster.local".into(),
        tls_sans: Vec::new(),
    };
    let pki = Pki::load_or_create(directory.path(), &config).expect("certificates");
    let key = SigningKey::from_pem(&pki.service_account_key().expect("key")).expect("key");
    let config = TokenConfig {
        issuer: "https://i".into(),
        audiences: vec!["https://i".into()],
        jwks_uri: String::new(),
    };
    let tokens = ServiceAccountTokens::new(config, key, reader.clone());
    Authentication::new(pki.client_trust().expect("trust"), tokens, reader, true)
}
