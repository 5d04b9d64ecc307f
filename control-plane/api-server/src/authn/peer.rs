//! Users by certificate: the client's own, or whom a front proxy names in headers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::RwLock;
use rustls::pki_types::{CertificateDer, UnixTime};

use super::{AUTHENTICATED, add_group};
use crate::identity::{PeerCertificates, UserInfo};
use crate::pki::{ClientCertificate, ClientTrust, PeerCertificate};
use crate::request::decode;

/// Chains whose verification is remembered.
const REMEMBERED_LIMIT: usize = 4096;

/// Judges chains once, as long as they do not expire.
pub(super) struct JudgedPeers {
    trust: ClientTrust,
    good: RwLock<Good>,
}

/// Chains that were found good while the same CAs were trusted.
#[derive(Default)]
struct Good {
    generation: u64,
    chains: HashMap<Arc<[CertificateDer<'static>]>, PeerCertificate>,
}

impl JudgedPeers {
    pub(super) fn new(trust: ClientTrust) -> Self {
        Self {
            trust,
            good: RwLock::default(),
        }
    }

    pub(super) fn judge(&self, peer: &PeerCertificates, now: Timestamp) -> PeerCertificate {
        let generation = self.trust.generation();
        if let Some(known) = self.remembered(peer, generation) {
            let (PeerCertificate::Client(c) | PeerCertificate::FrontProxy(c)) = &known else {
                unreachable!("only good ones are kept")
            };
            if c.not_after > now.as_second() {
                return known;
            }
        }
        let now =
            UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().max(0).unsigned_abs()));
        let judged = self.trust.judge(&peer.0, now);
        if matches!(
            judged,
            PeerCertificate::Client(_) | PeerCertificate::FrontProxy(_)
        ) {
            let mut good = self.good.write();
            if good.generation < generation || good.chains.len() >= REMEMBERED_LIMIT {
                good.chains.clear();
                good.generation = generation;
            }
            if good.generation == generation {
                good.chains.insert(peer.0.clone(), judged.clone());
            }
        }
        judged
    }

    fn remembered(&self, peer: &PeerCertificates, generation: u64) -> Option<PeerCertificate> {
        let good = self.good.read();
        let known = good.chains.get(&peer.0);
        known.filter(|_| good.generation == generation).cloned()
    }
}

/// CN is the user, O are its groups.
pub(super) fn certificate_user(certificate: &ClientCertificate) -> UserInfo {
    let mut user = UserInfo {
        name: certificate.common_name.clone(),
        groups: certificate.organizations.clone(),
        ..UserInfo::default()
    };
    let id = format!("X509SHA256={}", certificate.fingerprint);
    user.extra.insert(
        "authentication.kubernetes.io/credential-id".into(),
        vec![id],
    );
    add_group(&mut user, AUTHENTICATED);
    user
}

/// Whom a front proxy speaks for: `X-Remote-User`, `-Uid`, `-Group` and `-Extra-KEY`.
pub(super) fn forwarded_user(headers: &HeaderMap) -> Option<UserInfo> {
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok().map(String::from))
            .collect()
    };
    let name = all("x-remote-user")
        .into_iter()
        .next()
        .filter(|n| !n.is_empty())?;
    let mut user = UserInfo {
        name,
        uid: all("x-remote-uid").into_iter().next().unwrap_or_default(),
        groups: all("x-remote-group"),
        extra: extra(headers, "x-remote-extra-"),
    };
    add_group(&mut user, AUTHENTICATED);
    Some(user)
}

/// The headers `PREFIXkey: value`; keys are lower-case and percent-decoded.
pub(super) fn extra(headers: &HeaderMap, prefix: &str) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(prefix), value.to_str()) {
            extra
                .entry(decode(key).into_owned())
                .or_default()
                .push(value.into());
        }
    }
    extra
}
