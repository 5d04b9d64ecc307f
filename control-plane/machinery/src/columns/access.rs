//! Who may do what: role bindings and signing requests. Roles themselves show name and creation time.

use serde_json::Value;

use super::cells::{self, NONE};
use super::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;
use crate::time::human_seconds;

pub(super) static BINDING: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Role", "The role that is given."),
        AGE,
        Column::text("Users", "Users who get it.").wide(),
        Column::text("Groups", "Groups that get it.").wide(),
        Column::text("ServiceAccounts", "Service accounts that get it.").wide(),
    ],
    |object, now| {
        let role = |field: &str| object.text(&["roleRef", field]).to_owned();
        vec![
            cells::name(object),
            format!("{}/{}", role("kind"), role("name")).into(),
            cells::age(object, now),
            subjects(object, "User"),
            subjects(object, "Group"),
            subjects(object, "ServiceAccount"),
        ]
    },
);

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = binding
        .list(&["subjects"])
        .iter()
        .filter(|subject| subject.kind() == kind);
    let names: Vec<String> = of_kind
        .map(|subject| match (kind, subject.text(&["name"])) {
            ("ServiceAccount", name) => format!("{}/{name}", subject.text(&["namespace"])),
            (_, name) => name.to_owned(),
        })
        .collect();
    names.join(", ").into()
}

pub(super) static SIGNING_REQUEST: ColumnSet = ColumnSet::new(
    &[
        NAME,
        AGE,
        Column::text("SignerName", "Who is asked to sign."),
        Column::text("Requestor", "Who asks."),
        Column::text("RequestedDuration", "How long the certificate shall hold."),
        Column::text("Condition", "What became of the request."),
    ],
    |object, now| {
        let duration = object
            .number(&["spec", "expirationSeconds"])
            .map(human_seconds);
        vec![
            cells::name(object),
            cells::age(object, now),
            cells::text_or(object, &["spec", "signerName"], NONE),
            cells::text(object, &["spec", "username"]),
            duration.unwrap_or_else(|| NONE.to_owned()).into(),
            signing_status(object).into(),
        ]
    },
);

fn signing_status(request: &Value) -> String {
    let has = |condition| cells::condition(request, condition).is_some();
    let mut status = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !request.text(&["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    status
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::super::check::check;
    use super::*;

    #[test]
    fn bindings_and_requests() {
        check(
            &BINDING,
            json!({"metadata": {}, "roleRef": {"kind": "Role", "name": "r"}, "subjects": [
                {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "User", "name": "v"}]}),
            expect!["x | Role/r | 10m | u, v |  | n/s"],
        );
        check(
            &SIGNING_REQUEST,
            json!({"metadata": {}, "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
                "status": {"certificate": "abc", "conditions": [{"type": "Approved", "status": "True"}]}}),
            expect!["x | 10m | s | u | 60m | Approved,Issued"],
        );
    }
}
