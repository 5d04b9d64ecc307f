//! openraft's calls to other members, over their links. Appends are pipelined; their answers come in order.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, FuturesOrdered};
use futures::{FutureExt, Stream, StreamExt};
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::candidacy::Candidacy;
use super::snapshot::{RaftSnapshot, StateSnapshot};
use super::transfer;
use super::types::{LogId, MemberInfo, TypeConfig, Vote};
use crate::peer::{
    Connection, Kind, Link, PeerError, Peers, Refusal, decode_append_answer, encode_append,
};
use crate::{Error, limits};

type C = TypeConfig;
type Rpc<T> = Result<T, RPCError<C>>;

/// Makes the client for each peer. They share one connection.
#[derive(Clone)]
pub struct Network {
    pub peers: Arc<Peers>,
    pub candidacy: Arc<Candidacy>,
}

/// The client for one peer.
pub struct Peer {
    peers: Arc<Peers>,
    candidacy: Arc<Candidacy>,
    link: Arc<Link>,
}

impl RaftNetworkFactory<C> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &MemberInfo) -> Peer {
        Peer {
            peers: self.peers.clone(),
            candidacy: self.candidacy.clone(),
            link: self.peers.link(target),
        }
    }
}

/// Who calls whom.
#[derive(Clone, Copy)]
struct Ends {
    from: u64,
    to: u64,
}

impl Ends {
    fn error(self, error: &PeerError, timeout: Duration) -> RPCError<C> {
        match error {
            PeerError::Timeout => Timeout {
                action: RPCTypes::AppendEntries,
                id: self.from,
                target: self.to,
                timeout,
            }
            .into(),
            PeerError::Broken | PeerError::Busy | PeerError::Failed(_) => {
                NetworkError::from_string(error).into()
            }
            _ => Unreachable::from_string(error).into(),
        }
    }
}

impl Peer {
    fn ends(&self) -> Ends {
        Ends {
            from: self.peers.me.member,
            to: self.link.id,
        }
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        request: &Q,
        option: &RPCOption,
    ) -> Rpc<A> {
        let body = serde_json::to_vec(request).expect("a request is JSON");
        let timeout = option.hard_ttl();
        let answer = self.link.call(kind, body.into(), timeout).await;
        if let Err(PeerError::Failed(Error::MemberRemoved)) = &answer {
            self.peers.exclude(Refusal::Removed);
        }
        let answer = answer.map_err(|error| self.ends().error(&error, timeout))?;
        serde_json::from_slice(&answer)
            .map_err(|error| NetworkError::from_string(format!("malformed answer: {error}")).into())
    }
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = StateSnapshot;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<C>> {
        let (body, timeout) = (encode_append(&request), option.hard_ttl());
        let answer = self.link.call(Kind::Append, body, timeout).await;
        let answer = answer.map_err(|error| self.ends().error(&error, timeout))?;
        decode_append_answer(answer).map_err(|error| NetworkError::from_string(error).into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<C>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        let (ends, timeout) = (self.ends(), option.hard_ttl());
        async move {
            let appends = Appends {
                link: self.link.clone(),
                connection: None,
                input,
                under_way: FuturesOrdered::new(),
                more: true,
            };
            let answers = stream::unfold(Some(appends), |appends| async { appends?.next().await })
                .map(move |answer| answer.map_err(|error| ends.error(&error, timeout)));
            Ok(answers.boxed())
        }
        .boxed()
    }

    async fn vote(&mut self, request: VoteRequest<C>, option: RPCOption) -> Rpc<VoteResponse<C>> {
        self.candidacy.begin();
        self.ask(Kind::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<C>> {
        self.ask(Kind::PreVote, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let Some(source) = snapshot.snapshot.source() else {
            return Err(Unreachable::from_string("the state is not loaded yet").into());
        };
        tokio::select! {
            sent = transfer::send(&self.link, vote, source) => sent.map_err(|error| {
                tracing::warn!(member = format_args!("{:x}", self.link.id), %error, "sending the state failed");
                self.ends().error(&error, option.hard_ttl()).into()
            }),
            closed = cancel => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<C>> {
        self.ask(Kind::TransferLeader, &request, &option).await
    }
}

type Appended = Result<StreamAppendResult<C>, PeerError>;

/// Appends under way on one connection.
struct Appends<S> {
    link: Arc<Link>,
    /// Made for the first request: openraft waits before that one if the last attempt failed.
    connection: Option<Arc<Connection>>,
    input: S,
    under_way: FuturesOrdered<BoxFuture<'static, Appended>>,
    /// The input has not ended.
    more: bool,
}

impl<S: Stream<Item = AppendEntriesRequest<C>> + Unpin> Appends<S> {
    /// The next answer, and itself unless that was the last.
    async fn next(mut self) -> Option<(Appended, Option<Self>)> {
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.under_way.next() => {
                    let goes_on = matches!(answer, Ok(Ok(_)));
                    return Some((answer, goes_on.then_some(self)));
                }
                next = self.input.next(), if self.more && self.under_way.len() < limits::PEER_APPENDS => {
                    match next {
                        Some(request) => {
                            if let Err(error) = self.start(&request).await {
                                return Some((Err(error), None));
                            }
                        }
                        None => self.more = false,
                    }
                }
                else => return None,
            }
        }
    }

    async fn start(&mut self, request: &AppendEntriesRequest<C>) -> Result<(), PeerError> {
        // A heartbeat, or word of what is committed: nothing is written for it.
        let heartbeat = request.entries.is_empty();
        if heartbeat {
            // Whoever waits for what is committed is answered first: the others can wait that long, and would take the
            // processor from them.
            tokio::task::yield_now().await;
        }
        let connection = match &self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.link.connection().await?),
        };
        let previous = request.prev_log_id;
        let last = request
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(previous);
        let call = connection.start(Kind::Append, encode_append(request));
        let heartbeat = heartbeat.then(|| (self.link.clone(), Instant::now()));
        let answer = async move {
            let answer = call?.await?;
            if let Some((link, begun)) = heartbeat {
                link.note_round_trip(begun.elapsed());
            }
            appended(answer, previous, last)
        };
        self.under_way.push_back(answer.boxed());
        Ok(())
    }
}

fn appended(answer: Bytes, previous: Option<LogId>, last: Option<LogId>) -> Appended {
    let answer = decode_append_answer(answer)
        .map_err(|error| PeerError::Unreachable(format!("malformed answer: {error}")))?;
    // Without a previous entry there is nothing to conflict with.
    if answer.is_conflict() && previous.is_none() {
        return Err(PeerError::Broken);
    }
    Ok(answer.into_stream_result(previous, last))
}
