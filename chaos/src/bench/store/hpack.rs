//! The header blocks of the load's calls, as small as any client's: what was sent once is named by its number in the
//! table that both sides keep (RFC 7541).

use bytes::{BufMut, Bytes, BytesMut};

/// The first number that is not one of the standard's own table.
const OWN_TABLE: usize = 62;
/// In the standard's table: `:method: POST` and `:scheme: http`.
const POST: u8 = 0x83;
const HTTP: u8 = 0x86;
/// A header that is to be remembered, with the number of its name, or 0 before a name of its own.
const REMEMBERED: u8 = 0x40;
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const CONTENT_TYPE: u8 = 31;
/// A header that stands in a table.
const INDEXED: u8 = 0x80;

/// What one connection has sent.
pub struct Headers {
    address: String,
    /// In the order in which they were sent; the newest has the smallest number.
    methods: Vec<(&'static str, usize)>,
    /// Those that are the same for all calls.
    others: Option<[usize; 3]>,
    /// Headers sent in all.
    sent: usize,
}

impl Headers {
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            methods: Vec::new(),
            others: None,
            sent: 0,
        }
    }

    /// The block of a call.
    pub fn block(&mut self, method: &'static str) -> Bytes {
        // Names that begin with a colon come first.
        let mut out = BytesMut::from(&[POST, HTTP][..]);
        let known = self.methods.iter().find(|(known, _)| *known == method);
        match known.map(|(_, at)| *at) {
            Some(at) => out.put_u8(self.number(at)),
            None => {
                self.methods.push((method, self.sent));
                self.remember(&mut out, PATH, None, &format!("/etcdserverpb.{method}"));
            }
        }
        match self.others {
            Some(others) => out.extend(others.map(|at| self.number(at))),
            None => {
                self.others = Some([self.sent, self.sent + 1, self.sent + 2]);
                self.remember(&mut out, AUTHORITY, None, &self.address.clone());
                self.remember(&mut out, CONTENT_TYPE, None, "application/grpc");
                self.remember(&mut out, 0, Some("te"), "trailers");
            }
        }
        out.freeze()
    }

    fn number(&self, at: usize) -> u8 {
        let number = OWN_TABLE + self.sent - 1 - at;
        debug_assert!(number < 127, "few methods");
        INDEXED | number as u8
    }

    fn remember(&mut self, out: &mut BytesMut, name: u8, own_name: Option<&str>, value: &str) {
        out.put_u8(REMEMBERED | name);
        for text in own_name.into_iter().chain([value]) {
            debug_assert!(text.len() < 127, "short headers");
            out.put_u8(text.len() as u8);
            out.put_slice(text.as_bytes());
        }
        self.sent += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_once_is_named_by_its_number() {
        let mut headers = Headers::new("h:1");
        let first = headers.block("KV/Put");
        let expect = b"\x83\x86\x44\x14/etcdserverpb.KV/Put\x41\x03h:1\x5f\x10application/grpc\x40\x02te\x08trailers";
        assert_eq!(&first[..], expect);
        // Numbers 62 to 65, the newest first: te, the content's type, the authority, the path.
        let again = headers.block("KV/Put");
        assert_eq!(&again[..], [0x83, 0x86, 0xc1, 0xc0, 0xbf, 0xbe]);
        let other = headers.block("KV/Range");
        assert_eq!(&other[..3], [0x83, 0x86, 0x44]);
        assert_eq!(&other[other.len() - 3..], [0xc1, 0xc0, 0xbf]);
        assert_eq!(headers.block("KV/Put")[2], 0xc2);
    }
}
