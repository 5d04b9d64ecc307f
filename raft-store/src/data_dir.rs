//! The data directory: whose it is, in which format, and that only one process uses it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::OpenError;

/// The format this program writes.
const FORMAT: u32 = 1;
const IDENTITY: &str = "store.json";
const IDENTITY_NEW: &str = "store.json.new";
const LOCK: &str = "LOCK";
const LOG: &str = "log";
const STATE: &str = "state";

/// Who the member is: fixed when the directory is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    pub cluster_id: u64,
    pub member_id: u64,
}

/// A directory that this process owns; the lock goes with it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    pub identity: Identity,
    _lock: File,
}

impl DataDir {
    /// Locks and opens the directory; an empty one gets the identity that `new_identity` makes.
    pub fn open(
        path: &Path,
        expected_cluster_id: Option<u64>,
        new_identity: impl FnOnce() -> (u64, u64),
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::DataDir {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(path).map_err(failed)?;
        check_entries(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            None => {
                let (cluster_id, member_id) = new_identity();
                let identity = Identity {
                    format: FORMAT,
                    cluster_id,
                    member_id,
                };
                write_identity(path, &identity).map_err(failed)?;
                identity
            }
        };
        if let Some(expected) = expected_cluster_id
            && expected != identity.cluster_id
        {
            return Err(OpenError::OtherCluster {
                path: path.to_owned(),
                found: identity.cluster_id,
                expected,
            });
        }
        Ok(Self {
            path: path.to_owned(),
            identity,
            _lock: lock,
        })
    }

    pub fn log(&self) -> PathBuf {
        self.path.join(LOG)
    }

    pub fn state(&self) -> PathBuf {
        self.path.join(STATE)
    }
}

/// Refuses a directory that holds something else, before anything is written into it.
fn check_entries(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::DataDir {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let name = entry
            .map_err(failed)?
            .file_name()
            .to_string_lossy()
            .into_owned();
        if ![IDENTITY, IDENTITY_NEW, LOCK, LOG, STATE, "lost+found"].contains(&name.as_str()) {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                entry: name,
            });
        }
    }
    Ok(())
}

fn read_identity(path: &Path) -> Result<Option<Identity>, OpenError> {
    let raw = match fs::read(path.join(IDENTITY)) {
        Ok(raw) => raw,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Without its identity, what lies there must not be taken for a new member's.
            for part in [LOG, STATE] {
                if path.join(part).exists() {
                    return Err(OpenError::NotAStore {
                        path: path.to_owned(),
                        entry: part.to_owned(),
                    });
                }
            }
            return Ok(None);
        }
        Err(source) => {
            return Err(OpenError::DataDir {
                path: path.to_owned(),
                source,
            });
        }
    };
    let wrong_format = |found: String| OpenError::Format {
        path: path.to_owned(),
        found,
        supported: FORMAT,
    };
    let value: serde_json::Value =
        serde_json::from_slice(&raw).map_err(|_| wrong_format("unreadable".to_owned()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        return Err(wrong_format(
            format.map_or("unknown".to_owned(), |format| format.to_string()),
        ));
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| wrong_format(error.to_string()))
}

fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let new = path.join(IDENTITY_NEW);
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(identity)?)?;
    file.sync_all()?;
    fs::rename(&new, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, expected: Option<u64>) -> Result<DataDir, String> {
        DataDir::open(path, expected, || (7, 8)).map_err(|error| error.to_string())
    }

    #[test]
    fn identity_is_kept_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let shown = path.display();
        let first = open(path, None).unwrap();
        assert_eq!(
            open(path, None).unwrap_err(),
            format!("the data directory {shown} is in use by another process")
        );
        drop(first);
        assert_eq!(open(path, Some(7)).unwrap().identity.member_id, 8);
        assert_eq!(
            open(path, Some(9)).unwrap_err(),
            format!("the data directory {shown} belongs to cluster 7, not 9")
        );
        fs::write(path.join(IDENTITY), r#"{"format":2,"new":"field"}"#).unwrap();
        assert_eq!(
            open(path, None).unwrap_err(),
            format!("the data directory {shown} has format 2, this program reads format 1")
        );
        fs::write(path.join("photo.jpg"), "").unwrap();
        assert_eq!(
            open(path, None).unwrap_err(),
            format!("the data directory {shown} is not a store's: it holds \"photo.jpg\"")
        );
    }
}
