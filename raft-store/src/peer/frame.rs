//! Frames: length, checksum, kind, number, body. A frame that was damaged on the way ends its connection.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Hello = 1,
    Append = 2,
    Vote = 3,
    PreVote = 4,
    TransferLeader = 5,
    Propose = 6,
    ReadIndex = 7,
    KeepAlive = 8,
    TimeToLive = 9,
    ChangeMembers = 10,
    Members = 11,
    SnapshotBegin = 12,
    SnapshotChunk = 13,
    SnapshotEnd = 14,
    Ping = 15,
    HashKv = 16,
    /// The answer to the call of the same number.
    Answer = 128,
    /// Likewise, but the call failed.
    Failure = 129,
}

impl Kind {
    fn parse(raw: u8) -> Option<Self> {
        use Kind::*;
        let all = [
            Hello,
            Append,
            Vote,
            PreVote,
            TransferLeader,
            Propose,
            ReadIndex,
            KeepAlive,
            TimeToLive,
            ChangeMembers,
            Members,
            SnapshotBegin,
            SnapshotChunk,
            SnapshotEnd,
            Ping,
            HashKv,
            Answer,
            Failure,
        ];
        all.into_iter().find(|kind| *kind as u8 == raw)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub kind: Kind,
    /// Chosen by the caller; its answer has the same.
    pub number: u64,
    pub body: Bytes,
}

const HEADER: usize = 17;

impl Frame {
    /// Appends the frame's bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.body.len()).expect("frames are below their limit");
        out.extend_from_slice(&len.to_le_bytes());
        let mut rest = [0; 9];
        rest[0] = self.kind as u8;
        rest[1..].copy_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&checksum(&rest, &self.body).to_le_bytes());
        out.extend_from_slice(&rest);
        out.extend_from_slice(&self.body);
    }

    /// The next frame, whose body may have up to `limit` bytes; none at the end of the stream.
    pub async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> io::Result<Option<Frame>> {
        let mut header = [0; HEADER];
        let first = stream.read(&mut header[..1]).await?;
        if first == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[1..]).await?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        let len = word(0) as usize;
        let number = u64::from_le_bytes(header[9..17].try_into().expect("eight"));
        let malformed = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        if len > limit {
            return Err(malformed("a frame is larger than its limit"));
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        if checksum(&header[8..], &body) != word(4) {
            return Err(malformed("a frame was damaged on the way"));
        }
        let kind = Kind::parse(header[8]).ok_or_else(|| malformed("a frame of unknown kind"))?;
        Ok(Some(Frame {
            kind,
            number,
            body: body.into(),
        }))
    }
}

fn checksum(rest: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(rest), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_back_whole_or_not_at_all() {
        let frame = Frame {
            kind: Kind::Propose,
            number: 7,
            body: Bytes::from_static(b"body"),
        };
        let mut bytes = Vec::new();
        frame.write_to(&mut bytes);
        frame.write_to(&mut bytes);
        let mut reader = bytes.as_slice();
        assert_eq!(Frame::read(&mut reader, 99).await.unwrap().unwrap(), frame);
        assert_eq!(Frame::read(&mut reader, 99).await.unwrap().unwrap(), frame);
        assert_eq!(Frame::read(&mut reader, 99).await.unwrap(), None);
        for at in 0..bytes.len() / 2 {
            let mut damaged = bytes[..bytes.len() / 2].to_vec();
            damaged[at] ^= 0x40;
            assert!(
                Frame::read(&mut damaged.as_slice(), 99).await.is_err(),
                "byte {at}"
            );
        }
    }
}
