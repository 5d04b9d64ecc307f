//! The Lock service (v3lock): a lock is held by the oldest key under its name.

use tonic::{Request, Response, Status};
use xebec_proto::v3lockpb as pb;
use xebec_proto::v3lockpb::lock_server::Lock;

use crate::front::Front;
use crate::queue::{LeaveOnDrop, prefix_of};

#[tonic::async_trait]
impl Lock for Front {
    async fn lock(
        &self,
        request: Request<pb::LockRequest>,
    ) -> Result<Response<pb::LockResponse>, Status> {
        let request = request.into_inner();
        let prefix = prefix_of(&request.name);
        let lease = self.session(request.lease).await?;
        let place = self.enqueue(&prefix, lease, Default::default()).await?;
        let mut revision = place.header_revision;
        let mut waiting = LeaveOnDrop {
            front: self.clone(),
            key: Some(place.key.clone()),
        };
        let (first, seen) = self.first(&prefix).await?;
        if first.is_some_and(|first| first.create_revision != place.revision) {
            self.wait_first(&prefix, place.revision).await?;
            // The lease may have ended meanwhile.
            let (first, now) = self.first(&prefix).await?;
            if first.is_none_or(|first| first.key != place.key) {
                return Err(Status::unknown("mutex: session is expired"));
            }
            revision = now.max(seen);
        }
        waiting.key = None;
        Ok(Response::new(pb::LockResponse {
            header: self.header(revision),
            key: place.key.into(),
        }))
    }

    async fn unlock(
        &self,
        request: Request<pb::UnlockRequest>,
    ) -> Result<Response<pb::UnlockResponse>, Status> {
        let revision = self.leave(request.into_inner().key).await?;
        Ok(Response::new(pb::UnlockResponse {
            header: self.header(revision),
        }))
    }
}
