//! Taking a snapshot in, chunk by chunk: a broken transfer goes on where it stopped; what is whole is verified.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::SnapshotError;
use super::file::{self, Summary};

/// A transfer under way, kept in one file named by the transfer's id.
#[derive(Debug)]
pub struct Receiver {
    path: PathBuf,
    file: File,
    received: u64,
}

impl Receiver {
    /// Begins or resumes taking in the snapshot that its sender calls `id`, in `folder`. Files of other transfers are
    /// removed: a member takes in one at a time. Ask [`Receiver::offset`] where the sender shall begin.
    pub fn begin(folder: &Path, id: u64) -> Result<Self, SnapshotError> {
        let path = folder.join(format!("{id:016x}.part"));
        let open = || -> io::Result<(File, u64)> {
            fs::create_dir_all(folder)?;
            for entry in fs::read_dir(folder)? {
                let other = entry?.path();
                if other != path {
                    fs::remove_file(other)?;
                }
            }
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)?;
            let received = file.seek(SeekFrom::End(0))?;
            Ok((file, received))
        };
        match open() {
            Ok((file, received)) => Ok(Self {
                path,
                file,
                received,
            }),
            Err(source) => Err(SnapshotError::Io { path, source }),
        }
    }

    /// Bytes that are here: the offset of the next chunk.
    pub fn offset(&self) -> u64 {
        self.received
    }

    /// Takes in the chunk that begins at `offset`. One that does not follow is refused, and the transfer can go on
    /// at [`Receiver::offset`].
    pub fn write(&mut self, offset: u64, chunk: &[u8]) -> Result<(), SnapshotError> {
        if offset != self.received {
            return Err(SnapshotError::Damaged {
                path: self.path.clone(),
                offset,
                reason: format!("the chunk does not follow: {} is next", self.received),
            });
        }
        self.file
            .write_all(chunk)
            .map_err(|source| SnapshotError::Io {
                path: self.path.clone(),
                source,
            })?;
        self.received += chunk.len() as u64;
        Ok(())
    }

    /// Ends the transfer: verifies every checksum and that the snapshot is of cluster `cluster_id`. A file that is
    /// damaged is removed, so that the next transfer begins anew. Blocks while it reads.
    pub fn finish(self, cluster_id: u64) -> Result<Received, SnapshotError> {
        let checked = self.check(cluster_id);
        if checked.is_err() {
            // It may be gone already; what matters is that it is not continued.
            let _ = fs::remove_file(&self.path);
        }
        checked.map(|summary| Received {
            path: self.path,
            summary,
        })
    }

    fn check(&self, cluster_id: u64) -> Result<Summary, SnapshotError> {
        self.file.sync_all().map_err(|source| SnapshotError::Io {
            path: self.path.clone(),
            source,
        })?;
        let summary = file::verify(&self.path, false)?;
        if summary.header.cluster_id != cluster_id {
            return Err(SnapshotError::OtherCluster {
                path: self.path.clone(),
                found: summary.header.cluster_id,
                expected: cluster_id,
            });
        }
        Ok(summary)
    }
}

/// A snapshot that was found whole. The file goes with it.
#[derive(Debug)]
pub struct Received {
    pub path: PathBuf,
    pub summary: Summary,
}

impl Drop for Received {
    fn drop(&mut self) {
        // If it stays, the next transfer or the next start removes it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_each_other_and_a_broken_transfer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut receiver = Receiver::begin(dir.path(), 1).unwrap();
        receiver.write(0, b"abc").unwrap();
        assert!(receiver.write(0, b"abc").is_err());
        drop(receiver);
        let mut receiver = Receiver::begin(dir.path(), 1).unwrap();
        assert_eq!(receiver.offset(), 3);
        receiver.write(3, b"def").unwrap();
        let error = receiver.finish(7).unwrap_err().to_string();
        assert!(
            error.ends_with("is damaged: offset 6: the file ends too early"),
            "{error}"
        );
        let receiver = Receiver::begin(dir.path(), 1).unwrap();
        assert_eq!(receiver.offset(), 0, "a damaged file is not continued");
        drop(receiver);
        Receiver::begin(dir.path(), 2).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
