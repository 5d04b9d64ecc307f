//! What is safe without a flag: encryption at rest, the audit log, files' modes, who may see and do what. A control plane
//! without a node, strangers, and nodes that are only certificates.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kube::Client;
use kube::config::Kubeconfig;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use tests::{Cluster, binary, contains, eventually, eventually_async, run};

/// What a machine with two busy cores may take for anything in here.
const PATIENCE: Duration = Duration::from_secs(60);
/// Text that must be nowhere on the disk, and text that is there.
const MARKER: &str = "a-value-that-nobody-may-find";
const CONTROL: &str = "a-value-that-anybody-may-find";

/// `xebec GROUP …` against the cluster.
fn xebec(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(binary()?);
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig().display());
    run(command.args(arguments).arg(kubeconfig), "")?.ok()
}

/// Whether any file below `directory` holds the text.
fn found_below(directory: &Path, text: &str) -> Result<bool> {
    let mut command = Command::new("grep");
    command.args(["-rqaF", text]).arg(directory);
    Ok(run(&mut command, "")?.success)
}

#[test]
fn secrets_are_encrypted_on_the_disk_and_their_key_can_be_changed() -> Result<()> {
    let mut cluster = Cluster::control_plane()?;
    let kubectl = cluster.kubectl()?;
    kubectl.run(&format!(
        "create secret generic s --from-literal=k={MARKER}"
    ))?;
    kubectl.run(&format!("create configmap c --from-literal=k={CONTROL}"))?;
    let encoded = STANDARD.encode(MARKER);
    let server = cluster.data_dir().join("server");
    ensure!(found_below(&server, CONTROL)?, "the search finds nothing");
    ensure!(!found_below(&server, MARKER)?, "the secret lies open");
    ensure!(!found_below(&server, &encoded)?, "the secret lies open");

    let status = xebec(&cluster, &["secrets-encrypt", "status"])?;
    contains(&status, "key1  Active")?;
    let rotated = xebec(&cluster, &["secrets-encrypt", "rotate-keys"])?;
    contains(&rotated, "key2  Active")?;
    contains(&rotated, "key1  History  0")?;
    cluster.kill()?;
    cluster.spawn()?;
    cluster.wait_ready()?;
    let read = kubectl.run("get secret s -o jsonpath={.data.k}")?;
    ensure!(read == encoded, "{read}");
    modes(&server)?;
    audit(&kubectl, &server)
}

/// Directories are their owner's, and so is every key.
fn modes(server: &Path) -> Result<()> {
    let mode =
        |path: &Path| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    let mut folders = vec![server.to_owned()];
    let mut secret: Vec<PathBuf> = Vec::new();
    for folder in [server.to_owned(), server.join("tls")] {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("crt" | "pub") => {}
                _ => secret.push(path),
            }
        }
    }
    for folder in folders {
        ensure!(mode(&folder)? == 0o700, "{}", folder.display());
    }
    for name in [
        "encryption.key",
        "audit.log",
        "admin.kubeconfig",
        "tls/ca.key",
        "tls/sa.key",
    ] {
        ensure!(secret.contains(&server.join(name)), "{name} is not there");
    }
    for file in secret {
        ensure!(mode(&file)? == 0o600, "{}", file.display());
    }
    Ok(())
}

/// Writes are recorded with who made them, reads of Secrets too, contents never.
fn audit(kubectl: &tests::Kubectl, server: &Path) -> Result<()> {
    let event = |verb: &str, resource: &str| {
        eventually("the audit log has the event", PATIENCE, || {
            let text = std::fs::read_to_string(server.join("audit.log"))?;
            let mut events = text.lines().map(serde_json::from_str::<Value>);
            let wanted = |e: &Value| e["verb"] == verb && e["objectRef"]["resource"] == resource;
            let found = events.find(|e| e.as_ref().is_ok_and(wanted));
            Ok(found.context("not yet")??)
        })
    };
    let created = event("create", "configmaps")?;
    ensure!(
        created["user"]["username"] == "kubernetes-admin",
        "{created}"
    );
    ensure!(created["objectRef"]["name"] == "c", "{created}");
    ensure!(created["responseStatus"]["code"] == 201, "{created}");
    ensure!(created["sourceIPs"] == json!(["127.0.0.1"]), "{created}");
    let read = event("get", "secrets")?;
    ensure!(read["objectRef"]["name"] == "s", "{read}");
    event("create", "secrets")?;
    kubectl.run("get configmap c")?;
    let text = std::fs::read_to_string(server.join("audit.log"))?;
    ensure!(!text.contains("requestObject"), "bodies are recorded");
    ensure!(
        !text.contains("/configmaps/c\""),
        "plain reads are recorded"
    );
    Ok(())
}

/// A client with its own credentials, or none: a `user` of a kubeconfig.
async fn client(cluster: &Cluster, user: Value) -> Result<Client> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ca = std::fs::read(cluster.data_dir().join("server/tls/ca.crt"))?;
    let server = format!("https://127.0.0.1:{}", cluster.port());
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(ca)}}],
        "users": [{"name": "c", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    let kubeconfig = Kubeconfig::from_yaml(&text.to_string())?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    Ok(Client::try_from(config)?)
}

/// One request; what is refused is answered with code and message.
async fn ask(
    client: &Client,
    method: &str,
    path: &str,
    body: Value,
) -> Result<String, (u16, String)> {
    let kind = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body)
        .expect("a request");
    match client.request_text(request).await {
        Ok(text) => Ok(text),
        Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
        Err(error) => Err((0, error.to_string())),
    }
}

/// # Errors
/// Unless the request is refused with exactly this.
async fn refused(
    client: &Client,
    method: &str,
    path: &str,
    body: Value,
    code: u16,
    expect: &str,
) -> Result<()> {
    let answer = ask(client, method, path, body).await;
    let expect = Err((code, expect.to_owned()));
    ensure!(
        answer == expect,
        "{method} {path}: {answer:?}, expected {expect:?}"
    );
    Ok(())
}

async fn allowed(client: &Client, method: &str, path: &str, body: Value) -> Result<Value> {
    let answer = ask(client, method, path, body).await;
    let text = answer.map_err(|why| anyhow::anyhow!("{method} {path}: {why:?}"))?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn strangers_see_little_and_tokens_are_trusted_by_their_signature() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let stranger = client(&cluster, json!({})).await?;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        allowed(&stranger, "GET", path, Value::Null).await?;
    }
    for path in [
        "/",
        "/api",
        "/apis",
        "/metrics",
        "/openapi/v2",
        "/xebec/secrets-encryption",
        "/openid/v1/jwks",
    ] {
        let expect = format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\"");
        refused(&stranger, "GET", path, Value::Null, 403, &expect).await?;
    }
    let maps = "/api/v1/namespaces/kube-public/configmaps";
    refused(
        &stranger, "GET", maps, Value::Null, 403,
        "configmaps is forbidden: User \"system:anonymous\" cannot list resource \"configmaps\" in API group \"\" in the \
         namespace \"kube-public\"",
    )
    .await?;
    discovery(&cluster, &stranger, &format!("{maps}/cluster-info")).await?;
    let wrong = client(&cluster, json!({"token": "abcdef.0123456789abcdef"})).await?;
    refused(&wrong, "GET", "/version", Value::Null, 401, "Unauthorized").await
}

/// As kubeadm's: the kubeconfig is good if the signature under the token's id is that of the token's secret.
async fn discovery(cluster: &Cluster, stranger: &Client, path: &str) -> Result<()> {
    let token = xebec(cluster, &["token", "create"])?;
    let (_, bootstrap) = token.trim().split_once("::").context("a token")?;
    let (id, secret) = bootstrap.split_once('.').context("a token")?;
    let (kubeconfig, signature) = eventually_async("cluster-info is signed", PATIENCE, || async {
        let map = allowed(stranger, "GET", path, Value::Null).await?;
        let text = |key: &str| map["data"][key].as_str().map(str::to_owned);
        let signature = text(&format!("jws-kubeconfig-{id}")).context("not yet")?;
        Ok((text("kubeconfig").context("a kubeconfig")?, signature))
    })
    .await?;
    let (header, tag) = signature.split_once("..").context("a detached signature")?;
    let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
    ensure!(decoded == json!({"alg": "HS256", "kid": id}), "{decoded}");
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(&kubeconfig));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag)?)
        .map_err(|_| anyhow::anyhow!("the signature is not the token's"))?;
    contains(
        &kubeconfig,
        &format!("server: https://127.0.0.1:{}", cluster.port()),
    )?;

    let short = xebec(cluster, &["token", "create", "--ttl=1s"])?;
    let (_, bootstrap) = short.trim().split_once("::").context("a token")?;
    let short = client(cluster, json!({"token": bootstrap})).await?;
    let id = bootstrap.split('.').next().context("a token")?;
    eventually_async(
        "the expired token is deleted, and its signature",
        PATIENCE,
        || async {
            let listed = xebec(cluster, &["token", "list"])?;
            ensure!(!listed.contains(id), "{listed}");
            let map = allowed(stranger, "GET", path, Value::Null).await?;
            ensure!(
                map["data"].get(format!("jws-kubeconfig-{id}")).is_none(),
                "{map}"
            );
            Ok(())
        },
    )
    .await?;
    refused(&short, "GET", "/version", Value::Null, 401, "Unauthorized").await
}

/// A certificate request for a node's name.
fn request_for(node: &str, key: &KeyPair) -> Result<String> {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    Ok(params.serialize_request(key)?.pem()?)
}

fn signing_request(name: &str, pem: &str) -> Value {
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"]},
    })
}

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A node that joins by a bootstrap token: its client, and the request that it made.
async fn node(cluster: &Cluster, admin: &Client, name: &str) -> Result<(Client, String)> {
    let token = xebec(cluster, &["token", "create"])?;
    let (_, bootstrap) = token.trim().split_once("::").context("a token")?;
    let joining = client(cluster, json!({"token": bootstrap})).await?;
    let key = KeyPair::generate()?;
    let pem = request_for(name, &key)?;
    allowed(&joining, "POST", REQUESTS, signing_request(name, &pem)).await?;
    let path = format!("{REQUESTS}/{name}");
    let certificate = eventually_async("the node's certificate is signed", PATIENCE, || async {
        let request = allowed(admin, "GET", &path, Value::Null).await?;
        let certificate = request["status"]["certificate"].as_str();
        Ok(certificate.context("not yet")?.to_owned())
    })
    .await?;
    let user = json!({"client-certificate-data": certificate, "client-key-data": STANDARD.encode(key.serialize_pem())});
    Ok((client(cluster, user).await?, pem))
}

fn pod(name: &str, node: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "x", "envFrom": [{"secretRef": {"name": secret}}]}]},
    })
}

#[tokio::test]
async fn a_nodes_certificate_is_good_for_its_own_things_only() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let admin = cluster.client().await?;
    let (a, request_of_a) = node(&cluster, &admin, "node-a").await?;
    let (b, _) = node(&cluster, &admin, "node-b").await?;
    for (client, name) in [(&a, "node-a"), (&b, "node-b")] {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        allowed(client, "POST", "/api/v1/nodes", object).await?;
    }
    let space = "/api/v1/namespaces/default";
    for name in ["of-a", "of-b"] {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        allowed(&admin, "POST", &format!("{space}/secrets"), secret).await?;
    }
    let pods = format!("{space}/pods");
    eventually_async("the namespace has its account", PATIENCE, || async {
        allowed(&admin, "POST", &pods, pod("pod-a", "node-a", "of-a")).await
    })
    .await?;
    allowed(&admin, "POST", &pods, pod("pod-b", "node-b", "of-b")).await?;

    others_objects(&a, space).await?;
    others_names(&b, &request_of_a).await?;
    // Without its pod, and without its Node object, a node has no way to what the pod needed.
    let now = json!({"gracePeriodSeconds": 0});
    let own = format!("{pods}/pod-a/eviction");
    allowed(&a, "POST", &own, eviction("pod-a")).await?;
    allowed(&admin, "DELETE", "/api/v1/nodes/node-a", Value::Null).await?;
    allowed(&admin, "DELETE", &format!("{pods}/pod-a"), now).await?;
    refused(
        &a, "GET", &format!("{space}/secrets/of-a"), Value::Null, 403,
        "secrets \"of-a\" is forbidden: User \"system:node:node-a\" cannot get resource \"secrets\" in API group \"\" in \
         the namespace \"default\": no relationship found between node 'node-a' and this object",
    )
    .await
}

fn eviction(pod: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}})
}

/// Node a asks for what is node b's.
async fn others_objects(a: &Client, space: &str) -> Result<()> {
    allowed(a, "GET", &format!("{space}/secrets/of-a"), Value::Null).await?;
    allowed(a, "GET", &format!("{space}/pods/pod-a"), Value::Null).await?;
    let user = "User \"system:node:node-a\" cannot";
    let inside = "in API group \"\" in the namespace \"default\"";
    let stranger = "no relationship found between node 'node-a' and this object";
    let status = json!({"status": {"message": "mine"}});
    let cases: [(&str, String, Value, String); 9] = [
        ("GET", format!("{space}/secrets/of-b"), Value::Null,
         format!("secrets \"of-b\" is forbidden: {user} get resource \"secrets\" {inside}: {stranger}")),
        ("GET", "/api/v1/secrets".into(), Value::Null,
         format!("secrets is forbidden: {user} list resource \"secrets\" in API group \"\" at the cluster scope: can only read namespaced object of this type")),
        ("GET", format!("{space}/secrets"), Value::Null,
         format!("secrets is forbidden: {user} list resource \"secrets\" {inside}: No Object name found")),
        ("GET", format!("{space}/pods/pod-b"), Value::Null,
         format!("pods \"pod-b\" is forbidden: {user} get resource \"pods\" {inside}: {stranger}")),
        ("DELETE", format!("{space}/pods/pod-b"), Value::Null,
         "pods \"pod-b\" is forbidden: node \"node-a\" can only delete pods with spec.nodeName set to itself".into()),
        ("PATCH", format!("{space}/pods/pod-b/status"), status.clone(),
         "pods \"pod-b\" is forbidden: node \"node-a\" can only update pod status for pods with spec.nodeName set to itself".into()),
        ("POST", format!("{space}/pods"), pod("mine", "node-a", "of-b"),
         "pods \"mine\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"node-a\" can only create mirror pods".into()),
        ("PATCH", "/api/v1/nodes/node-b/status".into(), status,
         "nodes \"node-b\" is forbidden: node \"node-a\" is not allowed to modify node \"node-b\"".into()),
        ("POST", format!("{space}/pods/pod-b/eviction"), eviction("pod-b"),
         "pods \"pod-b\" is forbidden: node node-a can only evict pods with spec.nodeName set to itself".into()),
    ];
    for (method, path, body, expect) in cases {
        refused(a, method, &path, body, 403, &expect).await?;
    }
    let taints = json!({"spec": {"taints": []}, "metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}});
    refused(
        a,
        "PATCH",
        "/api/v1/nodes/node-a",
        taints,
        403,
        "nodes \"node-a\" is forbidden: node \"node-a\" is not allowed to modify taints",
    )
    .await
}

/// Node b asks for the name of node a: with a key of its own, and with the very request that node a made.
async fn others_names(b: &Client, request_of_a: &str) -> Result<()> {
    let forged = request_for("node-a", &KeyPair::generate()?)?;
    for (name, pem) in [("forged", forged.as_str()), ("replayed", request_of_a)] {
        let expect = format!(
            "certificatesigningrequests.certificates.k8s.io \"{name}\" is forbidden: can only create a node CSR with CN=system:node:node-b"
        );
        refused(
            b,
            "POST",
            REQUESTS,
            signing_request(name, pem),
            403,
            &expect,
        )
        .await?;
    }
    Ok(())
}
