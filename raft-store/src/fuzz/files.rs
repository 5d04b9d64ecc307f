//! Whole files that this member may find or be sent: segments of the log, snapshots. Checksums of half of the inputs are
//! made right again after they were edited, so that what lies behind them is reached.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Target;
use super::disk::batch;
use crate::{log, snapshot};

pub const TARGETS: &[Target] = &[
    Target::new("segments of the log", segments, recover).slow(),
    Target::new("snapshot files", snapshots, verify).slow(),
];

/// The member whose log it is.
const MEMBER: u64 = 7;
const MOST_SEGMENTS: u64 = 4;

/// A folder of its own, removed when dropped.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("raft-store-fuzz-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for files that are tried");
        Self { path }
    }

    /// Of all files in it.
    pub fn bytes(&self) -> u64 {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        let metadata = entries.flatten().filter_map(|entry| entry.metadata().ok());
        metadata.map(|metadata| metadata.len()).sum()
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.path.join(name);
        std::fs::write(&file, content).expect("a file that is tried is written");
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies where files are removed sooner or later.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A byte whose lowest bit asks for right checksums, then segments: two bytes with a length before each but the last.
fn recover(data: &[u8]) -> bool {
    let Some((flags, mut rest)) = data.split_first() else {
        return false;
    };
    let folder = Folder::new();
    for number in 1..=MOST_SEGMENTS {
        let parted = rest
            .split_first_chunk::<2>()
            .and_then(|(len, rest)| rest.split_at_checked(usize::from(u16::from_le_bytes(*len))));
        let (segment, more) = parted.unwrap_or((rest, &[][..]));
        let mut segment = segment.to_vec();
        if flags & 1 == 1 {
            log::reseal(&mut segment, number);
        }
        folder.write(&format!("{number:016x}.log"), &segment);
        rest = more;
        if rest.is_empty() {
            break;
        }
    }
    log::recover_foreign(&folder.path, MEMBER)
}

fn segments() -> Vec<Vec<u8>> {
    let [first, second] = log::sample_segments(&batch(), MEMBER);
    let len = u16::try_from(first.len()).expect("the sample is short");
    let sealed = [&[0][..], &len.to_le_bytes(), &first, &second].concat();
    let mut to_seal = sealed.clone();
    to_seal[0] = 1;
    vec![sealed, to_seal]
}

/// A byte whose lowest bit asks for right checksums, then the file.
fn verify(data: &[u8]) -> bool {
    let Some((flags, content)) = data.split_first() else {
        return false;
    };
    let mut content = content.to_vec();
    if flags & 1 == 1 {
        snapshot::reseal(&mut content);
    }
    let folder = Folder::new();
    let file = folder.write("snapshot", &content);
    let strict = snapshot::verify(&file, false);
    let lenient = snapshot::verify(&file, true);
    if let Ok(summary) = &strict {
        assert_eq!(lenient.ok().as_ref(), Some(summary));
    }
    strict.is_ok()
}

fn snapshots() -> Vec<Vec<u8>> {
    let file = snapshot::sample_file();
    vec![[&[0][..], &file].concat(), [&[1][..], &file].concat()]
}
