//! Transactions: nesting, order, duplicate keys, checks before anything is changed.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use super::txn_compare::compare;
use super::{delete, get, op, put, span, then};
use crate::session::Session;

crate::cases!("txn":
    empty, both_branches, order_of_operations, one_revision, nested_sees_the_state_before, nested_both_branches, duplicate_puts, duplicates_in_nested, put_in_deleted_range, overlapping_deletes, too_many_operations, nesting_lowers_the_budget, empty_operation, bad_operations, checks_before_changes, check_of_the_taken_branch_only, read_only, range_in_the_past, ranges_in_txn, delete_and_range, check_sees_puts_before,
);

async fn empty(s: &mut Session) -> Result<()> {
    s.txn(pb::TxnRequest::default()).await?;
    s.txn(pb::TxnRequest {
        failure: vec![op::put("never", "1")],
        ..Default::default()
    })
    .await?;
    s.range(get("never")).await?;
    Ok(())
}

async fn both_branches(s: &mut Session) -> Result<()> {
    let request = || pb::TxnRequest {
        compare: vec![compare(
            "bb",
            CompareTarget::Create,
            CompareResult::Equal,
            TargetUnion::CreateRevision(0),
        )],
        success: vec![op::put("bb", "1"), op::range(get("bb"))],
        failure: vec![op::range(get("bb")), op::delete("bb", "")],
    };
    for _ in 0..3 {
        s.txn(request()).await?;
    }
    Ok(())
}

async fn order_of_operations(s: &mut Session) -> Result<()> {
    s.txn(then(vec![
        op::range(get("oo")),
        op::put("oo", "1"),
        op::range(get("oo")),
        op::range(pb::RangeRequest {
            count_only: true,
            ..span("oo", "op")
        }),
    ]))
    .await?;
    Ok(())
}

async fn one_revision(s: &mut Session) -> Result<()> {
    s.txn(then(vec![
        op::put("or/1", "a"),
        op::put("or/2", "b"),
        op::delete("or/0", ""),
        op::put("or/3", "c"),
    ]))
    .await?;
    s.range(span("or/", "or0")).await?;
    s.txn(then(vec![op::delete("or/", "or0"), op::put("os", "d")]))
        .await?;
    s.range(span("or/", "ot")).await?;
    Ok(())
}

async fn nested_sees_the_state_before(s: &mut Session) -> Result<()> {
    let nested = pb::TxnRequest {
        compare: vec![compare(
            "ns",
            CompareTarget::Create,
            CompareResult::Equal,
            TargetUnion::CreateRevision(0),
        )],
        success: vec![op::put("ns/then", "1"), op::range(get("ns"))],
        failure: vec![op::put("ns/else", "1"), op::range(get("ns"))],
    };
    s.txn(then(vec![op::put("ns", "1"), op::txn(nested)]))
        .await?;
    s.range(span("ns", "nt")).await?;
    Ok(())
}

async fn nested_both_branches(s: &mut Session) -> Result<()> {
    let inner = |key: &'static str, version| pb::TxnRequest {
        compare: vec![compare(
            "nb",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(version),
        )],
        success: vec![
            op::put(key, "then"),
            op::txn(then(vec![op::range(get("nb"))])),
        ],
        failure: vec![op::put(key, "else")],
    };
    s.txn(then(vec![
        op::txn(inner("nb/1", 0)),
        op::txn(inner("nb/2", 1)),
        op::range(span("nb", "nc")),
    ]))
    .await?;
    Ok(())
}

async fn duplicate_puts(s: &mut Session) -> Result<()> {
    s.txn(then(vec![op::put("dp", "1"), op::put("dp", "2")]))
        .await?;
    let request = pb::TxnRequest {
        failure: vec![op::put("dp", "1"), op::put("dp", "1")],
        ..Default::default()
    };
    s.txn(request).await?;
    // The branches exclude each other.
    let request = pb::TxnRequest {
        success: vec![op::put("dp", "1")],
        failure: vec![op::put("dp", "1")],
        ..Default::default()
    };
    s.txn(request).await?;
    Ok(())
}

async fn duplicates_in_nested(s: &mut Session) -> Result<()> {
    let both = || pb::TxnRequest {
        success: vec![op::put("dn", "1")],
        failure: vec![op::put("dn", "1")],
        ..Default::default()
    };
    s.txn(then(vec![op::txn(both())])).await?;
    s.txn(then(vec![op::txn(both()), op::txn(both())])).await?;
    s.txn(then(vec![op::txn(both()), op::put("dn", "1")]))
        .await?;
    s.txn(then(vec![
        op::put("dn", "1"),
        op::txn(then(vec![op::txn(both())])),
    ]))
    .await?;
    s.range(get("dn")).await?;
    Ok(())
}

async fn put_in_deleted_range(s: &mut Session) -> Result<()> {
    s.txn(then(vec![op::delete("pd", ""), op::put("pd", "1")]))
        .await?;
    s.txn(then(vec![op::put("pd/5", "1"), op::delete("pd/", "pd0")]))
        .await?;
    s.txn(then(vec![op::put("pd0", "1"), op::delete("pd/", "pd0")]))
        .await?;
    s.txn(then(vec![op::put("pz", "1"), op::delete("pd/", "\0")]))
        .await?;
    s.txn(then(vec![
        op::delete("pd/", "pd0"),
        op::txn(then(vec![op::put("pd/1", "1")])),
    ]))
    .await?;
    s.txn(then(vec![
        op::txn(then(vec![op::delete("pd/", "pd0")])),
        op::put("pd/1", "1"),
    ]))
    .await?;
    s.txn(then(vec![
        op::txn(then(vec![op::delete("pd/", "pd0")])),
        op::txn(then(vec![op::put("pd/1", "1")])),
    ]))
    .await?;
    s.txn(then(vec![
        op::txn(then(vec![op::put("pd/2", "1")])),
        op::txn(then(vec![op::delete("pd/", "pd0")])),
    ]))
    .await?;
    // A range that ends before it begins holds nothing.
    s.txn(then(vec![op::delete("pe", "pd"), op::put("pe", "1")]))
        .await?;
    Ok(())
}

async fn overlapping_deletes(s: &mut Session) -> Result<()> {
    s.put(put("od/1", "1")).await?;
    s.put(put("od/2", "2")).await?;
    s.txn(then(vec![
        op::delete("od/1", "od/3"),
        op::delete("od/2", "od/4"),
        op::delete("od/1", ""),
    ]))
    .await?;
    Ok(())
}

async fn too_many_operations(s: &mut Session) -> Result<()> {
    let ranges = |count: usize| (0..count).map(|_| op::range(get("tm"))).collect::<Vec<_>>();
    let compares = |count: usize| {
        let one = compare(
            "tm",
            CompareTarget::Version,
            CompareResult::Equal,
            TargetUnion::Version(0),
        );
        vec![one; count]
    };
    s.txn(then(ranges(129))).await?;
    s.txn(pb::TxnRequest {
        failure: ranges(129),
        ..Default::default()
    })
    .await?;
    s.txn(pb::TxnRequest {
        compare: compares(129),
        ..Default::default()
    })
    .await?;
    s.txn(pb::TxnRequest {
        compare: compares(128),
        success: ranges(128),
        failure: ranges(128),
    })
    .await?;
    Ok(())
}

async fn nesting_lowers_the_budget(s: &mut Session) -> Result<()> {
    let full = |inside: usize, outside: usize| {
        let mut ops: Vec<_> = (0..outside).map(|_| op::range(get("nl"))).collect();
        ops.push(op::txn(then(
            (0..inside).map(|_| op::range(get("nl"))).collect(),
        )));
        then(ops)
    };
    s.txn(full(1, 126)).await?;
    s.txn(full(2, 126)).await?;
    s.txn(full(1, 127)).await?;
    s.txn(full(127, 0)).await?;
    s.txn(full(128, 0)).await?;
    Ok(())
}

async fn empty_operation(s: &mut Session) -> Result<()> {
    s.txn(then(vec![op::put("eo", "1"), pb::RequestOp::default()]))
        .await?;
    s.txn(pb::TxnRequest {
        failure: vec![pb::RequestOp::default()],
        ..Default::default()
    })
    .await?;
    s.range(get("eo")).await?;
    Ok(())
}

async fn bad_operations(s: &mut Session) -> Result<()> {
    s.txn(then(vec![op::range(get(""))])).await?;
    s.txn(then(vec![op::put("", "1")])).await?;
    s.txn(then(vec![op::delete("", "")])).await?;
    s.txn(then(vec![op::range(pb::RangeRequest {
        sort_order: 9,
        ..get("bo")
    })]))
    .await?;
    s.txn(then(vec![op::put_with(pb::PutRequest {
        ignore_value: true,
        ..put("bo", "1")
    })]))
    .await?;
    s.txn(then(vec![op::put_with(pb::PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("bo", "1")
    })]))
    .await?;
    // Which of two faults is named.
    s.txn(then(vec![
        op::put("bo", "1"),
        op::put("bo", "1"),
        op::put("", "1"),
    ]))
    .await?;
    Ok(())
}

async fn checks_before_changes(s: &mut Session) -> Result<()> {
    let first = || op::put("cb/first", "1");
    s.txn(then(vec![
        first(),
        op::put_with(pb::PutRequest {
            lease: 987_654,
            ..put("cb", "1")
        }),
    ]))
    .await?;
    s.txn(then(vec![
        first(),
        op::put_with(pb::PutRequest {
            ignore_value: true,
            ..put("cb", "")
        }),
    ]))
    .await?;
    s.txn(then(vec![
        first(),
        op::put_with(pb::PutRequest {
            ignore_lease: true,
            ..put("cb", "1")
        }),
    ]))
    .await?;
    let revision = s.base() + 50;
    s.txn(then(vec![
        first(),
        op::range(pb::RangeRequest {
            revision,
            ..get("cb")
        }),
    ]))
    .await?;
    let nested = then(vec![op::put_with(pb::PutRequest {
        lease: 987_654,
        ..put("cb", "1")
    })]);
    s.txn(then(vec![first(), op::txn(nested)])).await?;
    s.range(span("cb", "cc")).await?;
    Ok(())
}

async fn check_of_the_taken_branch_only(s: &mut Session) -> Result<()> {
    let request = pb::TxnRequest {
        success: vec![op::put("tb", "1")],
        failure: vec![op::put_with(pb::PutRequest {
            lease: 987_654,
            ..put("tb", "1")
        })],
        ..Default::default()
    };
    s.txn(request).await?;
    s.range(get("tb")).await?;
    Ok(())
}

async fn check_sees_puts_before(s: &mut Session) -> Result<()> {
    // The key is created in the same transaction: whether ignore_value finds it.
    let nested = then(vec![op::put_with(pb::PutRequest {
        ignore_value: true,
        ..put("sp/2", "")
    })]);
    s.put(put("sp/2", "kept")).await?;
    s.txn(then(vec![op::put("sp/1", "1"), op::txn(nested)]))
        .await?;
    s.range(span("sp/", "sp0")).await?;
    Ok(())
}

async fn read_only(s: &mut Session) -> Result<()> {
    s.put(put("ro", "1")).await?;
    s.txn(then(vec![op::range(get("ro")), op::range(get("none"))]))
        .await?;
    s.txn(then(vec![op::range(pb::RangeRequest {
        serializable: true,
        ..get("ro")
    })]))
    .await?;
    s.range(get("ro")).await?;
    Ok(())
}

async fn range_in_the_past(s: &mut Session) -> Result<()> {
    s.put(put("rp", "1")).await?;
    s.put(put("rp", "2")).await?;
    for after in [1, 2, 3] {
        let revision = s.base() + after;
        s.txn(then(vec![op::range(pb::RangeRequest {
            revision,
            ..get("rp")
        })]))
        .await?;
    }
    let revision = s.base() + 1;
    s.txn(then(vec![
        op::put("rp", "3"),
        op::range(pb::RangeRequest {
            revision,
            ..get("rp")
        }),
    ]))
    .await?;
    let revision = s.base() + 4;
    s.txn(then(vec![
        op::put("rp", "4"),
        op::range(pb::RangeRequest {
            revision,
            ..get("rp")
        }),
    ]))
    .await?;
    Ok(())
}

async fn ranges_in_txn(s: &mut Session) -> Result<()> {
    for key in ["rt/1", "rt/2", "rt/3"] {
        s.put(put(key, "x")).await?;
    }
    let all = || span("rt/", "rt0");
    s.txn(then(vec![
        op::range(pb::RangeRequest { limit: 1, ..all() }),
        op::range(pb::RangeRequest {
            count_only: true,
            ..all()
        }),
        op::range(pb::RangeRequest {
            keys_only: true,
            limit: 2,
            ..all()
        }),
        op::range(pb::RangeRequest {
            sort_order: 2,
            sort_target: 3,
            limit: 1,
            ..all()
        }),
    ]))
    .await?;
    Ok(())
}

async fn delete_and_range(s: &mut Session) -> Result<()> {
    s.put(put("dr/1", "x")).await?;
    s.put(put("dr/2", "x")).await?;
    s.txn(then(vec![
        op::delete("dr/1", ""),
        op::range(span("dr/", "dr0")),
        op::delete("dr/", "dr0"),
        op::range(span("dr/", "dr0")),
    ]))
    .await?;
    let request = pb::DeleteRangeRequest {
        prev_kv: true,
        ..delete("dr/1", "")
    };
    s.delete(request).await?;
    Ok(())
}
