//! The server token: made with the cluster, the same on all masters, valid for ever. With a snapshot it is all that a lost
//! cluster needs: CAs and keys lie in the store under it. It joins nobody.

use std::path::Path;

use anyhow::{Context, Result};

use super::bundle;
use crate::join_token::{BootstrapToken, JoinToken};

/// Where it is kept below `DATA_DIR/server`.
pub const FILE: &str = "token";

/// The token; made if there is none.
pub fn read_or_create(server: &Path) -> Result<JoinToken> {
    let path = server.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{} holds no token", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let ca = server.join("tls/ca.crt");
            let ca = std::fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
            let token = JoinToken {
                ca_hash: node::pem_key_hash(&ca).map_err(anyhow::Error::msg)?,
                bootstrap: BootstrapToken::random(),
            };
            bundle::write(&path, format!("{token}\n").as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
