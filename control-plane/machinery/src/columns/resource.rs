//! Devices: classes, claims and slices.

use serde_json::Value;

use super::cells;
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(super) static NAME_AND_AGE: ColumnSet = ColumnSet::new(&[NAME, AGE], |object, now| {
    vec![cells::name(object), cells::age(object, now)]
});

pub(super) static RESOURCE_CLAIM: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("State", "What became of the claim."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            state(object).into(),
            cells::age(object, now),
        ]
    },
);

fn state(claim: &Value) -> String {
    let allocated = claim.field(&["status", "allocation"]).is_some();
    let reserved = allocated && !claim.list(&["status", "reservedFor"]).is_empty();
    let states = [
        (claim.is_being_deleted(), "deleted"),
        (!allocated && !claim.is_being_deleted(), "pending"),
        (allocated, "allocated"),
        (reserved, "reserved"),
    ];
    let held: Vec<&str> = states
        .iter()
        .filter(|(holds, _)| *holds)
        .map(|(_, state)| *state)
        .collect();
    held.join(",")
}

pub(super) static RESOURCE_SLICE: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Node", "The node that has the devices."),
        Column::text("Driver", "The driver of the devices."),
        Column::text("Pool", "The pool that the devices belong to."),
        AGE,
    ],
    |object, now| {
        vec![
            cells::name(object),
            cells::text(object, &["spec", "nodeName"]),
            cells::text(object, &["spec", "driver"]),
            cells::text(object, &["spec", "pool", "name"]),
            cells::age(object, now),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn claims_show_their_state() {
        check(
            &RESOURCE_CLAIM,
            json!({"metadata": {}}),
            expect!["x | pending | 10m"],
        );
        check(
            &RESOURCE_CLAIM,
            json!({"metadata": {}, "status": {"allocation": {}, "reservedFor": [{}]}}),
            expect!["x | allocated,reserved | 10m"],
        );
    }
}
