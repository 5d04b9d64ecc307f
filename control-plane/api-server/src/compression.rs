//! gzip for large answers, where the client takes it. Streams without an end are never compressed.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderValue, VARY};

use crate::answer::Answer;
use crate::body::{AnswerBody, ListBody};

/// Answers below this are not worth it; the bound is Kubernetes'.
const SMALLEST_BYTES: u64 = 128 << 10;
/// Compressed bytes are sent in pieces of about this size.
const PIECE_BYTES: usize = 32 << 10;

pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get(ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    accepted
        .split(',')
        .any(|coding| coding.split(';').next().is_some_and(|c| c.trim() == "gzip"))
}

/// Compresses an answer that is large enough, piece by piece as it is sent.
pub(crate) fn compress(answer: &mut Answer) {
    let size = match &answer.body {
        AnswerBody::Bytes(bytes) => bytes.len() as u64,
        AnswerBody::List(list) => list.remaining(),
        AnswerBody::Stream(_) => 0,
    };
    if size < SMALLEST_BYTES || answer.headers.contains_key(CONTENT_ENCODING) {
        return;
    }
    let source = match std::mem::replace(&mut answer.body, AnswerBody::Bytes(Bytes::new())) {
        AnswerBody::Bytes(bytes) => Source::Bytes(bytes),
        AnswerBody::List(list) => Source::List(list),
        AnswerBody::Stream(_) => return,
    };
    let encoder = GzEncoder::new(BytesMut::new().writer(), Compression::fast());
    let pieces = futures::stream::unfold(Some((source, encoder)), |state| async move {
        let (mut source, mut encoder) = state?;
        loop {
            let Some(chunk) = source.next() else {
                let last = encoder.finish().map(|w| w.into_inner().freeze());
                return Some((last, None));
            };
            if let Err(error) = encoder.write_all(&chunk) {
                return Some((Err(error), None));
            }
            if encoder.get_ref().get_ref().len() >= PIECE_BYTES {
                let piece = encoder.get_mut().get_mut().split().freeze();
                return Some((Ok(piece), Some((source, encoder))));
            }
        }
    });
    answer.body = AnswerBody::Stream(Box::pin(pieces));
    answer
        .headers
        .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer
        .headers
        .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
}

enum Source {
    Bytes(Bytes),
    List(Box<ListBody>),
}

impl Source {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) if bytes.is_empty() => None,
            Self::Bytes(bytes) => Some(bytes.split_to(bytes.len().min(PIECE_BYTES * 2))),
            Self::List(list) => list.next_chunk(),
        }
    }
}
