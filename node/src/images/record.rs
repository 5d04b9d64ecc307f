//! What was imported from which archive, so that an unchanged archive is not read again at every start.
//!
//! It must not know how an import is done.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::ImageError;

/// An archive's size and time of change stand for its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    bytes: u64,
    modified_nanoseconds: u64,
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Result<Stamp, ImageError> {
        let metadata = std::fs::metadata(path)
            .map_err(|source| ImageError::file("cannot read", path, source))?;
        let modified = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_nanoseconds =
            modified.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Ok(Stamp {
            bytes: metadata.len(),
            modified_nanoseconds,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    stamp: Stamp,
    images: Vec<String>,
}

/// The record as it lies on disk: archive name to what came out of it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    archives: BTreeMap<String, Entry>,
}

impl Record {
    /// A record that is missing or unreadable only means that archives are imported again.
    pub(super) fn load(path: &Path) -> Record {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default()
    }

    pub(super) fn save(&self, path: &Path) -> Result<(), ImageError> {
        let new = path.with_extension("new");
        let bytes = serde_json::to_vec(self).expect("a map of strings is valid JSON");
        std::fs::write(&new, bytes)
            .map_err(|source| ImageError::file("cannot write", &new, source))?;
        std::fs::rename(&new, path).map_err(|source| ImageError::file("cannot write", path, source))
    }

    /// Whether an archive is unchanged and all that came out of it is still there.
    pub(super) fn holds(&self, archive: &str, stamp: Stamp, present: &[String]) -> bool {
        self.archives.get(archive).is_some_and(|entry| {
            entry.stamp == stamp && entry.images.iter().all(|image| present.contains(image))
        })
    }

    pub(super) fn insert(&mut self, archive: &str, stamp: Stamp, images: Vec<String>) {
        self.archives
            .insert(archive.to_owned(), Entry { stamp, images });
    }

    /// Forgets archives that are gone.
    pub(super) fn retain(&mut self, archives: &[String]) {
        self.archives.retain(|name, _| archives.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unchanged_archive_is_held_while_its_images_exist() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let archive = dir.path().join("a.tar");
        std::fs::write(&archive, "1").expect("write");
        let stamp = Stamp::of(&archive).expect("stamp");
        let image = "docker.io/library/a:1".to_owned();
        let mut record = Record::default();
        assert!(!record.holds("a.tar", stamp, std::slice::from_ref(&image)));
        record.insert("a.tar", stamp, vec![image.clone()]);
        let file = dir.path().join("record.json");
        record.save(&file).expect("save");
        let record = Record::load(&file);
        assert!(record.holds("a.tar", stamp, std::slice::from_ref(&image)));
        assert!(!record.holds("a.tar", stamp, &[]), "the image was removed");
        std::fs::write(&archive, "12").expect("write");
        assert!(
            !record.holds("a.tar", Stamp::of(&archive).expect("stamp"), &[image]),
            "the archive has changed"
        );
    }
}
