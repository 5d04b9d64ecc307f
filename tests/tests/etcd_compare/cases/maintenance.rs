//! The Maintenance and health services.

use anyhow::{Context, Result};
use futures::StreamExt;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::alarm_request::AlarmAction;
use xebec_proto::etcdserverpb::downgrade_request::DowngradeAction;
use xebec_proto::grpc_health_v1 as health;

use super::{delete, put};
use crate::session::Session;

crate::cases!("maintenance":
    status, alarms, alarm_stops_writes, defragment, hash_kv_revisions, hash_kv_changes, hash_of_all, snapshot, move_leader, downgrade, health_checks,
);

async fn status(s: &mut Session) -> Result<()> {
    let status = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner();
    let header = status.header.context("a header")?;
    s.note(format!(
        "revision {:+}, leads {}, term {}, index {}, applied {}, size {}, in use {}, errors {:?}, learner {}",
        header.revision - s.base(),
        status.leader == header.member_id,
        status.raft_term == header.raft_term,
        status.raft_index > 0,
        status.raft_applied_index > 0,
        status.db_size > 0,
        status.db_size_in_use > 0,
        status.errors,
        status.is_learner,
    ));
    Ok(())
}

async fn alarm(
    s: &mut Session,
    action: AlarmAction,
    alarm: pb::AlarmType,
    member_id: u64,
) -> Result<()> {
    let request = pb::AlarmRequest {
        action: action as i32,
        alarm: alarm as i32,
        member_id,
    };
    let answer = s.maintenance().alarm(request).await;
    s.record("alarm", answer).map(drop)
}

async fn alarms(s: &mut Session) -> Result<()> {
    let member = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner();
    let member = member.header.context("a header")?.member_id;
    alarm(s, AlarmAction::Get, pb::AlarmType::None, 0).await?;
    alarm(s, AlarmAction::Deactivate, pb::AlarmType::Nospace, member).await?;
    alarm(s, AlarmAction::Activate, pb::AlarmType::Nospace, member).await?;
    alarm(s, AlarmAction::Activate, pb::AlarmType::Nospace, member).await?;
    alarm(s, AlarmAction::Get, pb::AlarmType::None, 0).await?;
    alarm(s, AlarmAction::Get, pb::AlarmType::Nospace, 0).await?;
    alarm(s, AlarmAction::Get, pb::AlarmType::Corrupt, 0).await?;
    alarm(s, AlarmAction::Deactivate, pb::AlarmType::Nospace, member).await?;
    alarm(s, AlarmAction::Get, pb::AlarmType::None, 0).await
}

async fn alarm_stops_writes(s: &mut Session) -> Result<()> {
    let member = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner();
    let member = member.header.context("a header")?.member_id;
    alarm(s, AlarmAction::Activate, pb::AlarmType::Nospace, member).await?;
    s.put(put("al", "1")).await?;
    let answer = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest { id: 7100, ttl: 100 })
        .await;
    s.record("grant", answer)?;
    s.delete(delete("al", "")).await?;
    s.range(super::get("al")).await?;
    s.txn(super::then(vec![super::op::put("al", "1")])).await?;
    s.txn(super::then(vec![super::op::range(super::get("al"))]))
        .await?;
    let answer = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner();
    s.note(format!("{} errors", answer.errors.len()));
    alarm(s, AlarmAction::Deactivate, pb::AlarmType::Nospace, member).await?;
    s.put(put("al", "1")).await?;
    Ok(())
}

async fn defragment(s: &mut Session) -> Result<()> {
    let answer = s.maintenance().defragment(pb::DefragmentRequest {}).await;
    s.record("defragment", answer).map(drop)
}

async fn hash(s: &mut Session, revision: i64) -> Result<Option<u32>> {
    let answer = s
        .maintenance()
        .hash_kv(pb::HashKvRequest { revision })
        .await;
    match answer {
        Ok(answer) => {
            let mut answer = answer.into_inner();
            let hash = std::mem::take(&mut answer.hash);
            // Known to etcd 3.6 only.
            answer.hash_revision = 0;
            s.message("hash", answer)?;
            Ok(Some(hash))
        }
        Err(status) => {
            s.error("hash", &status);
            Ok(None)
        }
    }
}

async fn hash_kv_revisions(s: &mut Session) -> Result<()> {
    s.put(put("hk", "1")).await?;
    for revision in [0, s.base() + 1, s.base(), s.base() + 2, -1] {
        hash(s, revision).await?;
    }
    Ok(())
}

async fn hash_kv_changes(s: &mut Session) -> Result<()> {
    s.put(put("hc", "1")).await?;
    let first = hash(s, 0).await?;
    s.put(put("hc", "2")).await?;
    let second = hash(s, 0).await?;
    let again = hash(s, s.base() + 1).await?;
    s.note(format!(
        "changes {}, same in the past {}",
        first != second,
        first == again
    ));
    Ok(())
}

async fn snapshot(s: &mut Session) -> Result<()> {
    let answer = s.maintenance().snapshot(pb::SnapshotRequest {}).await;
    let mut parts = match answer {
        Ok(parts) => parts.into_inner(),
        Err(status) => {
            s.error("snapshot", &status);
            return Ok(());
        }
    };
    let (mut last, mut remaining) = (0, Vec::new());
    while let Some(part) = parts.next().await {
        let part = part?;
        last = part.blob.len();
        remaining.push(part.remaining_bytes);
    }
    let falls = remaining.windows(2).all(|pair| pair[1] <= pair[0]);
    s.note(format!(
        "last part {last} bytes, remaining falls {falls} to {:?}",
        remaining.last()
    ));
    Ok(())
}

async fn move_leader(s: &mut Session) -> Result<()> {
    let own = s
        .maintenance()
        .status(pb::StatusRequest {})
        .await?
        .into_inner()
        .leader;
    for target_id in [12_345, 0, own] {
        let answer = s
            .maintenance()
            .move_leader(pb::MoveLeaderRequest { target_id })
            .await;
        s.record("move leader", answer)?;
    }
    Ok(())
}

async fn downgrade(s: &mut Session) -> Result<()> {
    let ask = async |s: &mut Session, action: i32, version: &str| {
        let request = pb::DowngradeRequest {
            action,
            version: version.to_owned(),
        };
        let answer = s.maintenance().downgrade(request).await;
        s.record("downgrade", answer).map(drop)
    };
    ask(s, DowngradeAction::Validate as i32, "").await?;
    ask(s, DowngradeAction::Validate as i32, "nonsense").await?;
    ask(s, DowngradeAction::Validate as i32, "2.1.0").await?;
    ask(s, DowngradeAction::Validate as i32, "9.9.0").await?;
    ask(s, DowngradeAction::Enable as i32, "2.1.0").await?;
    ask(s, DowngradeAction::Cancel as i32, "").await?;
    ask(s, 9, "").await
}

async fn health_checks(s: &mut Session) -> Result<()> {
    for service in ["", "etcdserverpb.KV", "nonsense"] {
        let answer = s
            .health()
            .check(health::HealthCheckRequest {
                service: service.to_owned(),
            })
            .await;
        match answer {
            Ok(answer) => s.note(format!("{service:?}: {:?}", answer.into_inner().status())),
            Err(status) => s.error(service, &status),
        }
    }
    let answer = s
        .health()
        .watch(health::HealthCheckRequest::default())
        .await;
    match answer {
        Ok(answer) => {
            let first = answer.into_inner().next().await.context("a status")?;
            s.note(format!("{:?}", first?.status()));
        }
        Err(status) => s.error("watch", &status),
    }
    Ok(())
}

/// The older call: of everything, and without a revision.
async fn hash_of_all(s: &mut Session) -> Result<()> {
    let answer = s.maintenance().hash(pb::HashRequest {}).await?.into_inner();
    let first = answer.hash;
    s.message("hash", pb::HashResponse { hash: 0, ..answer })?;
    s.put(put("ha", "1")).await?;
    let second = s.maintenance().hash(pb::HashRequest {}).await?;
    s.note(format!("changes {}", first != second.into_inner().hash));
    Ok(())
}
