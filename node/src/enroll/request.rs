//! Certificate requests: what a node asks for, and how it waits for the answer.

use std::net::IpAddr;

use futures::TryStreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::{EnrollConfig, EnrollError};

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To show oneself to the API.
    Client,
    /// To be trusted by the API server.
    Serving,
}

/// Whose certificate it is and what it says.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    purpose: Purpose,
    node_name: String,
    node_ip: IpAddr,
}

/// A certificate and its key in PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

fn failed(error: rcgen::Error) -> EnrollError {
    EnrollError::Certificate(error.to_string())
}

impl Subject {
    pub(super) fn of(config: &EnrollConfig, purpose: Purpose) -> Self {
        Self {
            purpose,
            node_name: config.node_name.clone(),
            node_ip: config.node_ip,
        }
    }

    fn params(&self) -> Result<CertificateParams, EnrollError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(
            DnType::CommonName,
            format!("system:node:{}", self.node_name),
        );
        if self.purpose == Purpose::Serving {
            let name = self.node_name.clone().try_into().map_err(failed)?;
            params.subject_alt_names =
                vec![SanType::DnsName(name), SanType::IpAddress(self.node_ip)];
        }
        Ok(params)
    }

    fn signer(&self) -> (&'static str, &'static str) {
        match self.purpose {
            Purpose::Client => ("kubernetes.io/kube-apiserver-client-kubelet", "client auth"),
            Purpose::Serving => ("kubernetes.io/kubelet-serving", "server auth"),
        }
    }
}

/// A certificate that nobody trusts, until the cluster has given a better one.
pub(super) fn self_signed(subject: &Subject) -> Result<Pair, EnrollError> {
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = subject.params()?.self_signed(&key).map_err(failed)?;
    Ok(Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a key, asks the cluster to certify it, and waits until it has.
pub(super) async fn certificate(client: &Client, subject: &Subject) -> Result<Pair, EnrollError> {
    let key = KeyPair::generate().map_err(failed)?;
    let request = subject.params()?.serialize_request(&key).map_err(failed)?;
    let (signer, usage) = subject.signer();
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta {
            generate_name: Some("csr-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.pem().map_err(failed)?.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = api
        .create(&PostParams::default(), &wanted)
        .await
        .map_err(refused)?;
    let certificate = issued(api, &made.name_any()).await?;
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn refused(error: kube::Error) -> EnrollError {
    match error {
        kube::Error::Api(status) if status.code == 401 => EnrollError::UnknownToken,
        kube::Error::Api(status) => EnrollError::Refused(status.message.clone()),
        other => EnrollError::Refused(other.to_string()),
    }
}

async fn issued(api: Api<CertificateSigningRequest>, name: &str) -> Result<String, EnrollError> {
    let gone = || EnrollError::Refused(format!("the request {name} was deleted"));
    let stream = watcher::watch_object(api, name).default_backoff();
    let mut stream = std::pin::pin!(stream);
    loop {
        let request = match stream.try_next().await {
            Ok(Some(Some(request))) => request,
            Ok(Some(None)) | Ok(None) => return Err(gone()),
            Err(error) => {
                tracing::info!(%error, "waiting for the certificate");
                continue;
            }
        };
        let status = request.status.unwrap_or_default();
        for condition in status.conditions.unwrap_or_default() {
            if matches!(condition.type_.as_str(), "Denied" | "Failed") {
                return Err(EnrollError::Refused(format!(
                    "the request {name} was {}: {}",
                    condition.type_.to_lowercase(),
                    condition.message.unwrap_or_default()
                )));
            }
        }
        if let Some(certificate) = status.certificate {
            return String::from_utf8(certificate.0)
                .map_err(|e| EnrollError::Certificate(e.to_string()));
        }
    }
}
