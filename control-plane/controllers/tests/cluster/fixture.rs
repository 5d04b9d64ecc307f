//! A cluster in one process: API server, controllers and a stand-in for scheduler and node agent.

use std::sync::Arc;
use std::time::Duration;

use api_client::{
    Client, DeleteOptions, Informers, Kind, Patch, Propagation, User, Verb, is_not_found,
};
use api_server::{
    ApiServer, Config, MemoryStore, Pki, PkiConfig, SecurityConfig, SecurityParts, Settings,
};
use bytes::Bytes;
use controllers::{Options, SigningAuthority, run_all};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::agent;

/// What has not happened after this time will not.
const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

pub struct Cluster {
    pub client: Client,
    server: ApiServer,
    shutdown: CancellationToken,
    controllers: JoinHandle<()>,
    agent: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

fn superuser() -> Arc<User> {
    let groups = vec!["system:masters".into(), "system:authenticated".into()];
    Arc::new(User {
        name: "admin".into(),
        groups,
    })
}

fn options(pki: &Pki, directory: &std::path::Path) -> Options {
    Options {
        cluster_cidrs: vec!["10.42.0.0/16".parse().expect("a block")],
        root_ca_pem: pki.ca_pem(),
        signing_authority: Some(SigningAuthority {
            certificate_pem: pki.ca_pem(),
            key_pem: std::fs::read_to_string(directory.join("ca.key")).expect("a key"),
            chain_pem: String::new(),
        }),
        ..Options::default()
    }
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = Pki::load_or_create(
            directory.path(),
            &PkiConfig {
                node_name: "master".into(),
                advertise_address: [127, 0, 0, 1].into(),
                service_address: [10, 43, 0, 1].into(),
                cluster_domain: "cluster.local".into(),
                tls_sans: Vec::new(),
            },
        )
        .expect("certificates");
        let url = "https://127.0.0.1:6443";
        let parts = SecurityParts::new(
            &pki,
            SecurityConfig {
                cluster_domain: "cluster.local".into(),
                server_url: url.into(),
                anonymous: true,
                default_tolerations: Default::default(),
            },
        )
        .expect("security");
        let config = Config {
            listen: None,
            tls: None,
            kubelet_tls: None,
            encryption_key: None,
            audit: None,
            settings: Settings {
                advertise_address: "127.0.0.1:6443".parse().expect("an address"),
                service_cidr: ([10, 43, 0, 0].into(), 16),
                version: "v1.36.0".into(),
                commit: String::new(),
            },
            extensions: Vec::new(),
            documents: Vec::new(),
            security: Box::new(|inside| parts.build(inside)),
        };
        let server = ApiServer::start(config, Arc::new(MemoryStore::default()))
            .await
            .expect("an API server");
        let client = Client::new(server.backend(), superuser());
        api_server::ensure_security_objects(&client, &server.reader(), &pki, url)
            .await
            .expect("first objects");
        let shutdown = CancellationToken::new();
        let mut options = options(&pki, directory.path());
        change(&mut options);
        let informers = Informers::new(server.backend());
        let controllers = tokio::spawn(run_all(
            server.backend(),
            informers,
            options,
            None,
            shutdown.clone(),
        ));
        let agent = tokio::spawn(agent::run(client.clone()));
        Self {
            client,
            server,
            shutdown,
            controllers,
            agent,
            _directory: directory,
        }
    }

    /// Stops the controllers, which must end by themselves.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.controllers)
            .await
            .expect("controllers stop")
            .expect("without a panic");
        self.agent.abort();
        self.server.shutdown().await;
    }

    pub async fn create<K: Kind>(&self, object: Value) -> K {
        self.create_in("", object).await
    }

    pub async fn create_in<K: Kind>(&self, namespace: &str, object: Value) -> K {
        let body = self
            .client
            .raw(
                Verb::Post,
                path::<K>(namespace),
                "application/json",
                object.to_string().into(),
            )
            .await;
        let body = body.unwrap_or_else(|status| panic!("{} not created: {status}", K::KIND));
        serde_json::from_slice(&body).expect("an object")
    }

    pub async fn merge<K: Kind>(&self, namespace: &str, name: &str, patch: Value) {
        self.client
            .patch::<K>(Some(namespace), name, "", &Patch::Merge(patch))
            .await
            .expect("patched");
    }

    pub async fn delete<K: Kind>(&self, namespace: &str, name: &str, propagation: Option<&str>) {
        let propagation = propagation.map(|policy| match policy {
            "Foreground" => Propagation::Foreground,
            "Orphan" => Propagation::Orphan,
            _ => Propagation::Background,
        });
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        self.client
            .delete::<K>(Some(namespace), name, &options)
            .await
            .expect("deleted");
    }

    /// The store's revision.
    pub async fn revision(&self) -> String {
        let path = "/api/v1/namespaces".to_owned();
        let body = self
            .client
            .raw(Verb::Get, path, "application/json", Bytes::new())
            .await
            .expect("a list");
        let list: Value = serde_json::from_slice(&body).expect("JSON");
        list["metadata"]["resourceVersion"]
            .as_str()
            .expect("a revision")
            .to_owned()
    }

    pub async fn list<K: Kind>(&self, namespace: &str) -> Vec<K> {
        let body = self
            .client
            .raw(
                Verb::Get,
                path::<K>(namespace),
                "application/json",
                Bytes::new(),
            )
            .await;
        let list: Value = serde_json::from_slice(&body.expect("a list")).expect("JSON");
        serde_json::from_value(list["items"].clone()).expect("objects")
    }

    /// Waits until the object exists and `holds`.
    pub async fn eventually<K: Kind>(
        &self,
        namespace: &str,
        name: &str,
        holds: impl Fn(&K) -> bool,
    ) -> K {
        let mut last = None;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.client.get::<K>(Some(namespace), name).await {
                    Ok(object) if holds(&object) => return object,
                    Ok(object) => last = serde_json::to_string(&object).ok(),
                    Err(status) => last = Some(status.to_string()),
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        found.unwrap_or_else(|_| {
            panic!(
                "{} {namespace}/{name} never came to be so; it is {last:?}",
                K::KIND
            )
        })
    }

    pub async fn eventually_list<K: Kind>(&self, namespace: &str, holds: impl Fn(&[K]) -> bool) {
        let mut last = String::new();
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let all = self.list::<K>(namespace).await;
                if holds(&all) {
                    return;
                }
                last = serde_json::to_string(&all).unwrap_or_default();
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        assert!(
            found.is_ok(),
            "{}s in {namespace} never came to be so; they are {last}",
            K::KIND
        );
    }

    pub async fn eventually_count<K: Kind>(&self, namespace: &str, count: usize) {
        self.eventually_list::<K>(namespace, |all| all.len() == count)
            .await;
    }

    pub async fn eventually_gone<K: Kind>(&self, namespace: &str, name: &str) {
        let mut last = None;
        let gone = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.client.get::<K>(Some(namespace), name).await {
                    Err(status) if is_not_found(&status) => return,
                    answer => {
                        last = answer
                            .ok()
                            .and_then(|object| serde_json::to_string(&object).ok())
                    }
                }
                tokio::time::sleep(BETWEEN_LOOKS).await;
            }
        })
        .await;
        assert!(
            gone.is_ok(),
            "{} {namespace}/{name} is still there: {last:?}",
            K::KIND
        );
    }
}

pub fn names<K: Kind>(all: &[K]) -> Vec<String> {
    all.iter()
        .filter_map(|object| object.metadata().name.clone())
        .collect()
}

fn path<K: Kind>(namespace: &str) -> String {
    let root = if K::GROUP.is_empty() { "/api" } else { "/apis" };
    let namespaced = if namespace.is_empty() {
        String::new()
    } else {
        format!("namespaces/{namespace}/")
    };
    format!(
        "{root}/{}/{namespaced}{}",
        K::API_VERSION,
        K::URL_PATH_SEGMENT
    )
}
