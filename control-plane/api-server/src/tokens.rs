//! Service-account tokens: issuing bound ones (`serviceaccounts/token`), checking them, and the documents by which others
//! can check them (OpenID discovery).
//!
//! A token is good while its signature and time are, and while what it is bound to exists. Knows nothing of HTTP.

mod bootstrap;
mod claims;
mod keys;
mod request;
mod resource;
mod verify;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::plugin::ObjectReader;

pub(crate) use bootstrap::bootstrap_user;
pub use keys::{KeyError, TokenKeys};
pub(crate) use resource::TokenRequests;
pub(crate) use verify::{TokenError, service_account_groups};

/// How tokens are issued.
#[derive(Clone, Debug)]
pub struct TokenConfig {
    /// `https://kubernetes.default.svc.cluster.local` unless configured.
    pub issuer: String,
    /// What a token must be for to be good here; the first is what a token gets that asks for none.
    pub audiences: Vec<String>,
    /// Where others find the key set, e.g. `https://192.0.2.7:6443/openid/v1/jwks`.
    pub jwks_uri: String,
}

impl TokenConfig {
    /// `/.well-known/openid-configuration`.
    pub(crate) fn openid_configuration(&self, keys: &TokenKeys) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": keys.algorithm_names(),
        })
    }

    /// `/openid/v1/jwks`.
    pub(crate) fn key_set(keys: &TokenKeys) -> Value {
        json!({"keys": keys.jwks()})
    }
}

/// The service-account tokens of this cluster. Cheap to clone.
#[derive(Clone)]
pub struct ServiceAccountTokens(Arc<Shared>);

struct Shared {
    config: TokenConfig,
    keys: TokenKeys,
    reader: Arc<dyn ObjectReader>,
}

impl ServiceAccountTokens {
    pub fn new(config: TokenConfig, keys: TokenKeys, reader: Arc<dyn ObjectReader>) -> Self {
        Self(Arc::new(Shared {
            config,
            keys,
            reader,
        }))
    }

    /// The audiences of the API server.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.0.config.audiences
    }
}

#[cfg(test)]
mod tests;
