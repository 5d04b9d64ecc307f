//! The Election service (v3election): the oldest key under an election's name leads, its value is what it proclaims.

use std::pin::Pin;

use bytes::Bytes;
use futures::Stream;
use raft_store as store;
use store::{KeyRange, RequestOp, TxnRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use xebec_proto::v3electionpb as pb;
use xebec_proto::v3electionpb::election_server::Election;

use crate::convert::key_value;
use crate::front::Front;
use crate::queue::{LeaveOnDrop, created_at, prefix_of, status};

/// Leaders that wait for an observer to read.
const OBSERVED: usize = 16;

fn no_leader_key() -> Status {
    Status::unknown("\"leader\" field must be provided")
}

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

impl Front {
    /// Writes as the leader of that key; None if it leads no more.
    async fn as_leader(
        &self,
        leader: &pb::LeaderKey,
        write: RequestOp,
    ) -> Result<(bool, i64), Status> {
        let request = TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![write],
            ..Default::default()
        };
        let answer = self.store.txn(request).await.map_err(status)?;
        Ok((answer.succeeded, answer.revision))
    }

    async fn proclaim_as(&self, leader: &pb::LeaderKey, value: Bytes) -> Result<i64, Status> {
        let put = store::PutRequest {
            key: leader.key.clone(),
            value,
            lease: leader.lease,
            ..Default::default()
        };
        match self.as_leader(leader, RequestOp::Put(put)).await? {
            (true, revision) => Ok(revision),
            (false, _) => Err(not_leader()),
        }
    }

    /// Tells an observer of each leader and of what it proclaims, until it goes away.
    async fn observe_into(
        &self,
        name: &[u8],
        sender: &mpsc::Sender<Result<pb::LeaderResponse, Status>>,
    ) -> Result<(), Status> {
        let prefix = prefix_of(name);
        let ended = |error: store::WatchError| Status::unavailable(error.to_string());
        loop {
            let (first, mut revision) = self.first(&prefix).await?;
            let Some(first) = first else {
                let request = store::WatchRequest {
                    range: KeyRange::prefix(prefix.clone()),
                    start_revision: revision + 1,
                    no_delete: true,
                    ..Default::default()
                };
                let mut watcher = self.store.watch(request).map_err(status)?;
                watcher.next().await.map_err(ended)?;
                continue;
            };
            let key = first.key.clone();
            let response = |kv, revision| pb::LeaderResponse {
                header: self.header(revision),
                kv: Some(key_value(kv)),
            };
            let gone = |_| Status::cancelled("the observer is gone");
            sender
                .send(Ok(response(first, revision)))
                .await
                .map_err(gone)?;
            let request = store::WatchRequest {
                range: KeyRange::single(key),
                start_revision: revision + 1,
                ..Default::default()
            };
            let mut watcher = self.store.watch(request).map_err(status)?;
            'leads: loop {
                let batch = watcher.next().await.map_err(ended)?;
                revision = batch.revision;
                for event in &batch.events {
                    if event.kind == store::EventKind::Delete {
                        break 'leads;
                    }
                    let response = response(event.kv.clone(), revision);
                    sender.send(Ok(response)).await.map_err(gone)?;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl Election for Front {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let request = request.into_inner();
        let prefix = prefix_of(&request.name);
        let lease = self.session(request.lease).await?;
        let place = self.enqueue(&prefix, lease, request.value.clone()).await?;
        let mut waiting = LeaveOnDrop {
            front: self.clone(),
            key: Some(place.key.clone()),
        };
        let leader = pb::LeaderKey {
            name: request.name,
            key: place.key.into(),
            rev: place.revision,
            lease,
        };
        if place
            .found
            .is_some_and(|found| found.value != request.value)
        {
            self.proclaim_as(&leader, request.value).await?;
        }
        self.wait_first(&prefix, place.revision).await?;
        waiting.key = None;
        Ok(Response::new(pb::CampaignResponse {
            header: self.header(place.header_revision),
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let request = request.into_inner();
        let leader = request.leader.ok_or_else(no_leader_key)?;
        let revision = self.proclaim_as(&leader, request.value).await?;
        Ok(Response::new(pb::ProclaimResponse {
            header: self.header(revision),
        }))
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let prefix = prefix_of(&request.into_inner().name);
        let (first, revision) = self.first(&prefix).await?;
        let first = first.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(pb::LeaderResponse {
            header: self.header(revision),
            kv: Some(key_value(first)),
        }))
    }

    type ObserveStream = Pin<Box<dyn Stream<Item = Result<pb::LeaderResponse, Status>> + Send>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let (sender, receiver) = mpsc::channel(OBSERVED);
        let (front, name) = (self.clone(), request.into_inner().name);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = front.observe_into(&name, &sender) => ended,
                () = sender.closed() => Ok(()),
                () = front.shutdown.cancelled() => Err(status(store::Error::Stopped)),
            };
            if let Err(error) = ended {
                // An observer that has gone does not want to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let leader = request.into_inner().leader.ok_or_else(no_leader_key)?;
        let delete = store::DeleteRangeRequest {
            range: KeyRange::single(leader.key.clone()),
            prev_kv: false,
        };
        let (_, revision) = self
            .as_leader(&leader, RequestOp::DeleteRange(delete))
            .await?;
        Ok(Response::new(pb::ResignResponse {
            header: self.header(revision),
        }))
    }
}
