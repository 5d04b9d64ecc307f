//! The client's half of a connection, with `:authority` made acceptable to HTTP/2 as our library reads it.
//!
//! Go's etcd client with an endpoint `http://HOST:PORT` sends that whole URL as `:authority`, which etcd takes and our
//! library refuses as a protocol error. Here such a value is replaced in the header block before the library sees it; nothing
//! of the API looks at it. A shorter value leaves the decoder's table with at least the entries that the client counts on.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How every HTTP/2 connection begins.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// A larger frame is refused by the library, which is told no other limit.
const MAX_FRAME: usize = 16 * 1024;
const HEADERS: u8 = 1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// What takes the place of a URL.
const REPLACEMENT: &[u8] = b"etcd";
/// Bytes read from the network at a time.
const READ: usize = 16 * 1024;

/// Where in the stream of frames we are.
enum State {
    /// So many bytes of the preface were seen.
    Preface(usize),
    /// So many bytes pass as they are, then a frame begins.
    Pass(usize),
    /// No HTTP/2: everything passes.
    Plain,
}

/// Finds and mends the values. Pure: bytes in, bytes out.
struct Mender {
    state: State,
    /// The beginning of a frame that is not whole yet.
    partial: Vec<u8>,
}

impl Mender {
    fn new() -> Self {
        Self {
            state: State::Preface(0),
            partial: Vec::new(),
        }
    }

    /// Takes what was read; puts what the library may see into `out`.
    fn feed(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            match self.state {
                State::Plain => {
                    out.extend_from_slice(input);
                    return;
                }
                State::Preface(seen) => {
                    let count = input.len().min(PREFACE.len() - seen);
                    let (head, rest) = input.split_at(count);
                    out.extend_from_slice(head);
                    self.state = if head != &PREFACE[seen..seen + count] {
                        State::Plain
                    } else if seen + count == PREFACE.len() {
                        State::Pass(0)
                    } else {
                        State::Preface(seen + count)
                    };
                    input = rest;
                }
                State::Pass(0) => input = self.frame(input, out),
                State::Pass(left) => {
                    let count = input.len().min(left);
                    out.extend_from_slice(&input[..count]);
                    self.state = State::Pass(left - count);
                    input = &input[count..];
                }
            }
        }
    }

    /// Takes the beginning of a frame, and the whole of one with headers.
    fn frame<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let missing = self.wanted() - self.partial.len();
        let (head, rest) = input.split_at(missing.min(input.len()));
        self.partial.extend_from_slice(head);
        if self.partial.len() < FRAME_HEADER || self.partial.len() < self.wanted() {
            return rest;
        }
        let (length, is_headers) = (self.length(), self.is_headers());
        if is_headers {
            mend(&mut self.partial);
        }
        out.append(&mut self.partial);
        self.state = State::Pass(if is_headers { 0 } else { length });
        rest
    }

    /// Bytes that must be there before this frame can be judged.
    fn wanted(&self) -> usize {
        if self.partial.len() >= FRAME_HEADER && self.is_headers() {
            FRAME_HEADER + self.length()
        } else {
            FRAME_HEADER
        }
    }

    fn length(&self) -> usize {
        let bytes = &self.partial;
        usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
    }

    /// Headers over several frames pass as they are: ours are never so long.
    fn is_headers(&self) -> bool {
        self.partial[3] == HEADERS
            && self.partial[4] & END_HEADERS != 0
            && self.length() <= MAX_FRAME
    }
}

/// Replaces the value in a whole frame of headers, if it is a URL.
fn mend(frame: &mut Vec<u8>) {
    let flags = frame[4];
    let mut start = FRAME_HEADER;
    let mut end = frame.len();
    if flags & PADDED != 0 {
        let Some(&padding) = frame.get(start) else {
            return;
        };
        start += 1;
        end = end.saturating_sub(usize::from(padding));
    }
    if flags & PRIORITY != 0 {
        start += 5;
    }
    let Some(block) = frame.get(start..end) else {
        return;
    };
    let Some((from, to)) = find_url(block) else {
        return;
    };
    let mut value = vec![REPLACEMENT.len() as u8];
    value.extend_from_slice(REPLACEMENT);
    frame.splice(start + from..start + to, value);
    let length = frame.len() - FRAME_HEADER;
    frame[..3].copy_from_slice(&[(length >> 16) as u8, (length >> 8) as u8, length as u8]);
}

/// Where in a block of headers (HPACK, RFC 7541) the value of a literal `:authority` lies that is a URL.
fn find_url(block: &[u8]) -> Option<(usize, usize)> {
    /// `:authority` in the static table.
    const AUTHORITY: usize = 1;
    let mut at = 0;
    while at < block.len() {
        let first = block[at];
        if first & 0x80 != 0 {
            // An indexed field.
            integer(block, &mut at, 7)?;
        } else if first & 0xe0 == 0x20 {
            // A change of the table's size.
            integer(block, &mut at, 5)?;
        } else {
            let bits = if first & 0xc0 == 0x40 { 6 } else { 4 };
            let name = integer(block, &mut at, bits)?;
            if name == 0 {
                string(block, &mut at)?;
            }
            let from = at;
            let (huffman, value) = string(block, &mut at)?;
            if name == AUTHORITY && is_url(huffman, value) {
                return Some((from, at));
            }
        }
    }
    None
}

fn integer(block: &[u8], at: &mut usize, bits: u32) -> Option<usize> {
    let mask = (1usize << bits) - 1;
    let mut number = usize::from(*block.get(*at)?) & mask;
    *at += 1;
    if number < mask {
        return Some(number);
    }
    for shift in (0..28).step_by(7) {
        let byte = *block.get(*at)?;
        *at += 1;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn string<'a>(block: &'a [u8], at: &mut usize) -> Option<(bool, &'a [u8])> {
    let huffman = block.get(*at)? & 0x80 != 0;
    let length = integer(block, at, 7)?;
    let value = block.get(*at..at.checked_add(length)?)?;
    *at += length;
    Some((huffman, value))
}

/// Whether a value begins with `http://` or `https://`, or with the `#initially=[` of newer clients.
fn is_url(huffman: bool, value: &[u8]) -> bool {
    const PLAIN: [&[u8]; 3] = [b"http://", b"https://", b"#"];
    /// The same in HPACK's Huffman code: the bits, left-aligned, and how many they are.
    const CODED: [(u64, u32); 3] = [
        (0x9d29_aee3_0c00_0000, 41),
        (0x9d29_ad17_1860_0000, 46),
        (0xffa0_0000_0000_0000, 12),
    ];
    if !huffman {
        return PLAIN.iter().any(|prefix| value.starts_with(prefix));
    }
    let mut first = [0; 8];
    let count = value.len().min(8);
    first[..count].copy_from_slice(&value[..count]);
    let first = u64::from_be_bytes(first);
    CODED
        .iter()
        .any(|(bits, count)| first >> (64 - count) == bits >> (64 - count))
}

/// A connection whose incoming half is mended.
pub(crate) struct Mended<S> {
    inner: S,
    mender: Mender,
    ready: Vec<u8>,
    taken: usize,
}

impl<S> Mended<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            mender: Mender::new(),
            ready: Vec::new(),
            taken: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> Mended<S> {
    /// Whether the client speaks HTTP/2, as its first bytes tell; they are kept.
    pub async fn speaks_http2(&mut self) -> io::Result<bool> {
        while let State::Preface(seen) = self.mender.state
            && seen < PREFACE.len()
        {
            if poll_fn(|cx| self.poll_more(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(!matches!(self.mender.state, State::Plain))
    }

    /// Reads on behind what is ready; 0 at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [std::mem::MaybeUninit::uninit(); READ];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut read))?;
        self.mender.feed(read.filled(), &mut self.ready);
        Poll::Ready(Ok(read.filled().len()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Mended<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.taken == this.ready.len() {
            this.ready.clear();
            this.taken = 0;
            if ready!(this.poll_more(cx))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let count = buffer.remaining().min(this.ready.len() - this.taken);
        buffer.put_slice(&this.ready[this.taken..this.taken + count]);
        this.taken += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Mended<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// What comes out of foreign bytes that arrive in pieces of `size`.
pub(crate) fn mend_foreign(data: &[u8], size: usize) -> Vec<u8> {
    let (mut mender, mut out) = (Mender::new(), Vec::new());
    for piece in data.chunks(size) {
        mender.feed(piece, &mut out);
    }
    // A frame whose end did not arrive is not seen by the library.
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len();
        let mut frame = vec![
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
            kind,
            flags,
        ];
        frame.extend_from_slice(&[0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    /// A request's headers with this literal value for `:authority`.
    fn headers(huffman: bool, value: &[u8]) -> Vec<u8> {
        let mut block = vec![0x83, 0x86, 0x41];
        block.push(value.len() as u8 | if huffman { 0x80 } else { 0 });
        block.extend_from_slice(value);
        block.extend_from_slice(b"\x44\x03/a/");
        frame(HEADERS, END_HEADERS, &block)
    }

    /// Feeds a connection in pieces of `size` and returns what comes out after the preface.
    fn mended(frames: &[Vec<u8>], size: usize) -> Vec<u8> {
        let connection = [PREFACE, &frames.concat()].concat();
        let (mut mender, mut out) = (Mender::new(), Vec::new());
        for piece in connection.chunks(size) {
            mender.feed(piece, &mut out);
        }
        assert!(out.starts_with(PREFACE));
        out.split_off(PREFACE.len())
    }

    #[test]
    fn urls_are_replaced_and_nothing_else() {
        // "http://127.0.0.1:2379" in Huffman's code, as Go's client sends it.
        let coded = b"\x9d\x29\xae\xe3\x0c\x22\xb2\xe0\x5c\x81\x70\x2e\x05\x70\x2a\xef\xff";
        let expect = headers(false, b"etcd");
        for size in [1, 7, 10, 4096] {
            let data = frame(0, 1, &[9; 300]);
            let found = mended(&[headers(true, coded), data.clone()], size);
            assert_eq!(found, [expect.clone(), data.clone()].concat());
            assert_eq!(mended(&[headers(false, b"https://a:1")], size), expect);
            let usual = headers(false, b"127.0.0.1:2379");
            assert_eq!(
                mended(&[usual.clone(), data.clone()], size),
                [usual, data].concat()
            );
        }
    }

    #[test]
    fn http_1_passes() {
        let (mut mender, mut out) = (Mender::new(), Vec::new());
        let request = b"POST /v3/kv/range HTTP/1.1\r\n\r\n";
        request
            .chunks(3)
            .for_each(|piece| mender.feed(piece, &mut out));
        assert_eq!(out, request);
    }

    proptest! {
        /// Whatever comes in, nothing panics, and the pieces in which it comes make no difference.
        #[test]
        fn any_bytes(payload in proptest::collection::vec(any::<u8>(), 0..80), flags: u8, size in 1usize..40) {
            let frames = [frame(HEADERS, flags | END_HEADERS, &payload), frame(0, 0, &payload)];
            prop_assert_eq!(mended(&frames, size), mended(&frames, 4096));
        }
    }
}
