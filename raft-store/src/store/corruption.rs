//! Whether the members hold the same: their hashes are compared, and a member that differs is named by the CORRUPT
//! alarm, after which nothing is served until someone has looked.

use std::time::Duration;

use crate::peer::Kind;
use crate::*;

/// What another member said of its hash.
type Told = (u64, HashKvResponse);

/// The first member that certainly differs from the leader, whose hash is `mine` and whose state is at `now` since.
fn differing(mine: HashKvResponse, now: HashKvResponse, others: &[Told]) -> Option<u64> {
    let differs = |(_, other): &&Told| {
        let same_floor = other.compact_revision == mine.compact_revision;
        let ahead = other.revision > now.revision || other.compact_revision > now.compact_revision;
        ahead
            || (same_floor && other.hash_revision == mine.hash_revision && other.hash != mine.hash)
    };
    others.iter().find(differs).map(|(member, _)| *member)
}

impl Store {
    /// Compares this member with the others before it serves. Members that do not answer, or cannot say, are passed over.
    ///
    /// # Errors
    /// One that holds another history at the same revision: this member or that one is damaged.
    pub async fn check_against_others(&self) -> Result<(), Error> {
        let mine = self.hash_kv(0).await?;
        for (member, other) in self.others_hashes(mine.hash_revision).await {
            if other.compact_revision == mine.compact_revision && other.hash != mine.hash {
                tracing::error!(
                    member = format_args!("{member:x}"),
                    revision = mine.hash_revision,
                    "that member's data is not this member's: one of them is damaged"
                );
                return Err(Error::Corrupt);
            }
        }
        Ok(())
    }

    /// Compares the members every `interval` while this one leads, until the store stops.
    pub async fn watch_for_corruption(self, interval: Duration) {
        let mut leadership = self.leadership();
        let mut looks = tokio::time::interval(interval);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        looks.reset();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                changed = leadership.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
            if !leadership.borrow().is_leader {
                continue;
            }
            match self.compare_members().await {
                Ok(None) => tracing::debug!("the members hold the same"),
                Ok(Some(member)) => tracing::error!(
                    member = format_args!("{member:x}"),
                    "the members differ: the CORRUPT alarm is raised, nothing is served any more"
                ),
                Err(Error::Stopped) => return,
                Err(error) => tracing::warn!(%error, "the members could not be compared"),
            }
        }
    }

    /// Compares the others with this member, which leads, and raises the alarm of one that differs.
    ///
    /// # Errors
    /// This member cannot say what it holds, or has lost its quorum.
    pub async fn compare_members(&self) -> Result<Option<u64>, Error> {
        let mine = self.hash_kv(0).await?;
        let others = self.others_hashes(mine.hash_revision).await;
        // Whatever the others had applied, this member has applied now.
        self.read_index().await?;
        let now = HashKvResponse {
            revision: self.revision(),
            compact_revision: self.compacted_revision(),
            ..mine
        };
        let found = differing(mine, now, &others);
        if let Some(member) = found {
            self.alarm_activate(member, AlarmKind::Corrupt).await?;
        }
        Ok(found)
    }

    /// The hashes of those who can tell theirs at `revision`.
    async fn others_hashes(&self, revision: i64) -> Vec<Told> {
        let peers = &self.inner.node.peers;
        let body = bytes::Bytes::copy_from_slice(&revision.to_le_bytes());
        let timeout = self.inner.config.request_timeout();
        let Ok(members) = self.members(false).await else {
            return Vec::new();
        };
        let others = members.iter().filter(|member| member.id != peers.me.member);
        let asked = others.map(|member| {
            let (link, body) = (peers.link(member.id), body.clone());
            async move {
                let answer = link.call(Kind::HashKv, body, timeout).await;
                let told = answer
                    .ok()
                    .and_then(|raw| serde_json::from_slice(&raw).ok());
                told.map(|told| (link.id, told))
            }
        });
        let answers = futures::future::join_all(asked).await;
        answers.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_compared_is() {
        let hash = |revision, compact_revision, hash_revision, hash| HashKvResponse {
            revision,
            hash,
            compact_revision,
            hash_revision,
        };
        let (mine, now) = (hash(10, 3, 10, 7), hash(12, 5, 10, 7));
        let check = |other: HashKvResponse, differs: bool| {
            let found = differing(mine, now, &[(1, mine), (2, other)]);
            assert_eq!(found, differs.then_some(2), "{other:?}");
        };
        check(hash(11, 3, 10, 7), false);
        check(hash(11, 3, 10, 8), true);
        check(hash(11, 2, 10, 8), false);
        check(hash(13, 3, 10, 7), true);
        check(hash(12, 6, 10, 9), true);
    }
}
