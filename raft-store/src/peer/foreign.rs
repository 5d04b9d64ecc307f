//! What the fuzzer feeds to the decoders of this module.

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;

use super::frame::{Frame, Kind};
use super::greeting::Hello;
use crate::command::Batch;
use crate::raft::{Entry, Payload, TypeConfig, Vote, log_id};

/// Reads foreign bytes as a stream of frames; whether all of it was taken.
pub fn decode_foreign_frame(data: &[u8]) -> bool {
    let mut stream = data;
    loop {
        let next = Frame::read(&mut stream, crate::limits::PEER_FRAME_BYTES);
        let frame = match futures::executor::block_on(next) {
            Ok(Some(frame)) => frame,
            end => return end.is_ok(),
        };
        let mut out = Vec::new();
        frame.write_to(&mut out);
        let again = futures::executor::block_on(Frame::read(
            &mut out.as_slice(),
            crate::limits::PEER_FRAME_BYTES,
        ));
        assert_eq!(again.expect("it was just written"), Some(frame));
    }
}

/// Two frames, one after the other.
pub fn sample_frame() -> Vec<u8> {
    let hello = serde_json::to_vec(&Hello::stranger()).expect("a greeting is JSON");
    let mut out = Vec::new();
    for (kind, body) in [(Kind::Hello, hello), (Kind::Ping, Vec::new())] {
        let frame = Frame {
            kind,
            number: 300,
            body: Bytes::from(body),
        };
        frame.write_to(&mut out);
    }
    out
}

pub fn sample_append(batch: &Batch) -> AppendEntriesRequest<TypeConfig> {
    let payloads = [Payload::Blank, Payload::Normal(batch.clone().into())];
    let entries = payloads
        .into_iter()
        .zip(10..)
        .map(|(payload, index)| Entry {
            log_id: log_id(5, index),
            payload,
        });
    AppendEntriesRequest {
        vote: Vote::new_committed(5, 6),
        prev_log_id: Some(log_id(4, 9)),
        leader_commit: Some(log_id(4, 8)),
        entries: entries.collect(),
    }
}
