//! The keys of service-account tokens: EC or RSA, as their files hold them. One signs; while keys are changed, tokens of the
//! one before it are believed as well.

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::Value;

use super::claims::Claims;
use super::verify::VerifiedTokens;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the service-account key cannot be read: {0}")]
    Parse(#[from] rcgen::Error),
    #[error("the service-account key cannot be used: {0}")]
    Unusable(#[from] jsonwebtoken::errors::Error),
    #[error("there is no service-account key")]
    None,
}

/// The keys of the moment. Cheap to clone; all clones see a change.
#[derive(Clone)]
pub struct TokenKeys(Arc<ArcSwap<KeySet>>);

/// Keys, and what was found good by them.
struct KeySet {
    /// The one that signs first; never empty.
    keys: Vec<SigningKey>,
    verified: VerifiedTokens,
}

impl KeySet {
    fn read<T: AsRef<str>>(pems: &[T]) -> Result<Self, KeyError> {
        let keys = pems.iter().map(|pem| SigningKey::from_pem(pem.as_ref()));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        match keys.is_empty() {
            true => Err(KeyError::None),
            false => Ok(Self {
                keys,
                verified: VerifiedTokens::default(),
            }),
        }
    }
}

impl TokenKeys {
    /// From private keys in PEM, the one that signs first.
    ///
    /// # Errors
    /// When one cannot be used.
    pub fn from_pems<T: AsRef<str>>(pems: &[T]) -> Result<Self, KeyError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(KeySet::read(pems)?))))
    }

    /// From now on these are the keys.
    ///
    /// # Errors
    /// When one cannot be used; then nothing changes.
    pub fn replace<T: AsRef<str>>(&self, pems: &[T]) -> Result<(), KeyError> {
        self.0.store(Arc::new(KeySet::read(pems)?));
        Ok(())
    }

    /// The public halves, each a SubjectPublicKeyInfo in DER; that of the key that signs first.
    pub(crate) fn public_keys(&self) -> Vec<Vec<u8>> {
        let set = self.0.load();
        set.keys.iter().map(|key| key.public.clone()).collect()
    }

    pub(super) fn algorithm_names(&self) -> Vec<&'static str> {
        let set = self.0.load();
        let mut names: Vec<_> = set.keys.iter().map(SigningKey::algorithm_name).collect();
        names.dedup();
        names
    }

    pub(super) fn jwks(&self) -> Vec<Value> {
        let set = self.0.load();
        set.keys.iter().map(|key| key.jwk.clone()).collect()
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        self.0.load().keys[0].sign(claims)
    }

    /// The claims, if one of the keys has signed the token. Remembered by the token's digest.
    pub(super) fn open(
        &self,
        token: &str,
        digest: [u8; 32],
        now: Timestamp,
    ) -> Option<Arc<Claims>> {
        let set = self.0.load();
        let claims = set.keys.iter().find_map(|key| key.open(token))?;
        let claims = Arc::new(claims);
        set.verified.put(digest, claims.clone(), now);
        Some(claims)
    }

    /// The claims of a token that was found good.
    pub(super) fn remembered(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        self.0.load().verified.get(digest)
    }
}

/// The private key with all that is derived from it.
struct SigningKey {
    algorithm: Algorithm,
    header: Header,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    jwk: Value,
    public: Vec<u8>,
}

impl SigningKey {
    /// From PEM: PKCS#8, or PKCS#1 for RSA.
    fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let pair = KeyPair::from_pem(pem)?;
        let public_pem = pair.public_key_pem();
        let is_ec = pair.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256);
        let (algorithm, signing, verifying) = if is_ec {
            let signing = EncodingKey::from_ec_pem(pem.as_bytes())?;
            (
                Algorithm::ES256,
                signing,
                DecodingKey::from_ec_pem(public_pem.as_bytes())?,
            )
        } else {
            let signing = EncodingKey::from_rsa_pem(pem.as_bytes())?;
            (
                Algorithm::RS256,
                signing,
                DecodingKey::from_rsa_pem(public_pem.as_bytes())?,
            )
        };
        let public = pair.subject_public_key_info();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &public);
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
            public,
        })
    }

    fn algorithm_name(&self) -> &'static str {
        if self.algorithm == Algorithm::ES256 {
            "ES256"
        } else {
            "RS256"
        }
    }

    fn sign(&self, claims: &Claims) -> Result<String, KeyError> {
        Ok(jsonwebtoken::encode(&self.header, claims, &self.signing)?)
    }

    /// The claims, if the signature is ours.
    fn open(&self, token: &str) -> Option<Claims> {
        jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation)
            .ok()
            .map(|data| data.claims)
    }
}
