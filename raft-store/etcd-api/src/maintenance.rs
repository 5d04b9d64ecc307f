//! The Maintenance service. There is nothing to defragment, and one format of data, so nothing to downgrade to.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use raft_store as store;
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::maintenance_server::Maintenance;

use crate::error::status;
use crate::front::{CLUSTER_VERSION, ETCD_VERSION, Front};
use crate::until::until;

/// Largest part of a snapshot's stream, as in etcd.
const SNAPSHOT_PART_BYTES: usize = 32 * 1024;
/// The SHA-256 that ends it.
const CHECKSUM_BYTES: u64 = 32;

#[tonic::async_trait]
impl Maintenance for Front {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        use pb::alarm_request::AlarmAction;
        let request = request.into_inner();
        let kind = u8::try_from(request.alarm)
            .ok()
            .and_then(store::AlarmKind::from_number);
        let action = AlarmAction::try_from(request.action);
        let answer = match (action, kind) {
            (Ok(AlarmAction::Get), _) => {
                let mut all = self.store.alarms().await.map_err(status)?;
                all.alarms
                    .retain(|alarm| request.alarm == 0 || Some(alarm.kind) == kind);
                all
            }
            (Ok(AlarmAction::Activate), Some(kind)) => {
                let raised = self.store.alarm_activate(request.member_id, kind);
                raised.await.map_err(status)?
            }
            (Ok(AlarmAction::Deactivate), Some(kind)) => {
                let disarmed = self.store.alarm_deactivate(request.member_id, kind);
                disarmed.await.map_err(status)?
            }
            // No alarm in particular: as in etcd, nothing is done and nothing wrong.
            (Ok(_), None) if request.alarm == pb::AlarmType::None as i32 => {
                let mut none = self.store.alarms().await.map_err(status)?;
                none.alarms.clear();
                none
            }
            (Ok(_), None) => return Err(Status::invalid_argument("etcdserver: unknown alarm")),
            (Err(_), _) => return Err(Status::invalid_argument("etcdserver: unknown action")),
        };
        let member = |alarm: &store::Alarm| pb::AlarmMember {
            member_id: alarm.member_id,
            alarm: alarm.kind as i32,
        };
        Ok(Response::new(pb::AlarmResponse {
            header: self.header(answer.revision),
            alarms: answer.alarms.iter().map(member).collect(),
        }))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.store.status();
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut errors = Vec::new();
        if status.leader.is_none() {
            errors.push("etcdserver: no leader".to_owned());
        }
        for alarm in self.store.known_alarms() {
            let (member, name) = (alarm.member_id, alarm_name(alarm.kind));
            errors.push(format!("memberID:{member} alarm:{name} "));
        }
        Ok(Response::new(pb::StatusResponse {
            header: self.current_header(),
            version: ETCD_VERSION.to_owned(),
            db_size: size(status.db_size),
            leader: status.leader.unwrap_or(0),
            raft_index: status.raft_index,
            raft_term: status.raft_term,
            raft_applied_index: status.raft_applied_index,
            errors,
            db_size_in_use: size(status.db_size_in_use),
            is_learner: status.is_learner,
            storage_version: CLUSTER_VERSION.to_owned(),
            db_size_quota: self.options.quota_bytes,
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        tracing::info!("defragment was asked for: this store needs none and did nothing");
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        let answer = self.store.hash_kv(0).await.map_err(status)?;
        Ok(Response::new(pb::HashResponse {
            header: self.header(answer.revision),
            hash: answer.hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let answer = self.store.hash_kv(request.into_inner().revision).await;
        let answer = answer.map_err(status)?;
        let compact_revision = match answer.compact_revision {
            // As etcd says that nothing was compacted.
            0 => -1,
            revision => revision,
        };
        Ok(Response::new(pb::HashKvResponse {
            header: self.header(answer.revision),
            hash: answer.hash,
            compact_revision,
            hash_revision: answer.hash_revision,
        }))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.store.snapshot().await.map_err(status)?;
        tracing::info!(bytes = snapshot.size, "sending a snapshot to a client");
        // As etcd counts: without the checksum, which is the last part.
        let size = snapshot.size;
        let mut remaining = size.saturating_sub(CHECKSUM_BYTES);
        let blocks = snapshot.flat_map(|block| futures::stream::iter(parts(block)));
        let answers = blocks.map(move |part| {
            let blob = part.map_err(status)?;
            remaining = remaining.saturating_sub(blob.len() as u64);
            Ok(pb::SnapshotResponse {
                header: None,
                remaining_bytes: remaining,
                blob,
                version: CLUSTER_VERSION.to_owned(),
            })
        });
        Ok(Response::new(Box::pin(until(
            complete(answers, size),
            self.stopped(),
        ))))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let moved = self.store.move_leader(request.into_inner().target_id);
        moved.await.map_err(status)?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        use pb::downgrade_request::DowngradeAction;
        let request = request.into_inner();
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate | DowngradeAction::Enable) => {
                Err(Status::invalid_argument(downgrade_fault(&request.version)))
            }
            Ok(DowngradeAction::Cancel) => Err(Status::failed_precondition(
                "etcdserver: no inflight downgrade job",
            )),
            Err(_) => Err(Status::unknown("etcdserver: unknown method")),
        }
    }
}

/// Why there is no downgrade to this version: it is none, or not one whose data format this store can write.
fn downgrade_fault(version: &str) -> &'static str {
    let mut parts = version.splitn(3, '.');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    if is_number(parts.next()) && is_number(parts.next()) {
        "etcdserver: invalid downgrade target version"
    } else {
        "etcdserver: wrong downgrade target version format"
    }
}

impl Front {
    /// The names of the alarms that are raised.
    pub(crate) fn alarms(&self) -> Vec<&'static str> {
        let alarms = self.store.known_alarms();
        alarms.iter().map(|alarm| alarm_name(alarm.kind)).collect()
    }
}

fn alarm_name(kind: store::AlarmKind) -> &'static str {
    match kind {
        store::AlarmKind::NoSpace => "NOSPACE",
        store::AlarmKind::Corrupt => "CORRUPT",
    }
}

/// The parts of a snapshot of so many bytes, and an error if they are not all.
pub(crate) fn complete(
    parts: impl Stream<Item = Result<pb::SnapshotResponse, Status>> + Send + 'static,
    size: u64,
) -> impl Stream<Item = Result<pb::SnapshotResponse, Status>> + Send + 'static {
    let state = Some((Box::pin(parts), size));
    futures::stream::unfold(state, |state| async move {
        let (mut parts, missing) = state?;
        match parts.next().await {
            Some(Ok(part)) => {
                let missing = missing.saturating_sub(part.blob.len() as u64);
                Some((Ok(part), Some((parts, missing))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None if missing == 0 => None,
            None => {
                let error = format!("etcdserver: the snapshot lacks its last {missing} bytes");
                Some((Err(Status::unavailable(error)), None))
            }
        }
    })
}

/// A block cut into parts of etcd's size.
fn parts(block: Result<Bytes, store::Error>) -> Vec<Result<Bytes, store::Error>> {
    match block {
        Ok(block) => (0..block.len())
            .step_by(SNAPSHOT_PART_BYTES)
            .map(|from| Ok(block.slice(from..block.len().min(from + SNAPSHOT_PART_BYTES))))
            .collect(),
        Err(error) => vec![Err(error)],
    }
}
