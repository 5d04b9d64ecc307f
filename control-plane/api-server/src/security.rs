//! Where the parts of security meet: authentication, authorization, admission and the review kinds, made from the
//! cluster's certificates and the caches; and what of it the cluster keeps as objects.

mod objects;

use std::sync::Arc;

use api_client::{Client, User};

use crate::admission::{AdmissionContext, DefaultTolerations, admission_plugins};
use crate::authn::Authentication;
use crate::authz::Authorization;
use crate::config::{Document, Inside, Security};
use crate::pki::{ClientTrust, Pki, PkiError};
use crate::plugin::VirtualResource;
use crate::reviews::review_resources;
use crate::tokens::{ServiceAccountTokens, TokenConfig, TokenKeys, TokenRequests};

pub use objects::ensure_security_objects;

/// What security is told about the cluster.
#[derive(Clone, Debug)]
pub struct SecurityConfig {
    /// `cluster.local` unless configured.
    pub cluster_domain: String,
    /// `https://HOST:PORT` under which clients reach this server.
    pub server_url: String,
    /// Whether requests without credentials reach authorization (which lets them see health, version and cluster-info).
    pub anonymous: bool,
    pub default_tolerations: DefaultTolerations,
}

/// All that is needed to answer the questions of security once there are caches to read.
pub struct SecurityParts {
    trust: ClientTrust,
    keys: TokenKeys,
    config: SecurityConfig,
}

impl SecurityParts {
    /// # Errors
    /// When a key or certificate cannot be used.
    pub fn new(pki: &Pki, config: SecurityConfig) -> Result<Self, PkiError> {
        Ok(Self {
            trust: pki.client_trust()?,
            keys: pki.token_keys(),
            config,
        })
    }

    /// The documents by which others verify this cluster's tokens: path and JSON.
    pub fn openid_documents(&self) -> [(&'static str, Document); 2] {
        let (config, keys) = (self.token_config(), self.keys.clone());
        let published = self.keys.clone();
        [
            (
                "/.well-known/openid-configuration",
                Box::new(move || config.openid_configuration(&keys)),
            ),
            (
                "/openid/v1/jwks",
                Box::new(move || TokenConfig::key_set(&published)),
            ),
        ]
    }

    fn token_config(&self) -> TokenConfig {
        let issuer = format!(
            "https://kubernetes.default.svc.{}",
            self.config.cluster_domain
        );
        let jwks_uri = format!("{}/openid/v1/jwks", self.config.server_url);
        TokenConfig {
            audiences: vec![issuer.clone()],
            issuer,
            jwks_uri,
        }
    }

    /// Builds security on top of the caches.
    pub fn build(self, inside: Inside) -> Security {
        let default_tolerations = self.config.default_tolerations;
        let reader = inside.reader;
        let client = Client::new(inside.backend, itself());
        let tokens = ServiceAccountTokens::new(self.token_config(), self.keys, reader.clone());
        let authorization = Authorization::new(reader.clone());
        let authentication = Authentication::new(
            self.trust,
            tokens.clone(),
            reader.clone(),
            self.config.anonymous,
        );
        let context = AdmissionContext {
            reader,
            authorization: authorization.clone(),
            client,
            default_tolerations,
        };
        let requests = TokenRequests::new(tokens, &context);
        let mut virtual_resources: Vec<Arc<dyn VirtualResource>> = vec![Arc::new(requests)];
        virtual_resources.extend(review_resources(&authentication, &authorization));
        Security {
            authenticator: Arc::new(authentication),
            impersonation: Arc::new(authorization.clone()),
            authorizer: Arc::new(authorization),
            admission: admission_plugins(&context),
            virtual_resources,
        }
    }
}

/// The API server as its own client.
fn itself() -> Arc<User> {
    let groups = vec!["system:masters".into(), "system:authenticated".into()];
    Arc::new(User {
        name: "system:apiserver".into(),
        groups,
    })
}

#[cfg(test)]
mod tests;
