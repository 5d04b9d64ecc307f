//! Calls to other members. A cluster of one makes none: every call says that the peer cannot be reached.

use std::future::Future;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};

use super::snapshot::StateSnapshot;
use super::types::{MemberInfo, TypeConfig, Vote};

type C = TypeConfig;

/// Makes the client for each peer.
#[derive(Clone, Debug, Default)]
pub struct Network;

/// The client for one peer.
#[derive(Debug)]
pub struct Peer {
    id: u64,
}

impl RaftNetworkFactory<C> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &MemberInfo) -> Peer {
        Peer { id: target }
    }
}

impl Peer {
    fn unreachable(&self) -> Unreachable<C> {
        Unreachable::from_string(format!("member {:x} has no connection", self.id))
    }
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = StateSnapshot;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<C>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _: VoteRequest<C>,
        _: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        Err(self.unreachable().into())
    }

    // The default grants unasked; a peer that was not asked has granted nothing.
    async fn pre_vote(
        &mut self,
        _: VoteRequest<C>,
        _: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: openraft::type_config::alias::SnapshotOf<C, StateSnapshot>,
        _: impl Future<Output = ReplicationClosed> + Send + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        Err(self.unreachable().into())
    }
}
