//! Signs approved requests with the cluster's CA.

use std::sync::Arc;
use std::time::Duration;

use api_client::{Informer, ObjectKey};
use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::request::{check, read};
use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, has_condition, is_issued};
use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::options::SigningAuthority;

/// No certificate is issued for a shorter time.
const SHORTEST: Duration = Duration::from_secs(600);
/// Clocks that are this much behind still accept a new certificate.
const BACKDATE: SignedDuration = SignedDuration::from_secs(300);

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let requests = context.informer::<CertificateSigningRequest>();
    enqueue_on_change(&requests, queue);
    Arc::new(Signing {
        context: context.clone(),
        requests,
    })
}

struct Signing {
    context: Context,
    requests: Informer<CertificateSigningRequest>,
}

#[async_trait]
impl Controller for Signing {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(request) = self.requests.get(key) else {
            return Ok(());
        };
        let ours = [API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING]
            .contains(&request.spec.signer_name.as_str());
        let Some(authority) = self
            .context
            .options
            .signing_authority
            .as_ref()
            .filter(|_| ours)
        else {
            return Ok(());
        };
        if !has_condition(&request, "Approved")
            || has_condition(&request, "Denied")
            || has_condition(&request, "Failed")
            || is_issued(&request)
        {
            return Ok(());
        }
        let asked = read(&request)?;
        let usages = request.spec.usages.as_deref().unwrap_or_default();
        let mut changed = (*request).clone();
        let status = changed.status.get_or_insert_default();
        let now = self.context.now();
        let refusal = match check(&request.spec.signer_name, &asked, usages) {
            Err(message) => Some(message),
            // The certificate library keeps one value per attribute: better none than one with fewer groups.
            Ok(()) if asked.organizations.len() > 1 => Some(
                "requests with more than one subject organization are not supported".to_owned(),
            ),
            Ok(()) => None,
        };
        match refusal {
            Some(message) => status
                .conditions
                .get_or_insert_default()
                .push(failure(message, now)),
            None => {
                let lifetime = lifetime(
                    request.spec.expiration_seconds,
                    self.context.options.signing_duration,
                );
                let pem = String::from_utf8_lossy(&request.spec.request.0).into_owned();
                let certificate =
                    sign(authority, &pem, usages, lifetime, now).map_err(|error| {
                        Error::Certificate(format!("error auto signing csr: {error}"))
                    })?;
                status.certificate = Some(ByteString(certificate.into_bytes()));
            }
        }
        self.context.client.update_status(&changed).await?;
        Ok(())
    }
}

fn failure(message: String, now: Timestamp) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: "Failed".into(),
        status: "True".into(),
        reason: Some("SignerValidationFailure".into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn lifetime(asked_seconds: Option<i32>, longest: Duration) -> Duration {
    let asked =
        asked_seconds.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
    asked.map_or(longest, |asked| asked.max(SHORTEST).min(longest))
}

/// Subject, names and key are the request's; everything else is the signer's. Answers PEM.
fn sign(
    authority: &SigningAuthority,
    request_pem: &str,
    usages: &[String],
    lifetime: Duration,
    now: Timestamp,
) -> Result<String, rcgen::Error> {
    let key = KeyPair::from_pem(&authority.key_pem)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate_pem, key)?;
    let mut request = CertificateSigningRequestParams::from_pem(request_pem)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = request.params.distinguished_name.clone();
    params.subject_alt_names = request.params.subject_alt_names.clone();
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    for usage in usages {
        match usage.as_str() {
            "digital signature" | "signing" => {
                params.key_usages.push(KeyUsagePurpose::DigitalSignature)
            }
            "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
            "key agreement" => params.key_usages.push(KeyUsagePurpose::KeyAgreement),
            "client auth" => params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth),
            "server auth" => params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth),
            // Every other usage was refused by the check of the signer.
            _ => {}
        }
    }
    let time = |at: Timestamp| -> std::time::SystemTime { at.into() };
    params.not_before = time(now - BACKDATE).into();
    let until =
        now + SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::from_secs(0)) - BACKDATE;
    params.not_after = time(until).into();
    request.params = params;
    Ok(request.signed_by(&issuer)?.pem() + &authority.chain_pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, DnType};

    fn authority() -> SigningAuthority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        SigningAuthority {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            chain_pem: String::new(),
        }
    }

    fn request(names: Vec<String>) -> String {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "system:node:n1");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params
            .serialize_request(&key)
            .expect("a request")
            .pem()
            .expect("PEM")
    }

    #[test]
    fn a_signed_certificate_says_what_was_asked_and_no_more() {
        let usages = ["digital signature".to_owned(), "server auth".to_owned()];
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let pem = sign(
            &authority(),
            &request(vec!["n1".into()]),
            &usages,
            Duration::from_secs(3600),
            now,
        )
        .expect("signed");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("PEM");
        let certificate = block.parse_x509().expect("a certificate");
        assert!(
            certificate
                .subject()
                .to_string()
                .contains("CN=system:node:n1")
        );
        assert_eq!(certificate.issuer().to_string(), "CN=ca");
        let validity = certificate.validity();
        assert_eq!(validity.not_before.timestamp(), now.as_second() - 300);
        assert_eq!(validity.not_after.timestamp(), now.as_second() + 3300);
        let purposes = certificate
            .extended_key_usage()
            .expect("valid")
            .expect("there")
            .value;
        assert!(purposes.server_auth && !purposes.client_auth);
        assert!(!certificate.is_ca());
    }

    #[test]
    fn lifetimes_stay_within_bounds() {
        let year = Duration::from_secs(365 * 24 * 3600);
        let check = |asked, expect| assert_eq!(lifetime(asked, year).as_secs(), expect);
        check(None, year.as_secs());
        check(Some(7200), 7200);
        check(Some(1), 600);
        check(Some(i32::MAX), year.as_secs());
    }
}
