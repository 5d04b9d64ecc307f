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

fn check(change: impl FnOnce(&mut RangeRequest), kvs: &str, more: bool, count: i64) {
    let mut request = RangeRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    change(&mut request);
    let (got, got_more, got_count) = Member::new().range(request.clone());
    assert_eq!(
        (got.join(" ").as_str(), got_more, got_count),
        (kvs, more, count),
        "{request:?}"
    );
}

#[test]
fn limits_and_filters() {
    check(|_| {}, "a=1 b=5 c=7", false, 3);
    check(|r| r.limit = 2, "a=1 b=5", true, 3);
    check(|r| r.limit = 3, "a=1 b=5 c=7", false, 3);
    check(|r| (r.limit, r.revision) = (2, 4), "a=9 b=5", true, 3);
    check(|r| r.revision = 2, "a=9", false, 1);
    check(|r| (r.limit, r.count_only) = (1, true), "", false, 3);
    check(|r| r.keys_only = true, "a= b= c=", false, 3);
    check(|r| r.min_mod_revision = 4, "a=1 c=7", false, 3);
    check(
        |r| (r.max_create_revision, r.limit) = (3, 1),
        "a=1",
        true,
        3,
    );
}

#[test]
fn sorting() {
    let by_value = |r: &mut RangeRequest| r.sort_target = SortTarget::Value;
    check(
        |r| (r.sort_order, r.limit) = (SortOrder::Descend, 1),
        "c=7",
        true,
        3,
    );
    check(by_value, "a=1 b=5 c=7", false, 3);
    check(
        |r| (r.sort_target, r.revision, r.limit) = (SortTarget::Value, 4, 2),
        "b=5 c=7",
        true,
        3,
    );
    check(
        |r| (r.sort_target, r.revision, r.keys_only) = (SortTarget::Value, 4, true),
        "b= c= a=",
        false,
        3,
    );
    check(
        |r| (r.sort_target, r.sort_order, r.limit) = (SortTarget::Version, SortOrder::Descend, 1),
        "a=1",
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
