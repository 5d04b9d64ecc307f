//! The key that signs service-account tokens: EC or RSA, as the file holds it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::Value;

use super::claims::Claims;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the service-account key cannot be read: {0}")]
    Parse(#[from] rcgen::Error),
    #[error("the service-account key cannot be used: {0}")]
    Unusable(#[from] jsonwebtoken::errors::Error),
}

/// The private key with all that is derived from it.
pub struct SigningKey {
    algorithm: Algorithm,
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    jwk: Value,
}

impl SigningKey {
    /// From PEM: PKCS#8, or PKCS#1 for RSA.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pem(pem)?;
        let public = pair.public_key_pem();
        let is_ec = pair.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (algorithm, signing, verifying) = if is_ec {
            let signing = EncodingKey::from_ec_pem(pem.as_bytes())?;
            (
                Algorithm::ES256,
                signing,
                DecodingKey::from_ec_pem(public.as_bytes())?,
            )
        } else {
            let signing = EncodingKey::from_rsa_pem(pem.as_bytes())?;
            (
                Algorithm::RS256,
                signing,
                DecodingKey::from_rsa_pem(public.as_bytes())?,
            )
        };
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &pair.subject_public_key_info());
        let id = URL_SAFE_NO_PAD.encode(digest);
        let mut jwk = Jwk::from_decoding_key(&verifying, Some(algorithm))?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let header = Header {
            typ: None,
            kid: Some(id),
            ..Header::new(algorithm)
        };
        // Times, audience and issuer are checked by `verify`, which says what was wrong.
        let mut validation = Validation::new(algorithm);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let jwk = serde_json::to_value(jwk).expect("a key is JSON");
        Ok(Self {
            algorithm,
            header,
            signing,
            verifying,
            validation,
            jwk,
        })
    }

    pub(super) fn algorithm_name(&self) -> &'static str {
        if self.algorithm == Algorithm::ES256 {
            "ES256"
        } else {
            "RS256"
        }
    }

    pub(super) fn jwk(&self) -> &Value {
        &self.jwk
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        Ok(jsonwebtoken::encode(&self.header, claims, &self.signing)?)
    }

    /// The claims, if the signature is ours.
    pub(super) fn open(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .ok()
            .map(|data| data.claims)
    }
}
