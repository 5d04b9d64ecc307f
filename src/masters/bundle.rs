//! What must be the same on all masters: CAs, keys and settings, as files below `DATA_DIR/server`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use api_server::{CA_RETIRED, ROTATED_FILES, RotatedFiles};
use serde::{Deserialize, Serialize};

/// The files. One that is not there is not handed over; a further one is a further row.
const FILES: &[&str] = &[
    "tls/ca.crt",
    "tls/ca.key",
    "tls/ca-cross.crt",
    "tls/ca-former.key",
    "tls/ca-retired.crt",
    "tls/front-proxy-ca.crt",
    "tls/front-proxy-ca.key",
    "tls/sa.key",
    "tls/sa.pub",
    "tls/sa-former.key",
    "tls/etcd/peer-ca.crt",
    "tls/etcd/peer-ca.key",
    "tls/etcd/server-ca.crt",
    "tls/etcd/server-ca.key",
    "encryption.key",
    super::settings::FILE,
    super::server_token::FILE,
];
/// What a master is about to write of a change of CA or keys, whole; there only while it does.
const TAKING_OVER: &str = "tls/taking-over.json";
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

    /// The cluster's CAs that are trusted, PEM; the one that signs first.
    pub fn ca(&self) -> Result<Vec<u8>> {
        let ca = self.0.get(NEEDED[0]).context("no CA")?;
        hex::decode(ca).context("the CA")
    }

    /// Whether a CA whose public key has this hash is, or was, the cluster's.
    pub fn had_ca(&self, hash: &[u8; 32]) -> Result<bool> {
        let mut text = String::from_utf8(self.ca()?)?;
        if let Some(retired) = self.0.get(&format!("tls/{CA_RETIRED}")) {
            text += &String::from_utf8(hex::decode(retired)?)?;
        }
        Ok(knows_ca(&text, hash))
    }

    /// What a change of CA or keys replaces.
    pub fn rotated(&self) -> Result<RotatedFiles> {
        let mut files = RotatedFiles::new();
        for name in ROTATED_FILES {
            if let Some(content) = self.0.get(&format!("tls/{name}")) {
                let text = String::from_utf8(hex::decode(content)?)?;
                files.insert(name.to_owned(), text);
            }
        }
        Ok(files)
    }

    /// The same bundle with these in the place of what it has of them.
    pub fn with_rotated(mut self, files: &RotatedFiles) -> Self {
        for name in ROTATED_FILES {
            let path = format!("tls/{name}");
            match files.get(name) {
                Some(text) => self.0.insert(path, hex::encode(text)),
                None => self.0.remove(&path),
            };
        }
        self
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

    /// Writes what a change of CA or keys has replaced below `server`, all of it even over a crash; whether anything differed.
    pub fn write_rotated(&self, server: &Path) -> Result<bool> {
        let wanted = self.rotated()?;
        if read_rotated(server)? == wanted {
            return Ok(false);
        }
        let path = server.join(TAKING_OVER);
        let text = serde_json::to_vec(&wanted).expect("texts are JSON");
        write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        complete(server)?;
        Ok(true)
    }
}

fn read_rotated(server: &Path) -> Result<RotatedFiles> {
    let mut held = RotatedFiles::new();
    for name in ROTATED_FILES {
        let path = server.join("tls").join(name);
        match fs::read_to_string(&path) {
            Ok(text) => drop(held.insert(name.to_owned(), text)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(held)
}

/// Ends what [`Bundle::write_rotated`] began: a CA must meet its own key, whatever a crash left.
pub fn complete(server: &Path) -> Result<()> {
    let begun = server.join(TAKING_OVER);
    let wanted: RotatedFiles = match fs::read(&begun) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged", begun.display()))?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", begun.display()));
        }
    };
    for name in ROTATED_FILES {
        let path = server.join("tls").join(name);
        let written = match wanted.get(name) {
            Some(text) => write(&path, text.as_bytes()),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        };
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    fs::remove_file(&begun).with_context(|| format!("cannot remove {}", begun.display()))
}

/// Whether one of the certificates has this hash of its public key.
pub fn knows_ca(pem: &str, hash: &[u8; 32]) -> bool {
    let mut hashes = api_server::certificates(pem).into_iter();
    hashes.any(|one| node::pem_key_hash(one.as_bytes()).as_ref() == Ok(hash))
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
    fn a_change_is_taken_over_whole_even_over_a_crash() {
        let directory = tempfile::tempdir().unwrap();
        let server = directory.path();
        for name in [
            "tls/ca.crt",
            "tls/ca.key",
            "tls/sa.key",
            "tls/sa-former.key",
        ] {
            write(&server.join(name), name.as_bytes()).unwrap();
        }
        let before = Bundle::read(server).unwrap();
        assert!(!before.write_rotated(server).unwrap(), "nothing differs");
        let mut files = before.rotated().unwrap();
        files.insert("ca.crt".into(), "new".into());
        files.insert("ca.key".into(), "new key".into());
        files.remove("sa-former.key");
        let after = before.with_rotated(&files);
        // As if it had ended when nothing was written but what is to be.
        let text = serde_json::to_vec(&files).unwrap();
        write(&server.join(TAKING_OVER), &text).unwrap();
        complete(server).unwrap();
        assert_eq!(Bundle::read(server).unwrap(), after);
        assert!(!server.join(TAKING_OVER).exists() && !after.write_rotated(server).unwrap());
        complete(server).unwrap();
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
