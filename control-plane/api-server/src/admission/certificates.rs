//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and CertificateSubjectRestriction: who may approve
//! and sign for which signer, and that no certificate makes a superuser.

use api_machinery::{ObjectExt, Status, go_quote};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::forbid;
use crate::authz::{AccessQuery, Authorization, SUPERUSERS};
use crate::identity::UserInfo;
use crate::pki::parse_csr;
use crate::plugin::{Admission, Attributes, Operation};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether `user` has `verb` on a signer: on its very name or on all of its domain (`DOMAIN/*`).
fn is_authorized(authorization: &Authorization, user: &UserInfo, verb: &str, signer: &str) -> bool {
    let ask = |name: &str| {
        let query = AccessQuery {
            verb,
            is_resource: true,
            group: GROUP,
            resource: "signers",
            name,
            ..AccessQuery::default()
        };
        authorization.decide(user, &query).is_allowed()
    };
    ask(signer)
        || signer
            .split_once('/')
            .is_some_and(|(domain, _)| ask(&format!("{domain}/*")))
}

pub(super) struct CertificateApproval {
    pub(super) authorization: Authorization,
}

#[async_trait]
impl Admission for CertificateApproval {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "certificatesigningrequests/approval")
            && attributes.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        // Of the old object: the signer cannot be changed on the way.
        let signer = attributes
            .old
            .as_ref()
            .map(|old| old.text(&["spec", "signerName"]))
            .unwrap_or_default();
        if is_authorized(&self.authorization, &attributes.user, "approve", signer) {
            return Ok(());
        }
        let reason = format!(
            "user not permitted to approve requests with signerName {}",
            go_quote(signer)
        );
        Err(forbid(attributes, reason))
    }
}

pub(super) struct CertificateSigning {
    pub(super) authorization: Authorization,
}

#[async_trait]
impl Admission for CertificateSigning {
    fn name(&self) -> &'static str {
        "CertificateSigning"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "certificatesigningrequests/status")
            && attributes.operation == Operation::Update
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else {
            return Ok(());
        };
        if ["certificate", "conditions"]
            .iter()
            .all(|field| new["status"][field] == old["status"][field])
        {
            return Ok(());
        }
        let signer = old.text(&["spec", "signerName"]);
        if is_authorized(&self.authorization, &attributes.user, "sign", signer) {
            return Ok(());
        }
        Err(forbid(
            attributes,
            format!(
                "user not permitted to sign requests with signerName {}",
                go_quote(signer)
            ),
        ))
    }
}

pub(super) struct ClusterTrustBundleAttest {
    pub(super) authorization: Authorization,
}

#[async_trait]
impl Admission for ClusterTrustBundleAttest {
    fn name(&self) -> &'static str {
        "ClusterTrustBundleAttest"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "clustertrustbundles")
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let signer = attributes
            .object
            .as_ref()
            .map(|o| o.text(&["spec", "signerName"]))
            .unwrap_or_default();
        if signer.is_empty()
            || is_authorized(&self.authorization, &attributes.user, "attest", signer)
        {
            return Ok(());
        }
        Err(forbid(
            attributes,
            format!(
                "user not permitted to attest for signerName {}",
                go_quote(signer)
            ),
        ))
    }
}

pub(super) struct CertificateSubjectRestriction;

#[async_trait]
impl Admission for CertificateSubjectRestriction {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "certificatesigningrequests")
            && attributes.operation == Operation::Create
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(request) = &attributes.object else {
            return Ok(());
        };
        if request.text(&["spec", "signerName"]) != CLIENT_SIGNER {
            return Ok(());
        }
        let pem = STANDARD
            .decode(request.text(&["spec", "request"]))
            .unwrap_or_default();
        let summary = parse_csr(&pem)
            .map_err(|error| forbid(attributes, format!("failed to parse CSR: {error}")))?;
        if summary.organizations.iter().any(|o| o == SUPERUSERS) {
            let reason =
                format!("use of {CLIENT_SIGNER} signer with {SUPERUSERS} group is not allowed");
            return Err(forbid(attributes, reason));
        }
        Ok(())
    }
}

/// Notes on a new request who asked for it; clients cannot say so themselves. Upstream does it in the storage of the kind.
pub(super) struct CertificateRequester;

#[async_trait]
impl Admission for CertificateRequester {
    fn name(&self) -> &'static str {
        "CertificateRequester"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is(GROUP, "certificatesigningrequests")
            && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let user = attributes.user.clone();
        let Some(spec) = attributes
            .object
            .as_mut()
            .and_then(|o| o["spec"].as_object_mut())
        else {
            return Ok(());
        };
        for field in ["username", "uid", "groups", "extra"] {
            spec.remove(field);
        }
        spec.insert("username".into(), user.name.as_str().into());
        if !user.uid.is_empty() {
            spec.insert("uid".into(), user.uid.as_str().into());
        }
        if !user.groups.is_empty() {
            spec.insert("groups".into(), user.groups.clone().into());
        }
        if !user.extra.is_empty() {
            spec.insert("extra".into(), serde_json::json!(user.extra));
        }
        Ok(())
    }
}
