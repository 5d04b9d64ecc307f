//! Authentication: who sent a request, by front-proxy headers, client certificate or bearer token; or nobody known.
//!
//! Tried in upstream's order; the first that knows the sender counts. Credentials that none accepts are answered with
//! 401, no credentials at all make the request anonymous (and RBAC decides what that may see). Impersonation is a second
//! step, because it needs authorization.

mod impersonation;
mod peer;

use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use jiff::Timestamp;

use crate::identity::{Authenticator, PeerCertificates, UserInfo};
use crate::pki::{ClientTrust, PeerCertificate};
use crate::plugin::ObjectReader;
use crate::tokens::{ServiceAccountTokens, TokenError, bootstrap_user};

use peer::JudgedPeers;

pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// The only front proxy that is believed.
const FRONT_PROXY_NAME: &str = "front-proxy-client";
const WEBSOCKET_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// All ways to show oneself. Cheap to clone.
#[derive(Clone)]
pub struct Authentication(Arc<Shared>);

struct Shared {
    peers: JudgedPeers,
    tokens: ServiceAccountTokens,
    reader: Arc<dyn ObjectReader>,
    /// Whether requests without credentials are let through to authorization.
    anonymous: bool,
}

impl Authentication {
    pub fn new(
        trust: ClientTrust,
        tokens: ServiceAccountTokens,
        reader: Arc<dyn ObjectReader>,
        anonymous: bool,
    ) -> Self {
        Self(Arc::new(Shared {
            peers: JudgedPeers::new(trust),
            tokens,
            reader,
            anonymous,
        }))
    }

    /// Whose bearer token it is, and for which of `audiences` (empty: the API server's own) it is good.
    pub(crate) fn token(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(UserInfo, Vec<String>), TokenError> {
        let (mut user, audiences) = match self.0.tokens.authenticate(token, audiences, now) {
            Some(answer) => answer?,
            None => {
                let own = self.0.tokens.audiences();
                let good_for = if audiences.is_empty() { own } else { audiences };
                let good_for = good_for
                    .iter()
                    .filter(|a| own.contains(a))
                    .cloned()
                    .collect();
                (
                    bootstrap_user(&*self.0.reader, token, now).ok_or(TokenError::Invalid)?,
                    good_for,
                )
            }
        };
        add_group(&mut user, AUTHENTICATED);
        Ok((user, audiences))
    }

    fn find(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status> {
        let now = Timestamp::now();
        let peer = peer.map_or(PeerCertificate::None, |p| self.0.peers.judge(p, now));
        let mut rejected = None;
        match &peer {
            PeerCertificate::FrontProxy(proxy) => {
                match peer::forwarded_user(headers)
                    .filter(|_| proxy.common_name == FRONT_PROXY_NAME)
                {
                    Some(user) => return Ok(Some(user)),
                    // It is no client's certificate either.
                    None => rejected = Some("a front proxy that speaks for nobody".to_owned()),
                }
            }
            PeerCertificate::Client(certificate) => {
                return Ok(Some(peer::certificate_user(certificate)));
            }
            PeerCertificate::Untrusted(reason) => rejected = Some(reason.clone()),
            PeerCertificate::None => {}
        }
        if let Some(token) = bearer_token(headers) {
            match self.token(&token, &[], now) {
                Ok((user, _)) => return Ok(Some(user)),
                Err(error) => rejected = Some(error.to_string()),
            }
        }
        match rejected {
            Some(reason) => {
                tracing::debug!(reason, "credentials refused");
                Err(Status::unauthorized("Unauthorized"))
            }
            None => Ok(None),
        }
    }
}

fn bearer_token(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
            .then(|| token.to_owned());
    }
    // Browsers cannot set the header on a WebSocket.
    use base64::Engine;
    let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let encoded = protocols
        .split(',')
        .find_map(|p| p.trim().strip_prefix(WEBSOCKET_TOKEN_PREFIX))?;
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(encoded)
        .ok()?;
    String::from_utf8(token).ok()
}

fn add_group(user: &mut UserInfo, group: &str) {
    if !user.is_in_group(group) {
        user.groups.push(group.into());
    }
}

/// The user of requests without credentials.
pub(crate) fn anonymous() -> UserInfo {
    UserInfo {
        name: ANONYMOUS.into(),
        groups: vec![UNAUTHENTICATED.into()],
        ..UserInfo::default()
    }
}

#[async_trait]
impl Authenticator for Authentication {
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status> {
        match self.find(headers, peer)? {
            Some(user) => Ok(Some(user)),
            None if self.0.anonymous => Ok(Some(anonymous())),
            None => Err(Status::unauthorized("Unauthorized")),
        }
    }
}

#[cfg(test)]
mod tests;
