//! What only the leader knows of leases: how long they still live.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use super::lessor::Lessor;
use super::read_index::ReadIndex;
use crate::codec::{DecodeError, Reader, put_bytes, put_i64, put_u64};
use crate::mvcc::apply::attached_keys;
use crate::raft::Applied;
use crate::{Error, LeaseKeepAliveResponse, LeaseTimeToLiveResponse};

pub struct LeaderLeases {
    pub lessor: Arc<Lessor>,
    pub reads: ReadIndex,
    pub view: Arc<ArcSwap<Applied>>,
}

impl LeaderLeases {
    /// Renews a lease; answers `ttl` 0 if there is none, or its end is under way.
    pub async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.reads.wait_as_leader().await?;
        let ttl = self.lessor.renew(id).unwrap_or(0);
        Ok(LeaseKeepAliveResponse {
            revision: self.view.load().horizon.revision,
            id,
            ttl,
        })
    }

    /// Remaining time of a lease, and its keys if asked for; answers `ttl` -1 if there is none.
    pub async fn time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        self.reads.wait_as_leader().await?;
        let view = self.view.load();
        let mut response = LeaseTimeToLiveResponse {
            revision: view.horizon.revision,
            id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(remaining) = self.lessor.remaining(id) {
            response.ttl = remaining.ttl;
            response.granted_ttl = remaining.granted_ttl;
            if keys {
                let attached = attached_keys(&view.snapshot, id);
                response.keys = attached.map_err(|error| Error::Storage(error.to_string()))?;
            }
        }
        Ok(response)
    }
}

/// The answer about a lease on its way to another member.
pub fn encode_time_to_live(response: &LeaseTimeToLiveResponse) -> Bytes {
    let mut out = Vec::new();
    for number in [
        response.revision,
        response.id,
        response.ttl,
        response.granted_ttl,
    ] {
        put_i64(&mut out, number);
    }
    put_u64(&mut out, response.keys.len() as u64);
    for key in &response.keys {
        put_bytes(&mut out, key);
    }
    out.into()
}

pub fn decode_time_to_live(raw: Bytes) -> Result<LeaseTimeToLiveResponse, DecodeError> {
    let mut reader = Reader::new(raw);
    let mut response = LeaseTimeToLiveResponse {
        revision: reader.i64()?,
        id: reader.i64()?,
        ttl: reader.i64()?,
        granted_ttl: reader.i64()?,
        keys: Vec::new(),
    };
    for _ in 0..reader.count()? {
        response.keys.push(reader.bytes()?);
    }
    Ok(response)
}
