//! What `kubeadm join` asks of a cluster and how it believes the answers, done by hand with curl and openssl: from a token
//! and the hash of a public key to a node's certificate. kubeadm itself is not needed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tests::{Cluster, contains, eventually, run, token};

/// What a machine with two busy cores may take for anything in here.
const PATIENCE: Duration = Duration::from_secs(60);
const NODE: &str = "joined-by-hand";
const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
const SYSTEM_MAPS: &str = "/api/v1/namespaces/kube-system/configmaps";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// A machine that is to become a node: all that it was told, and an empty directory.
struct Joining {
    server: String,
    id: String,
    secret: String,
    /// SHA-256 of the CA's public key in hex, as in `--discovery-token-ca-cert-hash sha256:…`.
    hash: String,
    directory: tempfile::TempDir,
}

impl Joining {
    fn told(cluster: &Cluster) -> Result<Self> {
        let said = token(&cluster.kubeconfig(), &["create"])?;
        let (hash, bootstrap) = said.trim().split_once("::").context("a token")?;
        let (id, secret) = bootstrap.split_once('.').context("a token")?;
        Ok(Self {
            server: format!("https://127.0.0.1:{}", cluster.port()),
            id: id.to_owned(),
            secret: secret.to_owned(),
            hash: hash.strip_prefix("K10").context("a token")?.to_owned(),
            directory: tempfile::tempdir()?,
        })
    }

    /// The answer's code and body to a request that curl makes with these flags.
    fn ask(&self, flags: &[&str], path: &str) -> Result<(u16, Value)> {
        let mut command = Command::new("curl");
        command
            .current_dir(&self.directory)
            .args(["--silent", "--show-error", "--write-out", "\n%{http_code}"])
            .args(flags)
            .arg(format!("{}{path}", self.server));
        let said = run(&mut command, "")?.ok()?;
        let (body, code) = said.rsplit_once('\n').context("a code")?;
        Ok((code.parse()?, serde_json::from_str(body)?))
    }

    fn get(&self, flags: &[&str], path: &str) -> Result<Value> {
        let (code, body) = self.ask(flags, path)?;
        ensure!(code == 200, "GET {path}: {code} {body}");
        Ok(body)
    }

    fn create(&self, flags: &[&str], path: &str, object: &Value) -> Result<Value> {
        let text = object.to_string();
        let send = [
            "--header",
            "Content-Type: application/json",
            "--data",
            &text,
        ];
        let (code, body) = self.ask(&[flags, &send].concat(), path)?;
        ensure!(code == 201, "POST {path}: {code} {body}");
        Ok(body)
    }

    fn openssl(&self, arguments: &str, input: &str) -> Result<String> {
        let mut command = Command::new("openssl");
        command
            .current_dir(&self.directory)
            .args(arguments.split(' '));
        run(&mut command, input)?.ok()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// The kubeconfig in `cluster-info`, once it is signed with the token. Nobody is trusted before.
    fn discover(&self) -> Result<String> {
        let map = eventually("cluster-info is signed", PATIENCE, || {
            let map = self.get(&["--insecure"], INFO)?;
            self.signature(&map).context("not yet")?;
            Ok(map)
        })?;
        let kubeconfig = map["data"]["kubeconfig"].as_str().context("a kubeconfig")?;
        let signature = self.signature(&map).context("looked at above")?;
        let (header, tag) = signature.split_once("..").context("a detached signature")?;
        let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?;
        ensure!(
            decoded == json!({"alg": "HS256", "kid": self.id}),
            "{decoded}"
        );
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(kubeconfig));
        let tag = URL_SAFE_NO_PAD.decode(tag)?;
        let judge = |secret: &str| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
        };
        ensure!(judge(&self.secret), "the signature is not the token's");
        ensure!(!judge("0123456789abcdef"), "any token's secret will do");
        Ok(kubeconfig.to_owned())
    }

    fn signature<'a>(&self, map: &'a Value) -> Option<&'a str> {
        map["data"][format!("jws-kubeconfig-{}", self.id)].as_str()
    }

    /// Believes the kubeconfig's CA if its key is the pinned one, and asks again, trusting that CA alone.
    fn trust(&self, kubeconfig: &str) -> Result<()> {
        let ca = field(kubeconfig, "certificate-authority-data")?;
        std::fs::write(self.path("ca.crt"), STANDARD.decode(ca)?)?;
        self.openssl("x509 -in ca.crt -noout -pubkey -out ca.pub", "")?;
        self.openssl("pkey -pubin -in ca.pub -outform der -out ca.der", "")?;
        let hash = self.openssl("dgst -sha256 -r ca.der", "")?;
        contains(&hash, &self.hash)?;
        ensure!(field(kubeconfig, "server")? == self.server, "{kubeconfig}");
        let again = self.get(&["--cacert", "ca.crt"], INFO)?;
        ensure!(again["data"]["kubeconfig"] == kubeconfig, "{again}");
        Ok(())
    }

    /// The certificate of a new node, by a request that is approved and signed for whoever has a token.
    fn certificate(&self, flags: &[&str]) -> Result<()> {
        let subject = format!("/O=system:nodes/CN=system:node:{NODE}");
        self.openssl(
            &format!(
                "req -new -newkey rsa:2048 -nodes -keyout node.key -subj {subject} -out node.csr"
            ),
            "",
        )?;
        let request = json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "csr-"},
            "spec": {"request": STANDARD.encode(std::fs::read(self.path("node.csr"))?),
                "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
                "usages": ["digital signature", "client auth"]},
        });
        let made = self.create(flags, REQUESTS, &request)?;
        let name = made["metadata"]["name"].as_str().context("a name")?;
        let certificate = eventually("the certificate is signed", PATIENCE, || {
            let request = self.get(flags, &format!("{REQUESTS}/{name}"))?;
            let certificate = request["status"]["certificate"].as_str();
            Ok(certificate.context("not yet")?.to_owned())
        })?;
        std::fs::write(self.path("node.crt"), STANDARD.decode(certificate)?)?;
        Ok(())
    }
}

/// A field of a YAML text of one value per line.
fn field<'a>(yaml: &'a str, name: &str) -> Result<&'a str> {
    let name = format!("{name}:");
    let mut lines = yaml.lines();
    let value = lines.find_map(|line| line.trim_start_matches([' ', '-']).strip_prefix(&name));
    Ok(value.with_context(|| format!("{name} in\n{yaml}"))?.trim())
}

#[test]
fn a_token_and_the_hash_of_a_key_are_all_that_kubeadm_needs() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let joining = Joining::told(&cluster)?;
    let kubeconfig = joining.discover()?;
    joining.trust(&kubeconfig)?;
    let bearer = format!("Authorization: Bearer {}.{}", joining.id, joining.secret);
    let flags = ["--cacert", "ca.crt", "--header", &bearer];
    settings(&joining, &flags)?;
    // No node has this name yet; whoever joins may look.
    let (code, answer) = joining.ask(&flags, &format!("/api/v1/nodes/{NODE}"))?;
    ensure!(code == 404, "{code} {answer}");
    joining.certificate(&flags)?;
    as_node(&joining, &cluster)?;
    little_else(&joining, &flags)
}

/// The ConfigMaps by which kubeadm configures the kubelet; it goes on without that of kube-proxy.
fn settings(joining: &Joining, flags: &[&str]) -> Result<()> {
    let text = |name: &str, key: &str| -> Result<String> {
        let map = joining.get(flags, &format!("{SYSTEM_MAPS}/{name}"))?;
        Ok(map["data"][key].as_str().context("its key")?.to_owned())
    };
    let cluster = text("kubeadm-config", "ClusterConfiguration")?;
    for (name, wanted) in [
        ("apiVersion", "kubeadm.k8s.io/v1beta4"),
        ("kind", "ClusterConfiguration"),
        ("kubernetesVersion", "v1.36.0"),
        (
            "controlPlaneEndpoint",
            joining.server.trim_start_matches("https://"),
        ),
        ("podSubnet", "10.42.0.0/16"),
        ("serviceSubnet", "10.43.0.0/16"),
        ("dnsDomain", "cluster.local"),
    ] {
        ensure!(field(&cluster, name)? == wanted, "{cluster}");
    }
    let kubelet = text("kubelet-config", "kubelet")?;
    for (name, wanted) in [
        ("apiVersion", "kubelet.config.k8s.io/v1beta1"),
        ("kind", "KubeletConfiguration"),
        ("clusterDomain", "cluster.local"),
        ("serverTLSBootstrap", "true"),
        ("rotateCertificates", "true"),
    ] {
        ensure!(field(&kubelet, name)? == wanted, "{kubelet}");
    }
    contains(&kubelet, "clusterDNS:\n- 10.43.0.10\n")?;
    let (code, answer) = joining.ask(flags, &format!("{SYSTEM_MAPS}/kube-proxy"))?;
    ensure!(code == 403 && answer["reason"] == "Forbidden", "{answer}");
    Ok(())
}

/// With its certificate the node makes its Node object, and reads the settings again as kubelets do at an upgrade.
fn as_node(joining: &Joining, cluster: &Cluster) -> Result<()> {
    let flags = [
        "--cacert", "ca.crt", "--cert", "node.crt", "--key", "node.key",
    ];
    ensure!(Path::new(&joining.path("node.crt")).is_file());
    let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    joining.create(&flags, "/api/v1/nodes", &object)?;
    joining.get(&flags, &format!("{SYSTEM_MAPS}/kubelet-config"))?;
    contains(&cluster.kubectl()?.run("get nodes")?, NODE)
}

/// A token is good for joining and nothing else, and no other text is good for that.
fn little_else(joining: &Joining, flags: &[&str]) -> Result<()> {
    let check = |flags: &[&str], path: &str, wanted: u16| {
        let (code, answer) = joining.ask(flags, path)?;
        ensure!(code == wanted, "{path}: {code} {answer}");
        Ok(())
    };
    let config = format!("{SYSTEM_MAPS}/kubeadm-config");
    check(flags, "/api/v1/namespaces/kube-system/secrets", 403)?;
    check(flags, SYSTEM_MAPS, 403)?;
    check(flags, &format!("{SYSTEM_MAPS}/xebec-config"), 403)?;
    check(&["--cacert", "ca.crt"], &config, 403)?;
    let wrong = "Authorization: Bearer abcdef.0123456789abcdef";
    check(&["--cacert", "ca.crt", "--header", wrong], &config, 401)
}
