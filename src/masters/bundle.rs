//! What must be the same on all masters: CAs, keys and settings, as files below `DATA_DIR/server`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The files. One that is not there is not handed over; a further one is a further row.
const FILES: &[&str] = &[
    "tls/ca.crt",
    "tls/ca.key",
    "tls/front-proxy-ca.crt",
    "tls/front-proxy-ca.key",
    "tls/sa.key",
    "tls/sa.pub",
    "tls/etcd/peer-ca.crt",
    "tls/etcd/peer-ca.key",
    "tls/etcd/server-ca.crt",
    "tls/etcd/server-ca.key",
    "encryption.key",
    super::settings::FILE,
    super::server_token::FILE,
];
/// What a cluster cannot be without.
const NEEDED: [&str; 2] = ["tls/ca.crt", "tls/ca.key"];

/// The files' contents by their paths, in hexadecimal digits.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bundle(BTreeMap<String, String>);

impl Bundle {
    /// Reads what is there below `server`.
    pub fn read(server: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for name in FILES {
            let path = server.join(name);
            match fs::read(&path) {
                Ok(bytes) => drop(files.insert((*name).to_owned(), hex::encode(bytes))),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", path.display()));
                }
            }
        }
        Ok(Self(files))
    }

    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let bundle: Self = serde_json::from_slice(bytes).context("the masters' keys")?;
        for name in NEEDED {
            ensure!(bundle.0.contains_key(name), "the masters' keys lack {name}");
        }
        if let Some(name) = bundle.0.keys().find(|name| !FILES.contains(&&***name)) {
            bail!("the cluster's masters are of a newer version: this one does not know {name}");
        }
        Ok(bundle)
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts are JSON")
    }

    /// The cluster's CA, PEM.
    pub fn ca(&self) -> Result<Vec<u8>> {
        let ca = self.0.get(NEEDED[0]).context("no CA")?;
        hex::decode(ca).context("the CA")
    }

    /// Writes all files below `server`, keys and all for their owner only.
    pub fn write(&self, server: &Path) -> Result<()> {
        for (name, content) in &self.0 {
            let path = server.join(name);
            let bytes = hex::decode(content).with_context(|| name.clone())?;
            write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }
}

/// Writes a file (mode 600) whole or not at all, with the directories that lead to it.
pub fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    // One that a crash left.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_written_as_it_was_read() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["tls/ca.crt", "tls/ca.key", "tls/etcd/peer-ca.key"] {
            write(&from.path().join(name), name.as_bytes()).unwrap();
        }
        write(&from.path().join("admin.kubeconfig"), b"own").unwrap();
        let bundle = Bundle::read(from.path()).unwrap();
        let bundle = Bundle::from_json(&bundle.to_json()).unwrap();
        bundle.write(to.path()).unwrap();
        assert_eq!(Bundle::read(to.path()).unwrap(), bundle);
        assert_eq!(bundle.ca().unwrap(), b"tls/ca.crt");
        assert!(!to.path().join("admin.kubeconfig").exists());
        let mode = fs::metadata(to.path().join("tls/ca.key")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777,
            0o600
        );
    }

    #[test]
    fn foreign_files_are_refused() {
        let check = |json: &str, expect: &str| {
            let error = Bundle::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check("{}", "lack tls/ca.crt");
        check(
            r#"{"tls/ca.crt": "", "tls/ca.key": "", "../x": ""}"#,
            "does not know ../x",
        );
    }
}
