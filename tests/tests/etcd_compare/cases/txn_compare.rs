//! What a transaction is made to depend on: comparisons of every sort.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::{op, put, then};
use crate::session::Session;

crate::cases!("txn": compare_targets, compare_missing_keys, compare_ranges, compare_without_target, unknown_comparison, compare_empty_key);

pub fn compare(
    key: &'static str,
    target: CompareTarget,
    result: CompareResult,
    to: TargetUnion,
) -> pb::Compare {
    pb::Compare {
        key: key.into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(to),
        ..Default::default()
    }
}

const RESULTS: [CompareResult; 4] = [
    CompareResult::Equal,
    CompareResult::Greater,
    CompareResult::Less,
    CompareResult::NotEqual,
];

async fn holds(s: &mut Session, compare: Vec<pb::Compare>) -> Result<()> {
    s.txn(pb::TxnRequest {
        compare,
        ..Default::default()
    })
    .await
    .map(drop)
}

async fn compare_targets(s: &mut Session) -> Result<()> {
    let lease = 6001;
    let answer = s
        .lease()
        .lease_grant(pb::LeaseGrantRequest {
            id: lease,
            ttl: 600,
        })
        .await;
    s.record("grant", answer)?;
    s.put(put("c", "m")).await?;
    s.put(pb::PutRequest {
        lease,
        ..put("c", "m")
    })
    .await?;
    for result in RESULTS {
        for by in [-1, 0, 1] {
            let (created, modified) = (s.base() + 1 + by, s.base() + 2 + by);
            for (target, to) in [
                (CompareTarget::Version, TargetUnion::Version(2 + by)),
                (CompareTarget::Create, TargetUnion::CreateRevision(created)),
                (CompareTarget::Mod, TargetUnion::ModRevision(modified)),
                (CompareTarget::Lease, TargetUnion::Lease(lease + by)),
            ] {
                holds(s, vec![compare("c", target, result, to)]).await?;
            }
        }
        for value in ["l", "m", "mm", ""] {
            let to = TargetUnion::Value(value.into());
            holds(s, vec![compare("c", CompareTarget::Value, result, to)]).await?;
        }
    }
    let answer = s
        .lease()
        .lease_revoke(pb::LeaseRevokeRequest { id: lease })
        .await;
    s.record("revoke", answer).map(drop)
}

async fn compare_missing_keys(s: &mut Session) -> Result<()> {
    for result in RESULTS {
        for n in [-1, 0, 1] {
            holds(
                s,
                vec![compare(
                    "none",
                    CompareTarget::Version,
                    result,
                    TargetUnion::Version(n),
                )],
            )
            .await?;
            holds(
                s,
                vec![compare(
                    "none",
                    CompareTarget::Create,
                    result,
                    TargetUnion::CreateRevision(n),
                )],
            )
            .await?;
            holds(
                s,
                vec![compare(
                    "none",
                    CompareTarget::Mod,
                    result,
                    TargetUnion::ModRevision(n),
                )],
            )
            .await?;
            holds(
                s,
                vec![compare(
                    "none",
                    CompareTarget::Lease,
                    result,
                    TargetUnion::Lease(n),
                )],
            )
            .await?;
        }
        for value in ["", "x"] {
            let to = TargetUnion::Value(value.into());
            holds(s, vec![compare("none", CompareTarget::Value, result, to)]).await?;
        }
    }
    Ok(())
}

async fn compare_ranges(s: &mut Session) -> Result<()> {
    s.put(put("cr/1", "a")).await?;
    s.put(put("cr/2", "b")).await?;
    let version = |end: &'static str, result, n| pb::Compare {
        range_end: end.into(),
        ..compare(
            "cr/",
            CompareTarget::Version,
            result,
            TargetUnion::Version(n),
        )
    };
    holds(s, vec![version("cr0", CompareResult::Equal, 1)]).await?;
    holds(s, vec![version("cr0", CompareResult::Greater, 1)]).await?;
    s.put(put("cr/2", "c")).await?;
    holds(s, vec![version("cr0", CompareResult::Equal, 1)]).await?;
    holds(s, vec![version("cr0", CompareResult::Greater, 0)]).await?;
    // No key in the range.
    holds(s, vec![version("cr/0", CompareResult::Equal, 0)]).await?;
    holds(s, vec![version("cr/0", CompareResult::Greater, 0)]).await?;
    let value = pb::Compare {
        range_end: "cr/0".into(),
        ..compare(
            "cr/",
            CompareTarget::Value,
            CompareResult::NotEqual,
            TargetUnion::Value("x".into()),
        )
    };
    holds(s, vec![value]).await
}

async fn compare_without_target(s: &mut Session) -> Result<()> {
    s.put(put("ct", "v")).await?;
    for target in [
        CompareTarget::Version,
        CompareTarget::Create,
        CompareTarget::Mod,
        CompareTarget::Value,
        CompareTarget::Lease,
    ] {
        let request = pb::Compare {
            key: "ct".into(),
            target: target as i32,
            ..Default::default()
        };
        holds(s, vec![request.clone()]).await?;
        let request = pb::Compare {
            result: CompareResult::Greater as i32,
            ..request
        };
        holds(s, vec![request]).await?;
    }
    // A value of another sort than the target.
    holds(
        s,
        vec![compare(
            "ct",
            CompareTarget::Version,
            CompareResult::Greater,
            TargetUnion::Lease(5),
        )],
    )
    .await
}

async fn unknown_comparison(s: &mut Session) -> Result<()> {
    s.put(put("uc", "v")).await?;
    let known = compare(
        "uc",
        CompareTarget::Version,
        CompareResult::Equal,
        TargetUnion::Version(1),
    );
    holds(
        s,
        vec![pb::Compare {
            result: 7,
            ..known.clone()
        }],
    )
    .await?;
    holds(s, vec![pb::Compare { target: 7, ..known }]).await
}

async fn compare_empty_key(s: &mut Session) -> Result<()> {
    holds(
        s,
        vec![compare(
            "",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(0),
        )],
    )
    .await?;
    let nested = pb::TxnRequest {
        compare: vec![compare(
            "",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(0),
        )],
        ..Default::default()
    };
    s.txn(then(vec![op::txn(nested)])).await.map(drop)
}
