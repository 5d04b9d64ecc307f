//! The membership calls of the store's face.

use futures::FutureExt;
use rand::Rng;

use crate::peer::Kind;
use crate::raft::{Change, best_successor, check_urls, list_members};
use crate::*;

impl Store {
    /// The cluster's members; as of now if `linearizable`, else as this member knows them.
    pub async fn members(&self, linearizable: bool) -> Result<Vec<Member>, Error> {
        if linearizable {
            self.inner.read_index.wait().await?;
        }
        let metrics = self.inner.node.raft.server_metrics();
        let metrics = openraft::async_runtime::WatchReceiver::borrow_watched(&metrics);
        Ok(list_members(
            metrics.committed_membership_config.membership(),
        ))
    }

    /// Whether a member has a vote. One that was added to vote has none before it has caught up.
    pub fn has_vote(&self, id: u64) -> bool {
        self.inner.node.raft.voter_ids().any(|voter| voter == id)
    }

    /// Adds a member that others reach at `peer_urls`; the new member, and all of them.
    ///
    /// It has no name until it has started. One that is not to stay a learner becomes a voter once it has caught up.
    pub async fn member_add(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(Member, Vec<Member>), Error> {
        let change = Change::Add {
            id: rand::rng().random_range(1..u64::MAX),
            peer_urls: check_urls(&peer_urls)?,
            is_learner,
        };
        let Change::Add { id, .. } = change else {
            unreachable!("it was just made");
        };
        let members = self.change_members(change).await?;
        let added = members.iter().find(|member| member.id == id).cloned();
        Ok((added.ok_or(Error::MemberNotFound)?, members))
    }

    /// Removes a member for good; those that are left.
    pub async fn member_remove(&self, id: u64) -> Result<Vec<Member>, Error> {
        self.change_members(Change::Remove { id }).await
    }

    /// Changes where others reach a member.
    pub async fn member_update(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, Error> {
        let peer_urls = check_urls(&peer_urls)?;
        self.change_members(Change::Update { id, peer_urls }).await
    }

    /// Makes a learner a voter; refused until it has caught up.
    pub async fn member_promote(&self, id: u64) -> Result<Vec<Member>, Error> {
        self.change_members(Change::Promote { id }).await
    }

    /// Hands leadership to another voter and waits until it leads. Only the leader can.
    pub async fn move_leader(&self, target_id: u64) -> Result<(), Error> {
        self.check_leads()?;
        let raft = &self.inner.node.raft;
        if target_id == 0 || !raft.voter_ids().any(|voter| voter == target_id) {
            return Err(Error::BadLeaderTransferee);
        }
        let mut leadership = self.inner.leadership.clone();
        if leadership.borrow().leader == Some(target_id) {
            return Ok(());
        }
        raft.trigger()
            .transfer_leader(target_id)
            .await
            .map_err(|_| Error::Stopped)?;
        let moved = leadership.wait_for(|now| now.leader == Some(target_id));
        match tokio::time::timeout(self.inner.config.request_timeout(), moved).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// Before this member stops: if it leads, it lets the voter lead that lacks least. Proposals go to that one.
    pub async fn hand_over(&self) {
        let node = &self.inner.node;
        let Ok((membership, facts)) = node.reconfigure.look(&node.raft) else {
            return;
        };
        let Some(target) = best_successor(&membership, &facts) else {
            return;
        };
        let mut leadership = self.inner.leadership.clone();
        if node.raft.trigger().transfer_leader(target).await.is_err() {
            return;
        }
        let moved = leadership.wait_for(|now| now.leader == Some(target));
        let limit = 2 * self.inner.config.election_timeout;
        match tokio::time::timeout(limit, moved).await {
            Ok(_) => tracing::info!(to = format_args!("{target:x}"), "handed leadership over"),
            Err(_) => tracing::warn!("leadership was not taken over in time"),
        }
    }

    async fn change_members(&self, change: Change) -> Result<Vec<Member>, Error> {
        let node = &self.inner.node;
        let body = serde_json::to_vec(&change).expect("a change is JSON");
        let here = || node.reconfigure.change(&node.raft, &change).boxed();
        let decode = |answer: bytes::Bytes| serde_json::from_slice(&answer).ok();
        self.inner
            .to_leader
            .ask(Kind::ChangeMembers, body.into(), here, decode)
            .await
    }
}
