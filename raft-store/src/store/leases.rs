//! The lease calls of the store's face.

use rand::Rng;

use crate::command::{Command, Outcome};
use crate::mvcc::apply::attached_keys;
use crate::*;

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

    /// Renews a lease on the leader; answers `ttl` 0 if there is none, or its end is under way.
    pub async fn lease_keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        self.inner.read_index.wait().await?;
        self.check_leads()?;
        let ttl = self.inner.lessor.renew(id).unwrap_or(0);
        Ok(LeaseKeepAliveResponse {
            revision: self.revision(),
            id,
            ttl,
        })
    }

    /// Remaining time of a lease, and its keys if asked for; answers `ttl` -1 if there is none.
    pub async fn lease_time_to_live(
        &self,
        id: i64,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse, Error> {
        self.inner.read_index.wait().await?;
        self.check_leads()?;
        let view = self.inner.view.load();
        let mut response = LeaseTimeToLiveResponse {
            revision: view.horizon.revision,
            id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(remaining) = self.inner.lessor.remaining(id) {
            response.ttl = remaining.ttl;
            response.granted_ttl = remaining.granted_ttl;
            if keys {
                let attached = attached_keys(&view.snapshot, id);
                response.keys = attached.map_err(|error| Error::Storage(error.to_string()))?;
            }
        }
        Ok(response)
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
