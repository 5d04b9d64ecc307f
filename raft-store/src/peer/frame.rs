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
/// Room that is made for a body before any of it has arrived, at most.
const FIRST_BYTES: usize = 64 * 1024;

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

    /// Bytes that it takes on the way.
    pub fn wire_bytes(&self) -> u64 {
        (HEADER + self.body.len()) as u64
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
        // A length alone must not ask for much memory: the buffer grows with what has arrived.
        let mut body = Vec::with_capacity(len.min(FIRST_BYTES));
        stream.take(len as u64).read_to_end(&mut body).await?;
        if body.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
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
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

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
        assert_eq!(bytes.len() as u64, frame.wire_bytes());
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

    /// Gives the header of a frame as large as there may be and little more; notes the most that it was asked for.
    struct Stingy {
        left: Vec<u8>,
        asked: usize,
    }

    impl AsyncRead for Stingy {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked = self.asked.max(buffer.remaining());
            let taken = self.left.len().min(buffer.remaining()).min(1000);
            buffer.put_slice(&self.left[..taken]);
            self.left.drain(..taken);
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_length_alone_asks_for_little_memory() {
        let limit = crate::limits::PEER_FRAME_BYTES;
        let mut left = vec![0; HEADER + 100_000];
        left[..4].copy_from_slice(&u32::try_from(limit).unwrap().to_le_bytes());
        let mut stream = Stingy { left, asked: 0 };
        let error = Frame::read(&mut stream, limit).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(stream.asked <= 4 * FIRST_BYTES, "{} bytes", stream.asked);
    }

    #[tokio::test]
    async fn a_large_frame_comes_whole() {
        let frame = Frame {
            kind: Kind::Append,
            number: 1,
            body: (0..1_000_000).map(|at| (at % 251) as u8).collect(),
        };
        let mut left = Vec::new();
        frame.write_to(&mut left);
        left.extend_from_slice(b"the next");
        let mut stream = Stingy { left, asked: 0 };
        let read = Frame::read(&mut stream, 2_000_000).await.unwrap();
        assert_eq!(read, Some(frame));
        assert_eq!(stream.left, b"the next");
    }
}
