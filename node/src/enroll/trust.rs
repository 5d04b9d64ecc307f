//! Which CA a cluster has, and whether it is the one that the token names. Nothing secret is sent here.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::config::Kubeconfig;
use kube::{Api, Client, Config};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::EnrollError;

/// Reads `kube-public/cluster-info` from a server that is not trusted yet; gives the PEM of the CA whose public key has this hash.
///
/// # Errors
/// When the server does not answer, or has another CA.
pub async fn cluster_ca(server: &str, wanted: &[u8; 32]) -> Result<String, EnrollError> {
    // While the CA is changed there are two. Only the one that the hash names is trusted: nobody vouches for the other here.
    let mut others = Vec::new();
    for (hash, certificate) in told(server).await? {
        if hash == *wanted {
            return Ok(certificate);
        }
        others.push(hash);
    }
    Err(EnrollError::WrongCa {
        server: server.to_owned(),
        found: hex_list(&others),
        wanted: hex::encode(wanted),
    })
}

/// The hashes of the CAs that a server names, if none of them is held. None as well if it does not say: then nothing is known.
pub(super) async fn other_ca(server: &str, held: &[[u8; 32]]) -> Option<Vec<[u8; 32]>> {
    let told = told(server).await.ok()?;
    let hashes: Vec<[u8; 32]> = told.into_iter().map(|(hash, _)| hash).collect();
    (!hashes.iter().any(|hash| held.contains(hash))).then_some(hashes)
}

/// As people are shown them.
pub(super) fn hex_list(hashes: &[[u8; 32]]) -> String {
    let hashes: Vec<String> = hashes.iter().map(hex::encode).collect();
    hashes.join(" and ")
}

/// The CAs that a server names in `kube-public/cluster-info`, in PEM, each with its hash. Nobody vouches for them.
async fn told(server: &str) -> Result<Vec<([u8; 32], String)>, EnrollError> {
    let unusable = |reason: String| EnrollError::ClusterInfo {
        server: server.to_owned(),
        reason,
    };
    let url = server
        .parse()
        .map_err(|_| unusable("the address is not of the form https://HOST:PORT".to_owned()))?;
    let mut config = Config::new(url);
    // Trust comes from a hash, not from this connection.
    config.accept_invalid_certs = true;
    let client = Client::try_from(config).map_err(|e| unusable(e.to_string()))?;
    let api: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let info = api.get("cluster-info").await.map_err(|e| match e {
        kube::Error::Api(status) => unusable(status.message.clone()),
        other => EnrollError::Unreachable {
            server: server.to_owned(),
            message: innermost(&other),
        },
    })?;
    let text = info.data.unwrap_or_default().remove("kubeconfig");
    let text = text.ok_or_else(|| unusable("cluster-info holds no kubeconfig".to_owned()))?;
    hashed(&ca_of(&text).map_err(unusable)?).map_err(unusable)
}

/// Each certificate of a PEM text with the hash of its public key.
pub(super) fn hashed(pem: &str) -> Result<Vec<([u8; 32], String)>, String> {
    pem_certificates(pem)
        .map(|certificate| Ok((pem_key_hash(certificate.as_bytes())?, certificate)))
        .collect()
}

/// The certificates of a PEM text, each as a text of its own.
fn pem_certificates(pem: &str) -> impl Iterator<Item = String> + '_ {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END).filter(|part| part.contains(END));
    parts.map(|part| format!("{}\n", part.trim()))
}

/// The last cause, which says what really happened.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

fn ca_of(kubeconfig: &str) -> Result<String, String> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|e| e.to_string())?;
    let cluster = kubeconfig.clusters.into_iter().next();
    let data = cluster
        .and_then(|named| named.cluster)
        .and_then(|cluster| cluster.certificate_authority_data)
        .ok_or("cluster-info names no CA")?;
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data)
        .map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| e.to_string())
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo, as in kubeadm's `--discovery-token-ca-cert-hash`. The certificate is DER.
///
/// # Errors
/// What is wrong with the certificate.
pub fn key_hash(der: &[u8]) -> Result<[u8; 32], String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|e| e.to_string())?;
    Ok(Sha256::digest(certificate.public_key().raw).into())
}

/// The same of a certificate in PEM.
///
/// # Errors
/// What is wrong with the certificate.
pub fn pem_key_hash(pem: &[u8]) -> Result<[u8; 32], String> {
    key_hash(&pem_der(pem)?)
}

/// The first certificate of a PEM text, in DER.
///
/// # Errors
/// What is wrong with the text.
pub fn pem_der(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).map_err(|e| e.to_string())?;
    Ok(pem.contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_public_key() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .expect("a certificate");
        let wanted: [u8; 32] =
            Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into();
        assert_eq!(key_hash(certificate.der()), Ok(wanted));
        assert!(key_hash(b"nothing").is_err());
    }
}
