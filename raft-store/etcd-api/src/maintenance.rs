//! The Maintenance service. There is nothing to defragment, and one format of data, so nothing to downgrade to.

use std::pin::Pin;

use futures::Stream;
use tonic::{Request, Response, Status};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::maintenance_server::Maintenance;

use crate::error::status;
use crate::front::{CLUSTER_VERSION, ETCD_VERSION, Front};

fn not_yet(what: &str) -> Status {
    Status::unimplemented(format!("{what} is not supported yet"))
}

#[tonic::async_trait]
impl Maintenance for Front {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        if request.into_inner().action == pb::alarm_request::AlarmAction::Activate as i32 {
            return Err(not_yet("raising alarms by hand"));
        }
        // No alarm is ever raised yet, so none is there to list or to disarm.
        Ok(Response::new(pb::AlarmResponse {
            header: self.current_header(),
            alarms: Vec::new(),
        }))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.store.status();
        let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let errors = match status.leader {
            Some(_) => Vec::new(),
            None => vec!["etcdserver: no leader".to_owned()],
        };
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
        Err(not_yet("saving a snapshot"))
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
        Vec::new()
    }
}
