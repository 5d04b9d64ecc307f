//! The format of the record: for each, its length without these four bytes, its kind, then its parts. Numbers are little
//! endian: a length of four bytes, all others of eight. Bytes at the end go to the end of the record.

/// One change or one end of a sync. Inodes name files and folders; one that is created may have had another's number.
pub enum Record<'a> {
    /// 0: the process begins, with this folder.
    Root { folder: u64 },
    /// 1: in `folder` there is now an empty file by this name.
    File {
        folder: u64,
        inode: u64,
        name: &'a [u8],
    },
    /// 2: likewise a folder.
    Folder {
        folder: u64,
        inode: u64,
        name: &'a [u8],
    },
    /// 3: bytes at a place in a file.
    Write {
        inode: u64,
        offset: u64,
        bytes: &'a [u8],
    },
    /// 4: likewise so many zeros.
    Zeros { inode: u64, offset: u64, len: u64 },
    /// 5: a file has this size now; what is added is zero.
    Size { inode: u64, size: u64 },
    /// 6: a name is gone.
    Remove { folder: u64, name: &'a [u8] },
    /// 7: a name is another now, and what had that is gone. The old name ends with a zero.
    Rename {
        from: u64,
        to: u64,
        names: (&'a [u8], &'a [u8]),
    },
    /// 8: a sync begins; these are numbered from 1 in each process.
    SyncBegins { inode: u64, number: u64 },
    /// 9: it has succeeded.
    SyncEnds { inode: u64, number: u64 },
}

impl Record<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let (kind, numbers, parts): (u8, &[u64], [&[u8]; 3]) = match self {
            Record::Root { folder } => (0, &[*folder], [b"", b"", b""]),
            Record::File {
                folder,
                inode,
                name,
            } => (1, &[*folder, *inode], [name, b"", b""]),
            Record::Folder {
                folder,
                inode,
                name,
            } => (2, &[*folder, *inode], [name, b"", b""]),
            Record::Write {
                inode,
                offset,
                bytes,
            } => (3, &[*inode, *offset], [bytes, b"", b""]),
            Record::Zeros { inode, offset, len } => (4, &[*inode, *offset, *len], [b"", b"", b""]),
            Record::Size { inode, size } => (5, &[*inode, *size], [b"", b"", b""]),
            Record::Remove { folder, name } => (6, &[*folder], [name, b"", b""]),
            Record::Rename { from, to, names } => (7, &[*from, *to], [names.0, b"\0", names.1]),
            Record::SyncBegins { inode, number } => (8, &[*inode, *number], [b"", b"", b""]),
            Record::SyncEnds { inode, number } => (9, &[*inode, *number], [b"", b"", b""]),
        };
        let len = 1 + 8 * numbers.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut record = Vec::with_capacity(4 + len);
        // Nothing that is written at once is larger.
        record.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        record.push(kind);
        for number in numbers {
            record.extend_from_slice(&number.to_le_bytes());
        }
        for part in parts {
            record.extend_from_slice(part);
        }
        record
    }
}
