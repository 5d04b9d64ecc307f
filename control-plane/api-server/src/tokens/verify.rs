//! Checking a service-account token: signature (remembered), time, audience, and that what it is bound to still exists.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use parking_lot::RwLock;
use serde_json::Value;

use super::ServiceAccountTokens;
use super::claims::{Claims, Reference};
use crate::identity::UserInfo;

/// Tokens whose signature is remembered.
const REMEMBERED_LIMIT: usize = 4096;
/// Clocks may differ by this, and an object that is being deleted keeps its tokens for this long.
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// Why a token is not good; the text is upstream's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    #[error("invalid bearer token")]
    Invalid,
    #[error("service account token has expired")]
    Expired,
    #[error("service account token is not valid yet")]
    NotValidYet,
    #[error("token audiences {token:?} is invalid for the target audiences {target:?}")]
    Audience {
        token: Vec<String>,
        target: Vec<String>,
    },
    #[error("serviceaccounts {0:?} not found")]
    NoServiceAccount(String),
    #[error("{kind} UID ({now}) does not match {what} ({claimed})")]
    OtherUid {
        kind: &'static str,
        what: &'static str,
        now: String,
        claimed: String,
    },
    #[error("service account {0} has been deleted")]
    Deleted(String),
    #[error("service account token has been invalidated")]
    Invalidated,
}

/// Claims by the digest of their token, for tokens whose signature was found good.
#[derive(Default)]
pub(super) struct VerifiedTokens(RwLock<HashMap<[u8; 32], Arc<Claims>>>);

impl VerifiedTokens {
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        self.0.read().get(digest).cloned()
    }

    pub(super) fn put(&self, digest: [u8; 32], claims: Arc<Claims>, now: Timestamp) {
        let mut held = self.0.write();
        if held.len() >= REMEMBERED_LIMIT {
            held.retain(|_, c| c.exp > now.as_second());
            if held.len() >= REMEMBERED_LIMIT {
                held.clear();
            }
        }
        held.insert(digest, claims);
    }
}

impl ServiceAccountTokens {
    /// Whose token it is and for which of `audiences` it is good (empty: the API server's own). `None` if it is not one
    /// of ours.
    pub(crate) fn authenticate(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Option<Result<(UserInfo, Vec<String>), TokenError>> {
        let target = if audiences.is_empty() {
            self.audiences()
        } else {
            audiences
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let digest: [u8; 32] = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        if let Some(claims) = self.0.keys.remembered(&digest) {
            return Some(self.check(&claims, target, now));
        }
        if !self.is_ours(token) {
            return None;
        }
        let Some(claims) = self.0.keys.open(token, digest, now) else {
            return Some(Err(TokenError::Invalid));
        };
        Some(self.check(&claims, target, now))
    }

    fn check(
        &self,
        claims: &Claims,
        target: &[String],
        now: Timestamp,
    ) -> Result<(UserInfo, Vec<String>), TokenError> {
        if claims.exp < (now - LEEWAY).as_second() {
            return Err(TokenError::Expired);
        }
        if claims.nbf.max(claims.iat) > (now + LEEWAY).as_second() {
            return Err(TokenError::NotValidYet);
        }
        let good_for: Vec<String> = target
            .iter()
            .filter(|a| claims.aud.contains(a))
            .cloned()
            .collect();
        if good_for.is_empty() {
            return Err(TokenError::Audience {
                token: claims.aud.clone(),
                target: target.to_vec(),
            });
        }
        self.check_bound(claims, now)?;
        Ok((user(claims), good_for))
    }

    /// Reads the issuer without checking anything.
    fn is_ours(&self, token: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Issuer {
            iss: String,
        }
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let payload = URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
        serde_json::from_slice::<Issuer>(&payload)
            .is_ok_and(|claims| claims.iss == self.0.config.issuer)
    }

    fn check_bound(&self, claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
        let bound = &claims.kubernetes;
        let account = &bound.serviceaccount;
        let object = self
            .0
            .reader
            .get("", "serviceaccounts", &bound.namespace, &account.name)
            .ok_or_else(|| TokenError::NoServiceAccount(account.name.clone()))?;
        check_uid(&object, account, "service account", "claim")?;
        if was_deleted(&object, now) {
            return Err(TokenError::Deleted(format!(
                "{}/{}",
                bound.namespace, account.name
            )));
        }
        let mut references = vec![
            (
                "secret",
                "secrets",
                "service account secret ref claim",
                bound.namespace.as_str(),
                &bound.secret,
            ),
            (
                "pod",
                "pods",
                "service account pod ref claim",
                bound.namespace.as_str(),
                &bound.pod,
            ),
        ];
        // A pod's token names the node for information only.
        if bound.pod.is_none() {
            references.push((
                "node",
                "nodes",
                "service account node ref claim",
                "",
                &bound.node,
            ));
        }
        for (kind, plural, what, namespace, reference) in references {
            let Some(reference) = reference else { continue };
            let object = self
                .0
                .reader
                .get("", plural, namespace, &reference.name)
                .ok_or(TokenError::Invalidated)?;
            check_uid(&object, reference, kind, what)?;
            if was_deleted(&object, now) {
                return Err(TokenError::Invalidated);
            }
        }
        Ok(())
    }
}

fn check_uid(
    object: &Value,
    claimed: &Reference,
    kind: &'static str,
    what: &'static str,
) -> Result<(), TokenError> {
    let now = object["metadata"]["uid"].as_str().unwrap_or_default();
    if now == claimed.uid {
        return Ok(());
    }
    Err(TokenError::OtherUid {
        kind,
        what,
        now: now.into(),
        claimed: claimed.uid.clone(),
    })
}

fn was_deleted(object: &Value, now: Timestamp) -> bool {
    let at = object["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|t| t.parse::<Timestamp>().ok());
    at.is_some_and(|at| at < now - LEEWAY)
}

fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let mut extra = BTreeMap::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(
                format!("authentication.kubernetes.io/{key}"),
                vec![value.to_owned()],
            );
        }
    };
    if !claims.jti.is_empty() {
        put("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        put("pod-name", &pod.name);
        put("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        put("node-name", &node.name);
        put("node-uid", &node.uid);
    }
    UserInfo {
        name: service_account_user(&bound.namespace, &bound.serviceaccount.name),
        uid: bound.serviceaccount.uid.clone(),
        groups: service_account_groups(&bound.namespace).into(),
        extra,
    }
}

/// The user name of a service account.
pub(super) fn service_account_user(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The groups of a service account, but for `system:authenticated`.
pub(crate) fn service_account_groups(namespace: &str) -> [String; 2] {
    [
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}"),
    ]
}
