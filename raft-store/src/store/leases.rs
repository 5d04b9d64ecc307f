//! The lease calls of the store's face.

use bytes::Bytes;
use futures::{FutureExt, TryFutureExt};
use rand::Rng;

use super::leader_leases::decode_time_to_live;
use crate::command::{Command, Outcome};
use crate::peer::Kind;
use crate::raft::AboutLease;
use crate::*;

fn about(id: i64, keys: bool) -> Bytes {
    let about = AboutLease { id, keys };
    serde_json::to_vec(&about).expect("it is JSON").into()
}

impl Store {
    /// Grants a lease; asked times below the minimum are raised to it.
    pub async fn lease_grant(
        &self,
        request: LeaseGrantRequest,
    ) -> Result<LeaseGrantResponse, Error> {
        if request.ttl > limits::MAX_LEASE_TTL_SECONDS {
            return Err(Error::LeaseTtlTooLarge);
        }
        let ttl = request.ttl.max(self.inner.config.min_lease_ttl_seconds());
        loop {
            let id = if request.id == 0 {
                rand::rng().random_range(1..i64::MAX)
            } else {
                request.id
            };
            match self.propose(Command::LeaseGrant { id, ttl }).await {
                Ok(Outcome::LeaseGrant(response)) => return Ok(response),
                Ok(other) => unreachable!("a grant was answered by {other:?}"),
                // Chosen by chance, so choose again.
                Err(Error::LeaseExists) if request.id == 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, Error> {
        match self.propose(Command::LeaseRevoke { id }).await? {
            Outcome::LeaseRevoke(response) => Ok(response),
            other => unreachable!("a revoke was answered by {other:?}"),
        }
    }

    /// Renews a lease, on the leader; answers `ttl` 0 if there is none, or its end is under way.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        let leases = &self.inner.leases;
        let here = || {
            leases
                .keep_alive(id)
                .map_ok(|response| response.ttl)
                .boxed()
        };
        let decode = |answer: Bytes| serde_json::from_slice(&answer).ok();
        let body = about(id, false);
        let ttl = self
            .inner
            .to_leader
            .ask(Kind::KeepAlive, body, here, decode)
            .await?;
        Ok(LeaseKeepAliveResponse {
            revision: self.revision(),
            id,
            ttl,
        })
    }

    /// Remaining time of a lease, as its leader knows it, and its keys if asked for; answers `ttl` -1 if there is
    /// none.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        let leases = &self.inner.leases;
        let here = || leases.time_to_live(id, keys).boxed();
        let decode = |answer| decode_time_to_live(answer).ok();
        let body = about(id, keys);
        self.inner
            .to_leader
            .ask(Kind::TimeToLive, body, here, decode)
            .await
    }

    /// All leases, in order of their ids.
    pub async fn lease_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.inner.read_index.wait().await?;
        Ok(LeaseLeasesResponse {
            revision: self.revision(),
            ids: self.inner.lessor.ids(),
        })
    }

    pub(super) fn check_leads(&self) -> Result<(), Error> {
        let leadership = *self.inner.leadership.borrow();
        match leadership.leader {
            _ if leadership.is_leader => Ok(()),
            None => Err(Error::NoLeader),
            leader => Err(Error::NotLeader { leader }),
        }
    }
}
