//! A disk as it may be after a loss of power: what was synced is there, of all else any part may be.
//!
//! A sync of a file covers its bytes and its size, a sync of a folder the names in it, and neither more: that is all that
//! POSIX promises, and less than most file systems do. Names of one folder change on the disk in the order in which they
//! were changed, as with every journal; bytes in any. Only a file's end moves no further than its bytes are written (ordered
//! data, the default of ext4, XFS and Btrfs): RocksDB counts on that for the end of its MANIFEST.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use super::record::{Name, Record};
use crate::random::Random;

/// Parts of this size reach a disk whole or not at all, in any order.
const SECTOR: usize = 512;

/// Which of the changes that were not synced are on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    None,
    All,
    /// Those before a moment, and a part of the one in which it falls; for each file another moment.
    Earlier,
    /// Any of them, each perhaps in part.
    Any,
}

pub const KEPT: [Kept; 4] = [Kept::None, Kept::All, Kept::Earlier, Kept::Any];

#[derive(Clone)]
enum Bytewise {
    Write { offset: usize, bytes: Bytes },
    Zeros { offset: usize, len: usize },
    Size(usize),
}

enum Named {
    Add(Name, usize),
    Remove(Name),
    Rename(Name, Name),
}

/// What is on the disk for certain, and what was changed since: each with the number of its record.
struct Pending<S, C> {
    synced: S,
    changes: Vec<(usize, C)>,
}

enum Node {
    File(Pending<Vec<u8>, Bytewise>),
    Folder(Pending<BTreeMap<Name, usize>, Named>),
}

#[derive(Default)]
pub struct Disk {
    nodes: Vec<Node>,
    /// An inode's number is used again once its file is gone.
    inodes: HashMap<u64, usize>,
    root: usize,
    /// Records taken.
    taken: usize,
    /// Where syncs that go on have begun.
    syncs: HashMap<(u64, u64), usize>,
}

impl Disk {
    /// Takes the next record.
    pub fn take(&mut self, record: &Record) -> Result<()> {
        self.taken += 1;
        match record {
            Record::Root { folder } => {
                // Another process: it counts its syncs anew, and has all that the one before had not synced.
                self.syncs.clear();
                if self.nodes.is_empty() {
                    self.root = self.add(*folder, Node::Folder(Pending::empty()));
                }
                ensure!(
                    self.inodes.get(folder) == Some(&self.root),
                    "another folder"
                );
            }
            Record::File {
                folder,
                inode,
                name,
            } => {
                self.make(*folder, *inode, name, Node::File(Pending::empty()))?;
            }
            Record::Folder {
                folder,
                inode,
                name,
            } => {
                self.make(*folder, *inode, name, Node::Folder(Pending::empty()))?;
            }
            Record::Write {
                inode,
                offset,
                bytes,
            } => {
                let (offset, bytes) = (usize::try_from(*offset)?, bytes.clone());
                self.change(*inode, Bytewise::Write { offset, bytes })?;
            }
            Record::Zeros { inode, offset, len } => {
                let (offset, len) = (usize::try_from(*offset)?, usize::try_from(*len)?);
                self.change(*inode, Bytewise::Zeros { offset, len })?;
            }
            Record::Size { inode, size } => {
                self.change(*inode, Bytewise::Size(usize::try_from(*size)?))?;
            }
            Record::Remove { folder, name } => self.name(*folder, Named::Remove(name.clone()))?,
            Record::Rename { from, to, names } => {
                ensure!(from == to, "a move into another folder");
                self.name(*from, Named::Rename(names.0.clone(), names.1.clone()))?;
            }
            Record::SyncBegins { inode, number } => {
                self.syncs.insert((*inode, *number), self.taken);
            }
            Record::SyncEnds { inode, number } => {
                let begun = self.syncs.remove(&(*inode, *number));
                let begun = begun.context("the end of a sync that has not begun")?;
                // Its file may be removed already.
                if let Some(node) = self.inodes.get(inode) {
                    self.nodes[*node].sync(begun);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, inode: u64, node: Node) -> usize {
        self.nodes.push(node);
        let added = self.nodes.len() - 1;
        self.inodes.insert(inode, added);
        added
    }

    fn make(&mut self, folder: u64, inode: u64, name: &Name, node: Node) -> Result<()> {
        let made = self.add(inode, node);
        self.name(folder, Named::Add(name.clone(), made))
    }

    fn node(&mut self, inode: u64) -> Result<&mut Node> {
        let node = self.inodes.get(&inode);
        let node = *node.with_context(|| format!("inode {inode} was never made"))?;
        Ok(&mut self.nodes[node])
    }

    fn change(&mut self, inode: u64, change: Bytewise) -> Result<()> {
        let now = self.taken;
        match self.node(inode)? {
            Node::File(file) => file.changes.push((now, change)),
            Node::Folder(_) => bail!("bytes are written into a folder"),
        }
        Ok(())
    }

    fn name(&mut self, folder: u64, change: Named) -> Result<()> {
        let now = self.taken;
        match self.node(folder)? {
            Node::Folder(folder) => folder.changes.push((now, change)),
            Node::File(_) => bail!("a name in a file"),
        }
        Ok(())
    }

    /// Makes the disk after a loss of power now, at `path`, which does not exist.
    pub fn write(&self, path: &Path, kept: Kept, random: &mut Random) -> Result<()> {
        self.write_node(self.root, path, kept, random)
    }

    fn write_node(&self, node: usize, path: &Path, kept: Kept, random: &mut Random) -> Result<()> {
        match &self.nodes[node] {
            Node::File(file) => Ok(fs::write(path, file.content(kept, random))?),
            Node::Folder(folder) => {
                DirBuilder::new().mode(0o700).create(path)?;
                for (name, node) in folder.names(kept, random) {
                    let path = path.join(std::ffi::OsStr::from_bytes(&name));
                    self.write_node(node, &path, kept, random)?;
                }
                Ok(())
            }
        }
    }
}

impl Node {
    fn sync(&mut self, begun: usize) {
        match self {
            Self::File(file) => file.sync(begun, Bytewise::apply),
            Self::Folder(folder) => folder.sync(begun, Named::apply),
        }
    }
}

impl<S: Default, C> Pending<S, C> {
    fn empty() -> Self {
        Self {
            synced: S::default(),
            changes: Vec::new(),
        }
    }

    fn sync(&mut self, begun: usize, apply: impl Fn(&C, &mut S)) {
        let covered = self.changes.partition_point(|(at, _)| *at < begun);
        for (_, change) in self.changes.drain(..covered) {
            apply(&change, &mut self.synced);
        }
    }
}

impl Pending<Vec<u8>, Bytewise> {
    fn content(&self, kept: Kept, random: &mut Random) -> Vec<u8> {
        let mut content = self.synced.clone();
        let count = self.changes.len();
        let whole = match kept {
            Kept::None | Kept::Any => 0,
            Kept::All => count,
            Kept::Earlier => random.index(count + 1),
        };
        for (_, change) in &self.changes[..whole] {
            change.apply(&mut content);
        }
        // Something that the file grew by is missing: what came behind it is, too.
        let mut ended = false;
        for (at, (_, change)) in self.changes.iter().enumerate().skip(whole) {
            let grows = change.end() > content.len();
            if grows && ended {
                continue;
            }
            match kept {
                Kept::Any if random.percent(40) => change.apply(&mut content),
                Kept::Any if random.percent(50) => {
                    change.tear(random, &mut content);
                    ended |= grows;
                }
                Kept::Earlier if at == whole => change.tear(random, &mut content),
                _ => ended |= grows,
            }
        }
        content
    }
}

impl Pending<BTreeMap<Name, usize>, Named> {
    fn names(&self, kept: Kept, random: &mut Random) -> BTreeMap<Name, usize> {
        let mut names = self.synced.clone();
        let count = match kept {
            Kept::None => 0,
            Kept::All => self.changes.len(),
            Kept::Earlier | Kept::Any => random.index(self.changes.len() + 1),
        };
        for (_, change) in &self.changes[..count] {
            change.apply(&mut names);
        }
        names
    }
}

impl Bytewise {
    fn apply(&self, content: &mut Vec<u8>) {
        let mut grow = |end: usize| {
            if content.len() < end {
                content.resize(end, 0);
            }
        };
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                grow(end);
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Zeros { offset, len } => {
                let end = offset + len;
                grow(end);
                content[*offset..end].fill(0);
            }
            Self::Size(size) => content.resize(*size, 0),
        }
    }

    /// Where the bytes that it brings end.
    fn end(&self) -> usize {
        match self {
            Self::Write { offset, bytes } => offset + bytes.len(),
            Self::Zeros { offset, len } => offset + len,
            Self::Size(_) => 0,
        }
    }

    /// Applies a part: up to any byte, or, of what the file has, any of its sectors.
    fn tear(&self, random: &mut Random, content: &mut Vec<u8>) {
        let Self::Write { offset, bytes } = self else {
            return self.apply(content);
        };
        let part = |from: usize, to: usize| Self::Write {
            offset: offset + from,
            bytes: bytes.slice(from..to),
        };
        if self.end() > content.len() || random.percent(50) {
            return part(0, random.index(bytes.len() + 1)).apply(content);
        }
        let mut from = 0;
        while from < bytes.len() {
            let to = ((offset + from) / SECTOR * SECTOR + SECTOR - offset).min(bytes.len());
            if random.percent(50) {
                part(from, to).apply(content);
            }
            from = to;
        }
    }
}

impl Named {
    fn apply(&self, names: &mut BTreeMap<Name, usize>) {
        match self {
            Self::Add(name, node) => {
                names.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                names.remove(name);
            }
            Self::Rename(old, new) => {
                if let Some(node) = names.remove(old) {
                    names.insert(new.clone(), node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(disk: &mut Disk, inode: u64, name: &str) {
        let name = name.as_bytes().to_vec();
        let record = Record::File {
            folder: 1,
            inode,
            name,
        };
        disk.take(&record).unwrap();
    }

    fn write(disk: &mut Disk, inode: u64, offset: u64, bytes: &'static str) {
        let bytes = Bytes::from_static(bytes.as_bytes());
        let record = Record::Write {
            inode,
            offset,
            bytes,
        };
        disk.take(&record).unwrap();
    }

    fn sync(disk: &mut Disk, inode: u64, number: u64) {
        disk.take(&Record::SyncBegins { inode, number }).unwrap();
        disk.take(&Record::SyncEnds { inode, number }).unwrap();
    }

    fn after(disk: &Disk, kept: Kept, seed: u64) -> BTreeMap<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        disk.write(&path, kept, &mut Random::new(seed)).unwrap();
        let entries = fs::read_dir(path).unwrap().map(|entry| {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            (entry.file_name().into_string().unwrap(), text)
        });
        entries.collect()
    }

    fn expect(found: &BTreeMap<String, String>, names: &[(&str, &str)]) {
        let names: Vec<_> = names.iter().map(|(a, b)| (*a, *b)).collect();
        let found: Vec<_> = found
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(found, names);
    }

    #[test]
    fn what_was_synced_is_there_and_nothing_else_need_be() {
        let mut disk = Disk::default();
        disk.take(&Record::Root { folder: 1 }).unwrap();
        file(&mut disk, 2, "a");
        write(&mut disk, 2, 0, "first");
        sync(&mut disk, 2, 1);
        // Its name was not.
        expect(&after(&disk, Kept::None, 1), &[]);
        sync(&mut disk, 1, 2);
        write(&mut disk, 2, 5, " second");
        expect(&after(&disk, Kept::None, 1), &[("a", "first")]);
        expect(&after(&disk, Kept::All, 1), &[("a", "first second")]);
    }

    #[test]
    fn a_sync_does_not_cover_what_is_written_while_it_goes_on() {
        let mut disk = Disk::default();
        disk.take(&Record::Root { folder: 1 }).unwrap();
        file(&mut disk, 2, "a");
        sync(&mut disk, 1, 1);
        write(&mut disk, 2, 0, "x");
        let (inode, number) = (2, 2);
        disk.take(&Record::SyncBegins { inode, number }).unwrap();
        write(&mut disk, 2, 1, "y");
        disk.take(&Record::SyncEnds { inode, number }).unwrap();
        expect(&after(&disk, Kept::None, 1), &[("a", "x")]);
    }

    #[test]
    fn a_name_is_the_old_one_or_the_new_one() {
        let mut disk = Disk::default();
        disk.take(&Record::Root { folder: 1 }).unwrap();
        file(&mut disk, 2, "a");
        write(&mut disk, 2, 0, "old");
        sync(&mut disk, 2, 1);
        sync(&mut disk, 1, 2);
        file(&mut disk, 3, "a.new");
        write(&mut disk, 3, 0, "new");
        sync(&mut disk, 3, 3);
        let names = (b"a.new".to_vec(), b"a".to_vec());
        let record = Record::Rename {
            from: 1,
            to: 1,
            names,
        };
        disk.take(&record).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let found = after(&disk, Kept::Any, seed);
            let text = found["a"].clone();
            assert!(text == "old" || text == "new", "{text}");
            seen.insert((text, found.len()));
        }
        assert_eq!(seen.len(), 3, "{seen:?}");
    }

    #[test]
    fn writes_are_torn_at_any_byte_and_by_sectors() {
        let mut disk = Disk::default();
        disk.take(&Record::Root { folder: 1 }).unwrap();
        file(&mut disk, 2, "a");
        sync(&mut disk, 1, 1);
        write(&mut disk, 2, 0, "0123456789");
        let lengths = (0..200).map(|seed| after(&disk, Kept::Any, seed)["a"].len());
        let lengths: std::collections::BTreeSet<_> = lengths.collect();
        assert_eq!(lengths.len(), 11, "{lengths:?}");
        let long = "x".repeat(4 * SECTOR).leak();
        write(&mut disk, 2, 0, long);
        sync(&mut disk, 2, 2);
        write(&mut disk, 2, 0, "y".repeat(4 * SECTOR).leak());
        let changed = (0..200).map(|seed| after(&disk, Kept::Any, seed)["a"].clone());
        let gaps = changed.filter(|text| text.contains("yx") && text.contains("xy"));
        assert!(gaps.count() > 10, "sectors come in any order");
    }

    #[test]
    fn a_file_does_not_end_behind_bytes_that_are_missing() {
        let mut disk = Disk::default();
        disk.take(&Record::Root { folder: 1 }).unwrap();
        file(&mut disk, 2, "a");
        sync(&mut disk, 1, 1);
        let text = "0123456789abcdefghij";
        for at in 0..4 {
            write(&mut disk, 2, 5 * at as u64, &text[5 * at..5 * at + 5]);
        }
        for seed in 0..200 {
            let found = after(&disk, Kept::Any, seed)["a"].clone();
            assert!(text.starts_with(&found), "{found}");
        }
    }
}
