//! gRPC's framing of the one message that a unary call has. Pure: pieces of a body in, the message out.

use bytes::{Bytes, BytesMut};
use tonic::{Code, Status};

/// gRPC's frame: a byte that says whether the message is compressed, four for its length.
pub(crate) const FRAME_HEADER: usize = 5;

/// A message of which some has arrived.
pub(crate) struct Framing {
    whole: Bytes,
    limit: usize,
}

impl Framing {
    /// Of a message that may have up to `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            whole: Bytes::new(),
            limit,
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// The message is too large, or says that it will be.
    pub fn take(&mut self, data: Bytes) -> Result<(), Status> {
        self.whole = joined(std::mem::take(&mut self.whole), data);
        let limit = self.limit;
        let announced = announced(&self.whole).unwrap_or(0);
        if announced > limit || self.whole.len() > FRAME_HEADER + limit {
            let size = announced.max(self.whole.len() - FRAME_HEADER);
            let text = format!("grpc: received message larger than max ({size} vs. {limit})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(())
    }

    /// The message, once the body has ended.
    ///
    /// # Errors
    /// It is compressed, cut short, or not alone.
    pub fn end(mut self) -> Result<Bytes, Status> {
        let incomplete = || Status::internal("unexpected EOF");
        let len = announced(&self.whole).ok_or_else(incomplete)?;
        if self.whole[0] != 0 {
            return Err(Status::internal(
                "grpc: compressed flag set with identity or empty encoding",
            ));
        }
        if self.whole.len() != FRAME_HEADER + len {
            return Err(incomplete());
        }
        Ok(self.whole.split_off(FRAME_HEADER))
    }
}

fn joined(whole: Bytes, next: Bytes) -> Bytes {
    if whole.is_empty() {
        return next;
    }
    // Rarely more than one piece; many only for large values.
    let mut both = whole
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    both.extend_from_slice(&next);
    both.freeze()
}

/// The length in the frame's header, once that has arrived.
fn announced(whole: &[u8]) -> Option<usize> {
    let header = whole.first_chunk::<FRAME_HEADER>()?;
    Some(u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined() {
        let check = |pieces: &[&'static [u8]], expect: Result<&str, &str>| {
            let mut framing = Framing::new(4);
            let mut taken = pieces
                .iter()
                .map(|piece| framing.take(Bytes::from_static(piece)));
            let refused = taken.find_map(Result::err);
            let answer = match refused {
                Some(refused) => Err(refused),
                None => framing.end(),
            };
            let answer = answer.map(|message| message.to_vec());
            let answer = answer.map_err(|status| status.message().to_owned());
            let expect = expect.map(|text| text.as_bytes().to_vec());
            assert_eq!(answer, expect.map_err(str::to_owned), "{pieces:?}");
        };
        check(&[b"\0\0\0\0\x03abc"], Ok("abc"));
        check(&[b"\0\0", b"", b"\0\0\x03a", b"bc"], Ok("abc"));
        check(&[b"\0\0\0\0\0"], Ok(""));
        check(&[], Err("unexpected EOF"));
        check(&[b"\0\0\0\0"], Err("unexpected EOF"));
        check(&[b"\0\0\0\0\x03ab"], Err("unexpected EOF"));
        check(&[b"\0\0\0\0\x01ab"], Err("unexpected EOF"));
        let compressed = "grpc: compressed flag set with identity or empty encoding";
        check(&[b"\x01\0\0\0\0"], Err(compressed));
        let large = "grpc: received message larger than max (5 vs. 4)";
        check(&[b"\0\0\0\0\x05"], Err(large));
        check(&[b"\0\0\0\0\x04", b"abcde"], Err(large));
    }
}
