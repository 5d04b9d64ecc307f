//! A whole API server over TLS: who gets in, who may do what, and what admission makes of it.

use std::sync::Arc;

use api_client::{Backend, Call, Verb};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};

use super::*;
use crate::config::{Config, Settings};
use crate::memory::MemoryStore;
use crate::pki::KeyPairPem;
use crate::server::ApiServer;

struct Cluster {
    server: ApiServer,
    pki: Pki,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let pki = crate::testing::pki(directory.path());
        let config = SecurityConfig {
            cluster_domain: "cluster.local".into(),
            server_url: "https://127.0.0.1:6443".into(),
            anonymous: true,
            default_tolerations: Default::default(),
        };
        let parts = SecurityParts::new(&pki, config).expect("parts");
        let config = Config {
            listen: Some("127.0.0.1:0".parse().expect("address")),
            tls: Some(pki.server_tls_config().expect("TLS")),
            kubelet_tls: None,
            encryption_key: None,
            audit: None,
            settings: Settings {
                advertise_address: "127.0.0.1:6443".parse().expect("address"),
                service_cidr: ("10.43.0.0".parse().expect("address"), 16),
                version: "v1.36.0".into(),
                commit: "test".into(),
            },
            extensions: Vec::new(),
            documents: parts.openid_documents().into(),
            security: Box::new(|inside| parts.build(inside)),
        };
        let server = ApiServer::start(config, Arc::new(MemoryStore::default()))
            .await
            .expect("started");
        let client = Client::new(server.backend(), itself());
        ensure_security_objects(&client, &server.reader(), &pki, "https://127.0.0.1:6443")
            .await
            .expect("objects");
        Self {
            server,
            pki,
            _directory: directory,
        }
    }

    async fn send(
        &self,
        pair: Option<&KeyPairPem>,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut roots = RootCertStore::empty();
        roots.add(self.pki.ca_der().clone()).expect("root");
        let builder = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
        let tls = match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![
                    CertificateDer::from_pem_slice(pair.certificate.as_bytes())
                        .expect("certificate"),
                ];
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("key");
                builder.with_client_auth_cert(chain, key).expect("pair")
            }
        };
        let stream = tokio::net::TcpStream::connect(self.server.address().expect("listens"))
            .await
            .expect("TCP");
        let name = "localhost".try_into().expect("name");
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(name, stream)
            .await
            .expect("TLS");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = body.map(|b| b.to_string()).unwrap_or_default();
        let request = request
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body)));
        let response = sender
            .send_request(request.expect("request"))
            .await
            .expect("answer");
        let status = response.status().as_u16();
        let body = response
            .into_body()
            .collect()
            .await
            .expect("body")
            .to_bytes();
        (
            status,
            serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into()),
        )
    }

    async fn as_superuser(&self, method: &str, path: &str, body: Value) -> Value {
        let admin = self.pki.admin().expect("admin");
        let (status, answer) = self
            .send(Some(&admin), None, method, path, Some(body))
            .await;
        assert!(status < 300, "{method} {path}: {answer}");
        answer
    }
}

impl Cluster {
    /// A token of the service account `default/default`, which is made for it.
    async fn token(&self) -> String {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/default/serviceaccounts";
        self.as_superuser("POST", path, account).await;
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self
            .as_superuser("POST", &format!("{path}/default/token"), request)
            .await;
        answer["status"]["token"]
            .as_str()
            .expect("token")
            .to_owned()
    }

    async fn refused(&self, token: Option<&str>, path: &str, expect: &str) {
        let (status, answer) = self.send(None, token, "GET", path, None).await;
        assert_eq!((status, answer["message"].as_str()), (403, Some(expect)));
    }
}

#[tokio::test]
async fn callers_are_known_and_limited() {
    let cluster = Cluster::start().await;
    let nobody = r#"nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "" at the cluster scope"#;
    cluster.refused(None, "/api/v1/nodes", nobody).await;
    assert_eq!(
        cluster.send(None, None, "GET", "/version", None).await.0,
        200
    );
    assert_eq!(
        cluster
            .send(None, Some("nonsense"), "GET", "/version", None)
            .await
            .0,
        401
    );
    let token = cluster.token().await;
    let account = r#"secrets is forbidden: User "system:serviceaccount:default:default" cannot list resource "secrets" in API group "" in the namespace "default""#;
    cluster
        .refused(Some(&token), "/api/v1/namespaces/default/secrets", account)
        .await;
    let (status, keys) = cluster
        .send(None, Some(&token), "GET", "/openid/v1/jwks", None)
        .await;
    assert_eq!(
        (status, keys["keys"][0]["alg"].as_str()),
        (200, Some("ES256"))
    );
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (status, answer) = cluster
        .send(None, Some(&token), "POST", path, Some(review))
        .await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"]["username"],
        "system:serviceaccount:default:default"
    );
    cluster.server.shutdown().await;
}

#[tokio::test]
async fn a_pod_is_admitted_whole_and_its_node_may_read_its_secrets() {
    let cluster = Cluster::start().await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster
        .as_superuser(
            "POST",
            "/api/v1/namespaces/default/serviceaccounts",
            account,
        )
        .await;
    for name in ["mine", "other"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        cluster
            .as_superuser("POST", "/api/v1/namespaces/default/secrets", secret)
            .await;
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"nodeName": "n", "containers": [{
            "name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "mine"}}],
        }]},
    });
    let pod = cluster
        .as_superuser("POST", "/api/v1/namespaces/default/pods", pod)
        .await;
    assert_eq!(pod["spec"]["serviceAccountName"], "default");
    assert_eq!(pod["spec"]["tolerations"].as_array().map(Vec::len), Some(2));
    let node = cluster.pki.node_identity("n", &[]).expect("node");
    let node = node.client.read().expect("files");
    let get = async |path: &str| cluster.send(Some(&node), None, "GET", path, None).await.0;
    assert_eq!(get("/api/v1/namespaces/default/secrets/mine").await, 200);
    assert_eq!(get("/api/v1/namespaces/default/secrets/other").await, 403);
    assert_eq!(
        get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn").await,
        200
    );
    assert_eq!(get("/api/v1/pods").await, 403);
    assert_eq!(get("/api/v1/services").await, 200);
    cluster.server.shutdown().await;
}

#[tokio::test]
async fn controllers_act_under_their_roles() {
    let cluster = Cluster::start().await;
    let user = User::controller("namespace-controller");
    let call = |verb: Verb, path: &str| Call {
        user: user.clone(),
        verb,
        path: path.into(),
        content_type: "application/json",
        body: bytes::Bytes::new(),
        fence: None,
    };
    let backend: Arc<dyn Backend> = cluster.server.backend();
    backend
        .call(call(Verb::Get, "/api/v1/namespaces"))
        .await
        .expect("its role allows it");
    let refused = backend
        .call(call(Verb::Get, "/metrics"))
        .await
        .expect_err("its role does not");
    assert_eq!(refused.code, 403);
    cluster.server.shutdown().await;
}
