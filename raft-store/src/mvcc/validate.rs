//! Checks of a request by itself, before it is proposed: what etcd refuses without looking at the state.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    Compare, DeleteRangeRequest, Error, KeyRange, PutRequest, RangeEnd, RangeRequest, RequestOp,
    TxnRequest,
};

pub fn range(request: &RangeRequest) -> Result<(), Error> {
    key(&request.range.key)
}

pub fn put(request: &PutRequest) -> Result<(), Error> {
    key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    key(&request.range.key)
}

fn key(key: &Bytes) -> Result<(), Error> {
    if key.is_empty() {
        Err(Error::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a transaction. As in etcd, each level of nesting lowers what the next may hold, and no key may be written
/// twice on one path through it.
pub fn txn(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    check_ops(request, max_ops)?;
    Writes::of_branch(&request.success)?;
    Writes::of_branch(&request.failure)?;
    Ok(())
}

fn check_ops(request: &TxnRequest, max_ops: usize) -> Result<(), Error> {
    let largest = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    if largest > max_ops {
        return Err(Error::TooManyOps);
    }
    for Compare { range, .. } in &request.compare {
        key(&range.key)?;
    }
    for op in request.success.iter().chain(&request.failure) {
        match op {
            RequestOp::Range(request) => range(request)?,
            RequestOp::Put(request) => put(request)?,
            RequestOp::DeleteRange(request) => delete_range(request)?,
            RequestOp::Txn(nested) => check_ops(nested, max_ops - largest)?,
        }
    }
    Ok(())
}

/// What one branch of a transaction writes.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    fn of_branch(ops: &[RequestOp]) -> Result<Self, Error> {
        let mut writes = Writes::default();
        for op in ops {
            if let RequestOp::DeleteRange(delete) = op {
                writes.deletes.push(delete.range.clone());
            }
        }
        // Branches of one nested transaction exclude each other: they may write the same keys.
        for op in ops {
            if let RequestOp::Txn(nested) = op {
                let then = Writes::of_branch(&nested.success)?;
                let otherwise = Writes::of_branch(&nested.failure)?;
                writes.check_against(&then)?;
                writes.check_against(&otherwise)?;
                writes.puts.extend(then.puts);
                writes.puts.extend(otherwise.puts);
                writes.deletes.extend(then.deletes);
                writes.deletes.extend(otherwise.deletes);
            }
        }
        for op in ops {
            if let RequestOp::Put(put) = op
                && (writes.deletes(&put.key) || !writes.puts.insert(put.key.clone()))
            {
                return Err(Error::DuplicateKey);
            }
        }
        Ok(writes)
    }

    fn deletes(&self, key: &Bytes) -> bool {
        self.deletes.iter().any(|range| contains(range, key))
    }

    fn check_against(&self, other: &Writes) -> Result<(), Error> {
        let clash = other
            .puts
            .iter()
            .any(|key| self.puts.contains(key) || self.deletes(key))
            || self.puts.iter().any(|key| other.deletes(key));
        if clash {
            Err(Error::DuplicateKey)
        } else {
            Ok(())
        }
    }
}

fn contains(range: &KeyRange, key: &Bytes) -> bool {
    match &range.end {
        RangeEnd::Single => range.key == *key,
        _ => range.contains(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_op(key: &'static str) -> RequestOp {
        RequestOp::Put(PutRequest {
            key: key.into(),
            ..Default::default()
        })
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        let range = KeyRange::from_etcd(key.into(), end.into());
        RequestOp::DeleteRange(DeleteRangeRequest {
            range,
            prev_kv: false,
        })
    }

    fn txn_op(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        RequestOp::Txn(TxnRequest {
            success,
            failure,
            ..Default::default()
        })
    }

    fn check(success: Vec<RequestOp>, expected: Result<(), Error>) {
        let request = TxnRequest {
            success,
            ..Default::default()
        };
        assert_eq!(txn(&request, 128), expected, "{request:?}");
    }

    #[test]
    fn duplicate_keys() {
        let duplicate = Err(Error::DuplicateKey);
        check(vec![put_op("a"), put_op("b")], Ok(()));
        check(vec![put_op("a"), put_op("a")], duplicate.clone());
        check(vec![put_op("b"), delete_op("a", "c")], duplicate.clone());
        check(vec![put_op("c"), delete_op("a", "c")], Ok(()));
        check(vec![delete_op("a", "c"), delete_op("b", "d")], Ok(()));
        check(vec![txn_op(vec![put_op("a")], vec![put_op("a")])], Ok(()));
        check(
            vec![put_op("a"), txn_op(vec![], vec![put_op("a")])],
            duplicate.clone(),
        );
        check(
            vec![
                txn_op(vec![put_op("a")], vec![]),
                txn_op(vec![put_op("a")], vec![]),
            ],
            duplicate.clone(),
        );
        check(
            vec![txn_op(vec![put_op("a")], vec![]), delete_op("a", "")],
            duplicate.clone(),
        );
        check(
            vec![put_op("a"), txn_op(vec![delete_op("a", "\0")], vec![])],
            duplicate,
        );
    }

    #[test]
    fn keys_and_counts() {
        check(vec![put_op("")], Err(Error::EmptyKey));
        check(
            (0..129).map(|_| delete_op("a", "")).collect(),
            Err(Error::TooManyOps),
        );
        check((0..128).map(|_| delete_op("a", "")).collect(), Ok(()));
        let mut full: Vec<_> = (0..127).map(|_| delete_op("a", "")).collect();
        full.push(txn_op(vec![put_op("z")], vec![]));
        check(full, Err(Error::TooManyOps));
    }
}
