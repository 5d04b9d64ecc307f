//! The values of the column families: what is known of a key now, of a version, of a change.
//!
//! Each begins with a format byte. The value of a key lies in `current` and in its change's `rev` row; `kv` marks some
//! of the changes of a key.

use bytes::Bytes;

use super::keys::Revision;
use crate::KeyValue;
use crate::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64, read_u64};

const FORMAT: u8 = 1;

/// A `current` row: the newest state of a living key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    pub create_revision: i64,
    pub modified: Revision,
    pub version: i64,
    pub lease: i64,
    pub value: Bytes,
}

impl Current {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(24 + self.value.len());
        out.push(FORMAT);
        put_i64(&mut out, self.create_revision);
        put_i64(&mut out, self.modified.main);
        put_u64(&mut out, u64::from(self.modified.sub));
        put_i64(&mut out, self.version);
        put_i64(&mut out, self.lease);
        out.extend_from_slice(&self.value);
        out
    }

    pub fn decode(mut raw: Bytes) -> Result<Self, DecodeError> {
        let (mut head, value_at) = Self::decode_head(&raw)?;
        head.value = raw.split_off(value_at);
        Ok(head)
    }

    /// Everything but the value, and where in `raw` the value begins.
    pub fn decode_head(raw: &[u8]) -> Result<(Self, usize), DecodeError> {
        let Some((&FORMAT, mut rest)) = raw.split_first() else {
            return Err(DecodeError("unknown record format"));
        };
        let head = Self {
            create_revision: read_u64(&mut rest)? as i64,
            modified: Revision {
                main: read_u64(&mut rest)? as i64,
                sub: u32::try_from(read_u64(&mut rest)?)
                    .map_err(|_| DecodeError("sub-revision too large"))?,
            },
            version: read_u64(&mut rest)? as i64,
            lease: read_u64(&mut rest)? as i64,
            value: Bytes::new(),
        };
        Ok((head, raw.len() - rest.len()))
    }

    pub fn into_key_value(self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create_revision,
            mod_revision: self.modified.main,
            version: self.version,
            value: self.value,
            lease: self.lease,
        }
    }
}

/// A `kv` row: a version of a key that is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub sub: u32,
    pub deleted: bool,
}

impl Version {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT, u8::from(self.deleted)];
        put_u64(&mut out, u64::from(self.sub));
        out
    }

    pub fn decode(raw: &[u8]) -> Result<Self, DecodeError> {
        // Nearly always one byte of sub-revision: spare the buffer.
        if let [FORMAT, deleted @ (0 | 1), small @ 0..0x80] = *raw {
            return Ok(Self {
                sub: u32::from(small),
                deleted: deleted == 1,
            });
        }
        let mut reader = Reader::new(Bytes::copy_from_slice(raw));
        expect_format(&mut reader)?;
        Ok(Self {
            deleted: reader.bool()?,
            sub: sub(&mut reader)?,
        })
    }
}

/// A `rev` row: one change. A deletion has the version that it replaced, and neither value nor lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub deleted: bool,
    pub key: Bytes,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
    /// The version this change replaced.
    pub previous: Option<Revision>,
    pub value: Bytes,
}

impl Change {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.key.len() + self.value.len());
        out.push(FORMAT);
        out.push(u8::from(self.deleted));
        put_bytes(&mut out, &self.key);
        put_i64(&mut out, self.create_revision);
        put_i64(&mut out, self.version);
        put_i64(&mut out, self.lease);
        let previous = self.previous.unwrap_or_default();
        put_i64(&mut out, previous.main);
        put_u64(&mut out, u64::from(previous.sub));
        out.extend_from_slice(&self.value);
        out
    }

    pub fn decode(raw: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(raw);
        expect_format(&mut reader)?;
        let deleted = reader.bool()?;
        let key = reader.bytes()?;
        let (create_revision, version, lease) = (reader.i64()?, reader.i64()?, reader.i64()?);
        let previous = Revision {
            main: reader.i64()?,
            sub: sub(&mut reader)?,
        };
        Ok(Self {
            deleted,
            key,
            create_revision,
            version,
            lease,
            previous: (previous.main > 0).then_some(previous),
            value: reader.rest(),
        })
    }

    /// The key as this change left it, made at revision `main`.
    pub fn into_key_value(self, main: i64) -> KeyValue {
        if self.deleted {
            return KeyValue {
                key: self.key,
                mod_revision: main,
                ..KeyValue::default()
            };
        }
        KeyValue {
            key: self.key,
            create_revision: self.create_revision,
            mod_revision: main,
            version: self.version,
            value: self.value,
            lease: self.lease,
        }
    }
}

fn expect_format(reader: &mut Reader) -> Result<(), DecodeError> {
    match reader.u8()? {
        FORMAT => Ok(()),
        _ => Err(DecodeError("unknown record format")),
    }
}

fn sub(reader: &mut Reader) -> Result<u32, DecodeError> {
    u32::try_from(reader.u64()?).map_err(|_| DecodeError("sub-revision too large"))
}
