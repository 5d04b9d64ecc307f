//! The little binary encoding shared by log entries and state records: varints and length-prefixed bytes.
//!
//! Readers never panic on foreign bytes. Must not know: what is encoded.

use bytes::{Buf, Bytes};

/// Bytes that are not what this program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed data: {0}")]
pub struct DecodeError(pub &'static str);

/// Appends an unsigned LEB128 number.
pub fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number; small positive ones stay small (negative ones take ten bytes).
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, value as u64);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads an unsigned LEB128 number and moves `data` behind it.
pub fn read_u64(data: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = data.split_first() else {
            return Err(DecodeError("unexpected end"));
        };
        *data = rest;
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError("number too long"))
}

/// Decodes from a shared buffer; byte strings are slices of it, not copies.
#[derive(Clone, Debug)]
pub struct Reader {
    data: Bytes,
}

impl Reader {
    pub fn new(data: Bytes) -> Self {
        Self { data }
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        if self.data.is_empty() {
            return Err(DecodeError("unexpected end"));
        }
        Ok(self.data.get_u8())
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut rest = self.data.as_ref();
        let value = read_u64(&mut rest)?;
        let read = self.data.len() - rest.len();
        self.data.advance(read);
        Ok(value)
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(self.u64()? as i64)
    }

    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError("neither true nor false")),
        }
    }

    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.u64()?;
        if len > self.data.len() as u64 {
            return Err(DecodeError("length beyond the end"));
        }
        Ok(self.data.split_to(len as usize))
    }

    /// A count of items that follow, each of at least one byte.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let count = self.u64()?;
        if count > self.data.len() as u64 {
            return Err(DecodeError("count beyond the end"));
        }
        Ok(count as usize)
    }

    /// All that is left.
    pub fn rest(self) -> Bytes {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_round_trip(a: u64, b: i64, c: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(&mut out, a);
            put_i64(&mut out, b);
            put_bytes(&mut out, &c);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.u64().unwrap(), a);
            prop_assert_eq!(reader.i64().unwrap(), b);
            prop_assert_eq!(reader.bytes().unwrap(), c);
            prop_assert!(reader.is_empty());
        }
    }
}
