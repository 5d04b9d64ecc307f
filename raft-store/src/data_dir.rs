//! The data directory: whose it is, in which format, and that only one process uses it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::config::OpenError;

/// The format this program writes.
const FORMAT: u32 = 1;
const IDENTITY: &str = "store.json";
const IDENTITY_NEW: &str = "store.json.new";
const LOCK: &str = "LOCK";
const LOG: &str = "log";
const STATE: &str = "state";
const SNAPSHOTS: &str = "snap";
const BALLAST: &str = "ballast";

/// Who the member is, and which of its directories count: one file, replaced as a whole, so that a state that was
/// taken over or a cluster founded anew is there completely or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub format: u32,
    pub cluster_id: u64,
    pub member_id: u64,
    /// Chosen by chance when the directory is made: tells its data from other data under the same ids.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub incarnation: u64,
    /// The member was added to a cluster that existed: it must never found one under these ids.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// The state lies in `state`, or in `state.N` once it was replaced N times.
    #[serde(default, skip_serializing_if = "is_zero")]
    state_generation: u64,
    /// Likewise the log.
    #[serde(default, skip_serializing_if = "is_zero")]
    log_generation: u64,
}

impl Identity {
    pub fn new(cluster_id: u64, member_id: u64) -> Self {
        Self {
            format: FORMAT,
            cluster_id,
            member_id,
            incarnation: rand::rng().random_range(1..u64::MAX),
            joined: false,
            state_generation: 0,
            log_generation: 0,
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A directory that this process owns; the lock goes with it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Who the member was when the directory was opened.
    pub identity: Identity,
    current: Mutex<Identity>,
    _lock: File,
}

impl DataDir {
    /// Locks and opens the directory; an empty one gets the identity that `new_identity` makes.
    pub fn open(
        path: &Path,
        expected_cluster_id: Option<u64>,
        new_identity: impl FnOnce() -> (u64, u64),
    ) -> Result<Self, OpenError> {
        let founder = || {
            let (cluster_id, member_id) = new_identity();
            Identity::new(cluster_id, member_id)
        };
        Self::open_as(path, expected_cluster_id, founder)
    }

    /// Likewise, with all that an identity says.
    pub fn open_as(
        path: &Path,
        expected_cluster_id: Option<u64>,
        new_identity: impl FnOnce() -> Identity,
    ) -> Result<Self, OpenError> {
        let failed = |source| OpenError::DataDir {
            path: path.to_owned(),
            source,
        };
        // For its owner only, as etcd makes it; one that is there keeps its mode.
        create(path).map_err(failed)?;
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
                let identity = new_identity();
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
        sweep(path, &identity).map_err(failed)?;
        Ok(Self {
            path: path.to_owned(),
            identity,
            current: Mutex::new(identity),
            _lock: lock,
        })
    }

    /// Opens a directory only if it is a member's.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, OpenError> {
        if read_identity(path)?.is_none() {
            return Ok(None);
        }
        Self::open(path, None, || unreachable!("the identity is there")).map(Some)
    }

    /// Whether a member's data lies in `path`.
    pub fn has_identity(path: &Path) -> bool {
        path.join(IDENTITY).exists()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log(&self) -> PathBuf {
        generation(&self.path, LOG, self.current.lock().log_generation)
    }

    pub fn state(&self) -> PathBuf {
        generation(&self.path, STATE, self.current.lock().state_generation)
    }

    /// Where snapshots of other members are taken in.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }

    /// A file that only takes up space.
    pub fn ballast(&self) -> PathBuf {
        self.path.join(BALLAST)
    }

    /// A directory that does not exist, for a state that may take the place of the present one.
    pub fn next_state(&self) -> io::Result<PathBuf> {
        absent(generation(
            &self.path,
            STATE,
            self.current.lock().state_generation + 1,
        ))
    }

    /// A directory that does not exist, for a log that may take the place of the present one.
    pub fn next_log(&self) -> io::Result<PathBuf> {
        absent(generation(
            &self.path,
            LOG,
            self.current.lock().log_generation + 1,
        ))
    }

    /// From now on the state in [`DataDir::next_state`], which is durable, is this member's. On an error the old one
    /// still is, or nobody knows: the process must not go on.
    pub fn adopt_state(&self) -> io::Result<()> {
        let mut current = self.current.lock();
        let mut next = *current;
        next.state_generation += 1;
        write_identity(&self.path, &next)?;
        *current = next;
        Ok(())
    }

    /// Makes the directory another member's: with the state in [`DataDir::next_state`], which is durable, and with
    /// the log in [`DataDir::next_log`], likewise. To be called while neither is open; open the directory again
    /// afterwards.
    pub fn adopt_identity(self, cluster_id: u64, member_id: u64) -> io::Result<()> {
        let mut next = *self.current.lock();
        next.cluster_id = cluster_id;
        next.member_id = member_id;
        next.incarnation = rand::rng().random_range(1..u64::MAX);
        next.state_generation += 1;
        next.log_generation += 1;
        write_identity(&self.path, &next)
    }

    /// Makes durable which folders there are: files in one that is lost are lost, too, however often they were synced.
    pub fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Makes the directory and those above it, for as long as power may be lost.
fn create(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let new: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path)?;
    // Where there is no identity yet, a start that was cut short may have made the last of them without coming this far.
    let unsure = (!DataDir::has_identity(&path)).then_some(path.as_path());
    for parent in new.into_iter().chain(unsure).filter_map(Path::parent) {
        match File::open(parent) {
            Ok(parent) => parent.sync_all()?,
            // It was not made by this program.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn generation(path: &Path, name: &str, generation: u64) -> PathBuf {
    match generation {
        0 => path.join(name),
        _ => path.join(format!("{name}.{generation}")),
    }
}

/// Which generation of `name` an entry of the directory is.
fn parse_generation(entry: &str, name: &str) -> Option<u64> {
    match entry.strip_prefix(name)? {
        "" => Some(0),
        rest => rest.strip_prefix('.')?.parse().ok(),
    }
}

fn absent(path: PathBuf) -> io::Result<PathBuf> {
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(path),
    }
}

/// Removes what was replaced, or did not come to replace anything.
fn sweep(path: &Path, identity: &Identity) -> io::Result<()> {
    absent(path.join(SNAPSHOTS))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let outlived = |part, current| {
            parse_generation(&name, part).is_some_and(|generation| generation != current)
        };
        if outlived(STATE, identity.state_generation) || outlived(LOG, identity.log_generation) {
            absent(entry.path())?;
        }
    }
    Ok(())
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
        let known = [
            IDENTITY,
            IDENTITY_NEW,
            LOCK,
            SNAPSHOTS,
            BALLAST,
            "lost+found",
        ]
        .contains(&name.as_str());
        let part = [LOG, STATE]
            .iter()
            .any(|part| parse_generation(&name, part).is_some());
        if !known && !part {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                entry: name,
            });
        }
    }
    Ok(())
}

/// The name of a log or state that lies there.
fn parts(path: &Path) -> io::Result<Option<String>> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is = |part| parse_generation(&name, part).is_some();
        if is(LOG) || is(STATE) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, OpenError> {
    let raw = match fs::read(path.join(IDENTITY)) {
        Ok(raw) => raw,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Without its identity, what lies there must not be taken for a new member's.
            return match parts(path).map_err(|source| OpenError::DataDir {
                path: path.to_owned(),
                source,
            })? {
                Some(entry) => Err(OpenError::NotAStore {
                    path: path.to_owned(),
                    entry,
                }),
                None => Ok(None),
            };
        }
        Err(source) => {
            return Err(OpenError::DataDir {
                path: path.to_owned(),
                source,
            });
        }
    };
    let identity = decode_identity(&raw).map_err(|found| OpenError::Format {
        path: path.to_owned(),
        found,
        supported: FORMAT,
    })?;
    Ok(Some(identity))
}

/// The identity in the file that names it; an error is what format it has instead.
pub fn decode_identity(raw: &[u8]) -> Result<Identity, String> {
    let value: serde_json::Value =
        serde_json::from_slice(raw).map_err(|_| "unreadable".to_owned())?;
    let format = value.get("format").and_then(serde_json::Value::as_u64);
    if format != Some(u64::from(FORMAT)) {
        return Err(format.map_or("unknown".to_owned(), |format| format.to_string()));
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
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
    fn what_was_replaced_goes_and_what_was_not_adopted_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let make = |name: &str| fs::create_dir(path.join(name)).unwrap();
        let first = open(path, None).unwrap();
        make("log");
        make("state");
        assert_eq!(first.state(), path.join("state"));
        assert_eq!(first.next_state().unwrap(), path.join("state.1"));
        make("state.1");
        drop(first);
        let again = open(path, None).unwrap();
        assert!(!path.join("state.1").exists(), "it was never adopted");
        make("state.1");
        again.adopt_state().unwrap();
        assert_eq!(again.state(), path.join("state.1"));
        drop(again);
        let third = open(path, None).unwrap();
        assert_eq!(
            (third.state(), path.join("state").exists()),
            (path.join("state.1"), false)
        );
        make("state.2");
        third.adopt_identity(70, 80).unwrap();
        let fourth = open(path, Some(70)).unwrap();
        assert_eq!(fourth.identity.member_id, 80);
        assert_eq!(
            (fourth.state(), fourth.log()),
            (path.join("state.2"), path.join("log.1"))
        );
        assert!(!path.join("log").exists());
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
