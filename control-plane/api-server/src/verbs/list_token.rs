//! The `continue` token of a list: the revision that the pages show and where the next one begins.
//!
//! The format is Kubernetes' own (base64 of a small JSON object), so that a token outlives the server that gave it.

use api_machinery::{FieldError, FieldPath, Status};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    #[serde(default)]
    rv: i64,
    #[serde(default)]
    start: String,
}

/// Where a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContinueToken {
    /// None for a list that goes on with the newest state, no longer consistent.
    pub revision: Option<u64>,
    /// The first key that may follow, below the list's prefix.
    pub start: String,
}

impl ContinueToken {
    /// The token behind `last`, a key below the list's prefix.
    pub fn after(revision: Option<u64>, last: &str) -> Self {
        Self {
            revision,
            start: format!("{last}\0"),
        }
    }

    pub fn encode(&self) -> String {
        let rv = self
            .revision
            .map_or(-1, |r| i64::try_from(r).unwrap_or(i64::MAX));
        let wire = Wire {
            v: VERSION.into(),
            rv,
            start: self.start.clone(),
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("plain fields"))
    }

    /// # Errors
    /// 400 for what no server gave.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: String| Status::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|e| invalid(e.to_string()))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if wire.v != VERSION {
            return Err(invalid(format!(
                "server does not recognize this encoded version {:?}",
                wire.v
            )));
        }
        if wire.rv == 0 {
            return Err(invalid(
                "incorrect encoded start resourceVersion (version meta.k8s.io/v1)".into(),
            ));
        }
        if wire.start.is_empty() || wire.start.starts_with('/') || wire.start.contains("..") {
            let error = FieldError::invalid(
                &FieldPath::root("continue"),
                text,
                "continue key is not valid",
            );
            return Err(Status::invalid("", "ListOptions", "", &[error]));
        }
        Ok(Self {
            revision: u64::try_from(wire.rv).ok(),
            start: wire.start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_travel() {
        for revision in [Some(7), None] {
            let token = ContinueToken::after(revision, "default/a");
            assert_eq!(
                ContinueToken::decode(&token.encode()).expect("own token"),
                token
            );
        }
        for text in ["", "x", "e30", "%"] {
            assert_eq!(
                ContinueToken::decode(text).expect_err("bad").code,
                400,
                "{text}"
            );
        }
    }
}
