//! Range options, nested transactions and fences, case by case.

use super::apply::{Effects, Mvcc};
use super::engine::{MemoryEngine, WriteSet};
use super::range;
use crate::command::{Command, Outcome};
use crate::*;

struct Member {
    engine: MemoryEngine,
    mvcc: Mvcc,
}

impl Member {
    /// Three keys: a (2 writes), b, c.
    fn new() -> Self {
        let engine = MemoryEngine::default();
        let mvcc = Mvcc::load(&engine).unwrap();
        let mut member = Self { engine, mvcc };
        for (key, value) in [("a", "9"), ("b", "5"), ("c", "7"), ("a", "1")] {
            member.apply(Command::Put(put(key, value))).unwrap();
        }
        member
    }

    fn apply(&mut self, command: Command) -> Result<Outcome, Error> {
        let mut writes = WriteSet::default();
        let answer = self
            .mvcc
            .apply(
                &self.engine,
                &mut writes,
                &mut Effects::default(),
                7,
                command,
            )
            .unwrap();
        self.engine.commit(&mut writes);
        answer
    }

    fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Error> {
        match self.apply(Command::Txn(request))? {
            Outcome::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    fn range(&self, request: RangeRequest) -> (Vec<String>, bool, i64) {
        let answer = range::range(&self.engine, self.mvcc.horizon, &request).unwrap();
        let text = |kv: &KeyValue| {
            format!(
                "{}={}",
                String::from_utf8_lossy(&kv.key),
                String::from_utf8_lossy(&kv.value)
            )
        };
        (
            answer.kvs.iter().map(text).collect(),
            answer.more,
            answer.count,
        )
    }
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

fn check(request: RangeRequest, kvs: &[&str], more: bool, count: i64) {
    let request = RangeRequest {
        range: KeyRange::all(),
        ..request
    };
    let (got, got_more, got_count) = Member::new().range(request.clone());
    assert_eq!(
        (got, got_more, got_count),
        (kvs.iter().map(|kv| kv.to_string()).collect(), more, count),
        "{request:?}"
    );
}

#[test]
fn options() {
    let all = RangeRequest::default();
    check(all.clone(), &["a=1", "b=5", "c=7"], false, 3);
    check(
        RangeRequest {
            limit: 2,
            ..all.clone()
        },
        &["a=1", "b=5"],
        true,
        3,
    );
    check(
        RangeRequest {
            limit: 3,
            ..all.clone()
        },
        &["a=1", "b=5", "c=7"],
        false,
        3,
    );
    check(
        RangeRequest {
            limit: 2,
            revision: 4,
            ..all.clone()
        },
        &["a=9", "b=5"],
        true,
        3,
    );
    check(
        RangeRequest {
            revision: 2,
            ..all.clone()
        },
        &["a=9"],
        false,
        1,
    );
    check(
        RangeRequest {
            count_only: true,
            limit: 1,
            ..all.clone()
        },
        &[],
        false,
        3,
    );
    check(
        RangeRequest {
            keys_only: true,
            ..all.clone()
        },
        &["a=", "b=", "c="],
        false,
        3,
    );
    check(
        RangeRequest {
            min_mod_revision: 4,
            ..all.clone()
        },
        &["a=1", "c=7"],
        false,
        3,
    );
    check(
        RangeRequest {
            max_create_revision: 3,
            limit: 1,
            ..all.clone()
        },
        &["a=1"],
        true,
        3,
    );
    check(
        RangeRequest {
            sort_order: SortOrder::Descend,
            limit: 1,
            ..all.clone()
        },
        &["c=7"],
        true,
        3,
    );
    let by_value = RangeRequest {
        sort_target: SortTarget::Value,
        ..all.clone()
    };
    check(by_value.clone(), &["a=1", "b=5", "c=7"], false, 3);
    check(
        RangeRequest {
            revision: 4,
            limit: 2,
            ..by_value.clone()
        },
        &["b=5", "c=7"],
        true,
        3,
    );
    check(
        RangeRequest {
            keys_only: true,
            revision: 4,
            ..by_value
        },
        &["b=", "c=", "a="],
        false,
        3,
    );
    let by_version = RangeRequest {
        sort_target: SortTarget::Version,
        sort_order: SortOrder::Descend,
        ..all
    };
    check(
        RangeRequest {
            limit: 1,
            ..by_version
        },
        &["a=1"],
        true,
        3,
    );
}

fn compare(key: &'static str, op: CompareOp, target: CompareTarget) -> Compare {
    Compare {
        range: KeyRange::single(key),
        op,
        target,
    }
}

#[test]
fn comparisons() {
    use CompareOp::*;
    let check = |compare: Compare, expected: bool| {
        let request = TxnRequest {
            compare: vec![compare.clone()],
            ..Default::default()
        };
        assert_eq!(
            Member::new().txn(request).unwrap().succeeded,
            expected,
            "{compare:?}"
        );
    };
    check(compare("a", Equal, CompareTarget::Version(2)), true);
    check(compare("a", Greater, CompareTarget::ModRevision(4)), true);
    check(compare("a", Less, CompareTarget::CreateRevision(2)), false);
    check(compare("a", Equal, CompareTarget::Value("1".into())), true);
    check(compare("none", Equal, CompareTarget::Version(0)), true);
    check(compare("none", Equal, CompareTarget::Lease(0)), true);
    check(
        compare("none", NotEqual, CompareTarget::Value("1".into())),
        false,
    );
    let everywhere = |target| Compare {
        range: KeyRange::all(),
        op: Greater,
        target,
    };
    check(everywhere(CompareTarget::Version(0)), true);
    check(everywhere(CompareTarget::Version(1)), false);
}

#[test]
fn compares_see_the_state_before_and_reads_see_earlier_writes() {
    let mut member = Member::new();
    let read = RequestOp::Range(RangeRequest {
        range: KeyRange::single("d"),
        ..Default::default()
    });
    let nested = TxnRequest {
        compare: vec![compare("d", CompareOp::Equal, CompareTarget::Version(0))],
        success: vec![read.clone()],
        ..Default::default()
    };
    let delete = DeleteRangeRequest {
        range: KeyRange::single("b"),
        prev_kv: false,
    };
    let success = vec![
        read.clone(),
        RequestOp::Put(put("d", "new")),
        RequestOp::Txn(nested),
        RequestOp::DeleteRange(delete),
    ];
    let answer = member
        .txn(TxnRequest {
            success,
            ..Default::default()
        })
        .unwrap();
    assert_eq!(answer.revision, 6);
    let [
        ResponseOp::Range(before),
        ResponseOp::Put(_),
        ResponseOp::Txn(nested),
        ResponseOp::DeleteRange(deleted),
    ] = &answer.responses[..]
    else {
        panic!("{answer:?}")
    };
    assert_eq!((before.count, before.revision), (0, 5));
    assert!(nested.succeeded, "the comparison saw the state before");
    let [ResponseOp::Range(after)] = &nested.responses[..] else {
        panic!("{nested:?}")
    };
    assert_eq!(
        (after.count, after.kvs[0].mod_revision, after.revision),
        (1, 6, 6)
    );
    assert_eq!(deleted.deleted, 1);
    assert_eq!(member.mvcc.horizon.revision, 6, "one revision for all");
}

#[test]
fn nothing_fails_half_way() {
    let check = |op: RequestOp, expected: Error| {
        let mut member = Member::new();
        let success = vec![RequestOp::Put(put("x", "1")), op];
        assert_eq!(
            member.txn(TxnRequest {
                success,
                ..Default::default()
            }),
            Err(expected)
        );
        assert_eq!(member.mvcc.horizon.revision, 5);
        assert_eq!(
            member
                .range(RangeRequest {
                    range: KeyRange::single("x"),
                    ..Default::default()
                })
                .2,
            0
        );
    };
    check(
        RequestOp::Put(PutRequest {
            lease: 9,
            ..put("y", "")
        }),
        Error::LeaseNotFound,
    );
    check(
        RequestOp::Put(PutRequest {
            ignore_value: true,
            ..put("y", "")
        }),
        Error::KeyNotFound,
    );
    let future = RangeRequest {
        range: KeyRange::single("a"),
        revision: 6,
        ..Default::default()
    };
    check(
        RequestOp::Range(future),
        Error::FutureRevision { revision: 5 },
    );
}

#[test]
fn a_fence_that_does_not_hold_stops_the_write() {
    let check = |fence: Fence, expected: Result<bool, Error>| {
        let success = vec![RequestOp::Put(put("x", "1"))];
        let request = TxnRequest {
            success,
            fence: Some(fence.clone()),
            ..Default::default()
        };
        assert_eq!(
            Member::new().txn(request).map(|answer| answer.succeeded),
            expected,
            "{fence:?}"
        );
    };
    check(Fence::term(7), Ok(true));
    check(Fence::term(6), Err(Error::Fenced));
    check(Fence::key("a", 2), Ok(true));
    check(Fence::key("a", 5), Err(Error::Fenced));
    check(Fence::key("none", 0), Err(Error::Fenced));
}
