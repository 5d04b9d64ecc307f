//! The record of one member's disk: how it comes about, and whether it is whole.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::disk::{Disk, Kept};
use super::record::{self, Traced};
use crate::cluster::Member;
use crate::random::Random;

/// RocksDB's own log is written by a C stream, which is not recorded, and read by nobody.
const NOT_RECORDED: &str = "LOG";

/// What the library is told.
pub struct Trace {
    shim: PathBuf,
    /// The folder of the data directory, so that its own name is recorded, too.
    pub folder: PathBuf,
    pub file: PathBuf,
}

impl Trace {
    /// An empty one.
    pub fn new(shim: PathBuf, folder: PathBuf, file: PathBuf) -> Result<Self> {
        fs::write(&file, "")?;
        let trace = Self { shim, folder, file };
        match fs::remove_file(trace.end_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(trace),
        }
    }

    fn end_file(&self) -> PathBuf {
        self.file.with_extension("trace.end")
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        vec![
            variable("LD_PRELOAD", &self.shim),
            variable("DISK_TRACE_FOLDER", &self.folder),
            variable("DISK_TRACE_FILE", &self.file),
        ]
    }

    /// Ends the member as SIGKILL does, at its next change of a file. The library does it, so that the record is whole.
    pub async fn kill(&self, member: &mut Member) -> Result<()> {
        fs::write(self.end_file(), "")?;
        member.ended().await?;
        Ok(fs::remove_file(self.end_file())?)
    }

    /// Takes the record. The folder must follow from it: else calls were made that the library does not see.
    pub fn read(&self) -> Result<Vec<Traced>> {
        let records = record::read(&self.file)?;
        let mut disk = Disk::default();
        for traced in &records {
            disk.take(&traced.record)?;
        }
        let made = self.folder.with_file_name("made");
        disk.write(&made, Kept::All, &mut Random::new(0))?;
        check_same(&self.folder, &made)?;
        fs::remove_dir_all(made)?;
        fs::remove_file(&self.file)?;
        Ok(records)
    }
}

fn check_same(folder: &Path, made: &Path) -> Result<()> {
    let names = |folder: &Path| -> Result<BTreeSet<OsString>> {
        let entries = fs::read_dir(folder)?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    };
    let (found, recorded) = (names(folder)?, names(made)?);
    let shown = folder.display();
    ensure!(
        found == recorded,
        "{shown} has {found:?}, its record says {recorded:?}"
    );
    for name in found {
        let (file, made) = (folder.join(&name), made.join(&name));
        if file.is_dir() {
            check_same(&file, &made)?;
        } else if !name.to_string_lossy().starts_with(NOT_RECORDED) {
            let same = fs::read(&file)? == fs::read(&made)?;
            ensure!(same, "{} is not what was recorded", file.display());
        }
    }
    Ok(())
}
