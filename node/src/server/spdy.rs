//! The part of SPDY/3.1 that a client of the runtime's streaming server needs: open streams, send and receive data, end a stream.
//!
//! Runtimes stream over SPDY since Docker; its WebSocket form cannot tell a command that its input has ended, SPDY can. Headers that
//! arrive are skipped unread, so no decompression is needed; those that are sent are stored, not compressed. Pure.

use std::io;

/// A stream on the connection; a client's are odd.
pub(super) type StreamId = u32;

/// Frame types of the protocol that are looked at.
const SYN_STREAM: u16 = 1;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// The flag that ends a stream's direction.
const FIN: u8 = 1;
/// The largest payload of one frame that is sent, in bytes.
pub(super) const MAX_DATA: usize = 32 * 1024;
/// Bytes of a frame's head.
pub(super) const HEAD: usize = 8;

/// What a frame from the peer says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data {
        stream: StreamId,
        fin: bool,
        payload: Vec<u8>,
    },
    Reset {
        stream: StreamId,
    },
    /// To be sent back as it is.
    Ping {
        payload: Vec<u8>,
    },
    GoAway,
    /// Nothing that matters here.
    Other,
}

/// Builds frames; keeps the state of the header stream.
#[derive(Default)]
pub(super) struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Opens a stream with these headers.
    pub(super) fn open(&mut self, stream: StreamId, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for (name, value) in headers {
            for text in [name.to_lowercase().as_str(), value] {
                block.extend((text.len() as u32).to_be_bytes());
                block.extend(text.as_bytes());
            }
        }
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0, 0, 0, 0, 0, 0]);
        body.extend(self.stored(&block));
        control(SYN_STREAM, 0, &body)
    }

    /// A zlib stream of stored blocks; its head comes once for each connection.
    fn stored(&mut self, block: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(block.len() + 12);
        if !self.begun {
            out.extend([0x78, 0x01]);
            self.begun = true;
        }
        let length = u16::try_from(block.len()).expect("headers of ours are short");
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
        // An empty block is the flush that lets the reader have what came before.
        out.extend([0, 0, 0, 0xff, 0xff]);
        out
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.push(flags);
    frame.extend(&(body.len() as u32).to_be_bytes()[1..]);
    frame.extend(body);
    frame
}

/// Data on a stream, at most [`MAX_DATA`] bytes.
pub(super) fn data(stream: StreamId, payload: &[u8], fin: bool) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.push(if fin { FIN } else { 0 });
    frame.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    frame.extend(payload);
    frame
}

/// The answer to a ping.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    control(PING, 0, payload)
}

/// How many bytes follow a frame's head.
pub(super) fn body_length(head: &[u8; HEAD]) -> usize {
    u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize
}

/// Reads a frame.
pub(super) fn decode(head: &[u8; HEAD], body: Vec<u8>) -> io::Result<Frame> {
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if first & 0x8000_0000 == 0 {
        return Ok(Frame::Data {
            stream: first,
            fin: head[4] & FIN != 0,
            payload: body,
        });
    }
    if (first >> 16) & 0x7fff != 3 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a SPDY/3 frame",
        ));
    }
    let stream = || -> io::Result<StreamId> {
        let bytes = body.get(..4).and_then(|b| b.try_into().ok());
        bytes
            .map(u32::from_be_bytes)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    };
    Ok(match (first & 0xffff) as u16 {
        RST_STREAM => Frame::Reset { stream: stream()? },
        PING => Frame::Ping { payload: body },
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        let frame = data(5, b"hi", true);
        let head: [u8; HEAD] = frame[..HEAD].try_into().expect("a head");
        assert_eq!(body_length(&head), 2);
        let expect = Frame::Data {
            stream: 5,
            fin: true,
            payload: b"hi".to_vec(),
        };
        assert_eq!(
            decode(&head, frame[HEAD..].to_vec()).expect("a frame"),
            expect
        );
        let ping = pong(&[0, 0, 0, 2]);
        let head: [u8; HEAD] = ping[..HEAD].try_into().expect("a head");
        assert_eq!(
            decode(&head, vec![0, 0, 0, 2]).expect("a frame"),
            Frame::Ping {
                payload: vec![0, 0, 0, 2]
            }
        );
        assert!(decode(&[0x80, 2, 0, 1, 0, 0, 0, 0], vec![]).is_err());
    }

    #[test]
    fn headers_are_valid_zlib() {
        use std::io::Read;
        let mut encoder = Encoder::default();
        let first = encoder.open(1, &[("streamType", "error")]);
        let second = encoder.open(3, &[("streamType", "stdin")]);
        let mut joined = first[HEAD + 10..].to_vec();
        joined.extend(&second[HEAD + 10..]);
        let mut text = vec![0; 2 * (4 + 4 + 10 + 4 + 5)];
        flate2::read::ZlibDecoder::new(joined.as_slice())
            .read_exact(&mut text)
            .expect("inflated");
        assert_eq!(&text[8..18], b"streamtype");
        assert_eq!(&text[text.len() - 5..], b"stdin");
    }
}
