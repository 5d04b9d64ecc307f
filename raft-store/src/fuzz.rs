//! Every decoder that faces the network or the disk, fed with foreign bytes: none may panic, loop or ask for memory
//! beyond its input. One row per decoder; a short run of each is a test, `examples/fuzz_decoders.rs` makes long ones.
//!
//! The front that clients see has a table of its own, of the same form.

mod disk;
mod feed;
mod files;
mod peers;

pub use crate::mvcc::validate::txn as validate_txn;
pub use feed::{check, command};

/// A decoder.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// Well-formed inputs, from which foreign ones are made; the decoder takes each.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Whether the bytes were taken. What was decoded must encode to what decodes to the same.
    pub decode: fn(&[u8]) -> bool,
    /// Inputs of the short run.
    pub inputs: u64,
}

impl Target {
    pub const fn new(
        name: &'static str,
        samples: fn() -> Vec<Vec<u8>>,
        decode: fn(&[u8]) -> bool,
    ) -> Self {
        Self {
            name,
            samples,
            decode,
            inputs: 4000,
        }
    }

    /// For a decoder that works on files.
    const fn slow(self) -> Self {
        Self {
            inputs: 150,
            ..self
        }
    }
}

/// All decoders of the store.
pub fn targets() -> Vec<&'static Target> {
    let tables = [peers::TARGETS, disk::TARGETS, files::TARGETS];
    tables.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn foreign_bytes_are_refused_not_feared() {
        super::check(&super::targets());
    }
}
