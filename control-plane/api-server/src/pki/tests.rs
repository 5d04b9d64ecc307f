//! The certificates as a client meets them: files, renewal, and a real TLS handshake.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

fn config() -> PkiConfig {
    PkiConfig {
        node_name: "master-1".into(),
        advertise_address: "192.0.2.7".parse().expect("address"),
        service_address: "10.43.0.1".parse().expect("address"),
        cluster_domain: "cluster.local".into(),
        tls_sans: vec!["api.example.org".into()],
    }
}

#[test]
fn keys_are_private_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let tls = dir.path().join("tls");
    let first = Pki::load_or_create(&tls, &config()).expect("created");
    let again = Pki::load_or_create(&tls, &config()).expect("loaded");
    assert_eq!(first.ca_pem(), again.ca_pem());
    assert!(first.admin().expect("admin") == again.admin().expect("admin"));
    assert_eq!(
        first.token_keys().public_keys(),
        again.token_keys().public_keys()
    );
    let mode = |name: &str| {
        tls.join(name)
            .metadata()
            .expect("file")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode(""), mode("ca.key"), mode("sa.key"), mode("admin.key")),
        (0o700, 0o600, 0o600, 0o600)
    );
    let kubeconfig = dir.path().join("admin.kubeconfig");
    first
        .write_admin_kubeconfig(&kubeconfig, "https://127.0.0.1:6443")
        .expect("written");
    assert_eq!(
        kubeconfig.metadata().expect("file").permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_leaf_is_issued_again_when_old_or_out_of_date() {
    let dir = tempfile::tempdir().expect("directory");
    let pki = Pki::load_or_create(dir.path(), &config()).expect("created");
    let file = dir.path().join("apiserver.crt");
    let read = || std::fs::read_to_string(&file).expect("certificate");
    let first = read();
    let day = Duration::from_secs(86_400);
    pki.renew(SystemTime::now() + day * 200).expect("renewed");
    assert_eq!(first, read(), "more than a third of the lifetime is left");
    pki.renew(SystemTime::now() + day * 260).expect("renewed");
    let second = read();
    assert_ne!(first, second);
    let moved = PkiConfig {
        advertise_address: "192.0.2.8".parse().expect("address"),
        ..config()
    };
    Pki::load_or_create(dir.path(), &moved).expect("loaded");
    assert_ne!(second, read(), "the new address must be named");
}

#[test]
fn an_authority_without_its_key_is_refused() {
    let dir = tempfile::tempdir().expect("directory");
    Pki::load_or_create(dir.path(), &config()).expect("created");
    std::fs::remove_file(dir.path().join("ca.key")).expect("removed");
    let error = Pki::load_or_create(dir.path(), &config())
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
}

/// One connection from a client with `pair` to a server of `pki`; what the server thinks of the client.
async fn connect(
    pki: &Pki,
    pair: Option<&KeyPairPem>,
    server_name: &'static str,
) -> Result<PeerCertificate, String> {
    let acceptor = TlsAcceptor::from(pki.server_tls_config().expect("configuration"));
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let client = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![
                    CertificateDer::from_pem_slice(pair.certificate.as_bytes())
                        .expect("certificate"),
                ],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("key"),
            )
            .expect("pair"),
    };
    let (near, far) = tokio::io::duplex(65_536);
    let server = async {
        let mut stream = acceptor.accept(far).await.map_err(|e| e.to_string())?;
        let chain = stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap_or_default()
            .to_vec();
        stream.write_all(b"x").await.map_err(|e| e.to_string())?;
        stream.shutdown().await.map_err(|e| e.to_string())?;
        Ok(pki
            .client_trust()
            .expect("trust")
            .judge(&chain, UnixTime::now()))
    };
    let client = async {
        let name = server_name.try_into().expect("name");
        let mut stream = TlsConnector::from(Arc::new(client))
            .connect(name, near)
            .await
            .map_err(|e| e.to_string())?;
        stream.read_u8().await.map_err(|e| e.to_string())
    };
    let (server, client) = tokio::join!(server, client);
    client?;
    server
}

#[tokio::test]
async fn peers_are_told_apart() {
    let (here, elsewhere) = (
        tempfile::tempdir().expect("directory"),
        tempfile::tempdir().expect("directory"),
    );
    let pki = Pki::load_or_create(here.path(), &config()).expect("created");
    let other = Pki::load_or_create(elsewhere.path(), &config()).expect("created");

    assert_eq!(
        connect(&pki, None, "kubernetes.default.svc").await,
        Ok(PeerCertificate::None)
    );
    let node = pki
        .node_identity("n1", &["192.0.2.9".parse().expect("address")])
        .expect("node");
    let client = node.client.read().expect("files");
    match connect(&pki, Some(&client), "10.43.0.1")
        .await
        .expect("connected")
    {
        PeerCertificate::Client(c) => {
            assert_eq!(
                (c.common_name.as_str(), c.organizations.as_slice()),
                ("system:node:n1", &["system:nodes".into()][..])
            );
        }
        peer => panic!("{peer:?}"),
    }
    let proxy = pki.front_proxy_client().expect("pair");
    assert!(matches!(
        connect(&pki, Some(&proxy), "localhost").await,
        Ok(PeerCertificate::FrontProxy(_))
    ));
    let stranger = other.admin().expect("pair");
    assert!(matches!(
        connect(&pki, Some(&stranger), "api.example.org").await,
        Ok(PeerCertificate::Untrusted(_))
    ));
    // A serving certificate proves no client.
    let serving = node.serving.read().expect("files");
    assert!(matches!(
        connect(&pki, Some(&serving), "localhost").await,
        Ok(PeerCertificate::Untrusted(_))
    ));
    assert!(connect(&pki, None, "elsewhere.example.org").await.is_err());
}

#[derive(Debug)]
struct Clock(SystemTime);

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// The certificate that the server shows to a client whose clock is at `now`; none if the client does not trust it.
async fn shown(acceptor: &TlsAcceptor, pki: &Pki, now: SystemTime) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone()).expect("root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_details(provider, Arc::new(Clock(now)))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(65_536);
    let name = "localhost".try_into().expect("name");
    let connector = TlsConnector::from(Arc::new(client));
    let (_, client) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
    let stream = client.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

#[tokio::test]
async fn a_running_server_shows_its_renewed_certificate() {
    let dir = tempfile::tempdir().expect("directory");
    let pki = Pki::load_or_create(dir.path(), &config()).expect("created");
    let kubeconfig = dir.path().join("admin.kubeconfig");
    pki.write_admin_kubeconfig(&kubeconfig, "https://x")
        .expect("written");
    let node = pki.node_identity("n1", &[]).expect("node");
    let files = || {
        let read = |pair: &KeyPairFiles| pair.read().expect("files").certificate;
        let kubeconfig = std::fs::read_to_string(&kubeconfig).expect("kubeconfig");
        [read(&node.client), read(&node.serving), kubeconfig]
    };
    // Made once, as the listener's is.
    let acceptor = TlsAcceptor::from(pki.server_tls_config().expect("configuration"));
    let day = Duration::from_secs(86_400);
    let (start, later) = (SystemTime::now(), SystemTime::now() + day * 260);
    let first = shown(&acceptor, &pki, start).await.expect("trusted");
    let before = files();
    assert_eq!(shown(&acceptor, &pki, start).await.as_ref(), Some(&first));
    let after_its_end = start + day * 370;
    assert_eq!(shown(&acceptor, &pki, after_its_end).await, None, "expired");
    pki.renew(later).expect("renewed");
    let second = shown(&acceptor, &pki, after_its_end)
        .await
        .expect("trusted");
    assert_ne!(first, second);
    for (before, after) in before.iter().zip(&files()) {
        assert_ne!(before, after, "renewed with the rest");
    }
}

#[test]
fn a_request_is_signed_with_its_own_names_and_our_usages() {
    let dir = tempfile::tempdir().expect("directory");
    let pki = Pki::load_or_create(dir.path(), &config()).expect("created");
    let key = rcgen::KeyPair::generate().expect("key");
    let mut params = rcgen::CertificateParams::new(vec!["n1".to_owned(), "192.0.2.9".to_owned()])
        .expect("params");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "system:node:n1");
    let csr = params
        .serialize_request(&key)
        .expect("request")
        .pem()
        .expect("pem");
    let summary = parse_csr(csr.as_bytes()).expect("parsed");
    assert_eq!(
        summary,
        CsrSummary {
            common_name: "system:node:n1".into(),
            organizations: vec!["system:nodes".into()],
            dns_names: vec!["n1".into()],
            ip_addresses: vec!["192.0.2.9".parse().expect("address")],
            ..CsrSummary::default()
        }
    );
    let usages = [
        CertificateUsage::DigitalSignature,
        CertificateUsage::ClientAuth,
    ];
    let request = SignRequest {
        csr_pem: &csr,
        usages: &usages,
        lifetime: Duration::from_secs(3600),
    };
    let pem = pki
        .signer()
        .sign_client_csr(&request, SystemTime::now())
        .expect("signed");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("certificate");
    let trust = pki.client_trust().expect("trust");
    assert!(matches!(
        trust.judge(std::slice::from_ref(&der), UnixTime::now()),
        PeerCertificate::Client(_)
    ));
    let later = UnixTime::since_unix_epoch(Duration::from_secs(unix_now() + 3700));
    assert!(matches!(
        trust.judge(&[der], later),
        PeerCertificate::Untrusted(_)
    ));
    assert!(parse_csr(b"garbage").is_err());
}

fn unix_now() -> u64 {
    authority::unix_seconds(SystemTime::now())
}
