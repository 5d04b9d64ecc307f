//! What a process asked of its disk, as the library disk-trace has recorded it; the format is described there.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes};

pub type Name = Vec<u8>;

/// Inodes name files and folders.
#[derive(Debug)]
pub enum Record {
    Root {
        folder: u64,
    },
    File {
        folder: u64,
        inode: u64,
        name: Name,
    },
    Folder {
        folder: u64,
        inode: u64,
        name: Name,
    },
    Write {
        inode: u64,
        offset: u64,
        bytes: Bytes,
    },
    Zeros {
        inode: u64,
        offset: u64,
        len: u64,
    },
    Size {
        inode: u64,
        size: u64,
    },
    Remove {
        folder: u64,
        name: Name,
    },
    Rename {
        from: u64,
        to: u64,
        names: (Name, Name),
    },
    SyncBegins {
        inode: u64,
        number: u64,
    },
    SyncEnds {
        inode: u64,
        number: u64,
    },
}

impl Record {
    /// It changes which files there are: seldom, and what is hard to get right.
    pub fn is_of_names(&self) -> bool {
        matches!(
            self,
            Self::File { .. } | Self::Folder { .. } | Self::Remove { .. } | Self::Rename { .. }
        )
    }
}

/// A record and the length of the trace with it.
pub struct Traced {
    pub record: Record,
    pub end: u64,
}

/// Reads the whole trace; a record that a kill has cut short is left out.
pub fn read(file: &Path) -> Result<Vec<Traced>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut rest = Bytes::from(bytes);
    let mut records = Vec::new();
    let mut end = 0;
    while rest.len() >= 4 {
        let len = rest.get_u32_le() as usize;
        if rest.len() < len {
            break;
        }
        end += 4 + len as u64;
        let record = decode(rest.split_to(len))
            .with_context(|| format!("{}: the record that ends at {end}", file.display()))?;
        records.push(Traced { record, end });
    }
    Ok(records)
}

fn decode(mut bytes: Bytes) -> Result<Record> {
    ensure!(!bytes.is_empty(), "empty");
    let kind = bytes.get_u8();
    let mut number = || bytes.try_get_u64_le().context("cut short");
    Ok(match kind {
        0 => Record::Root { folder: number()? },
        1 | 2 => {
            let (folder, inode, name) = (number()?, number()?, bytes.to_vec());
            match kind {
                1 => Record::File {
                    folder,
                    inode,
                    name,
                },
                _ => Record::Folder {
                    folder,
                    inode,
                    name,
                },
            }
        }
        3 => Record::Write {
            inode: number()?,
            offset: number()?,
            bytes,
        },
        4 => Record::Zeros {
            inode: number()?,
            offset: number()?,
            len: number()?,
        },
        5 => Record::Size {
            inode: number()?,
            size: number()?,
        },
        6 => Record::Remove {
            folder: number()?,
            name: bytes.to_vec(),
        },
        7 => {
            let (from, to) = (number()?, number()?);
            let mut names = bytes.splitn(2, |byte| *byte == 0).map(<[u8]>::to_vec);
            let old = names.next().context("no old name")?;
            let names = (old, names.next().context("no new name")?);
            Record::Rename { from, to, names }
        }
        8 => Record::SyncBegins {
            inode: number()?,
            number: number()?,
        },
        9 => Record::SyncEnds {
            inode: number()?,
            number: number()?,
        },
        kind => bail!("kind {kind}"),
    })
}
