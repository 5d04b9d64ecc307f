//! Who is asking, and whether they may: the two questions of security, as interfaces.
//!
//! The pipeline asks them; the modules that answer (certificates, tokens, RBAC) are behind these traits, so that the
//! pipeline knows no mechanism and no mechanism knows HTTP serving.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use http::HeaderMap;
use rustls::pki_types::CertificateDer;

use crate::request::RequestInfo;

/// A user, as authentication found it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn is_in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// The chain of certificates that a client showed in its TLS handshake, its own first. Checked against no CA yet.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// Finds out who sent a request.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `None` where the request carries no credentials that this authenticator knows; an error where it carries bad
    /// ones.
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status>;
}

/// What an authorizer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    Deny,
    /// Ask the next one; nobody's opinion is a denial.
    NoOpinion,
}

/// What an authorizer says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    /// For the answer's message and the audit log; may be empty.
    pub reason: String,
}

impl Decision {
    pub fn allow(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Allow,
            reason: reason.into(),
        }
    }

    pub fn deny(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::Deny,
            reason: reason.into(),
        }
    }

    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self {
            verdict: Verdict::NoOpinion,
            reason: reason.into(),
        }
    }

    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

/// Decides whether a user may do what a request asks. Answers from memory, without waiting.
pub trait Authorizer: Send + Sync + 'static {
    fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision;
}

/// Acting as someone else (`kubectl --as`).
pub trait Impersonation: Send + Sync + 'static {
    /// The user that the headers ask to be; `None` where they do not ask.
    ///
    /// # Errors
    /// 403 where `user` may not.
    fn impersonate(&self, user: &UserInfo, headers: &HeaderMap)
    -> Result<Option<UserInfo>, Status>;
}
