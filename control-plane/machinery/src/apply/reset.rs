//! Which fields a resource never changes, so that nobody comes to own them through it: an object's own path leaves its
//! status alone, its `status` leaves the rest alone.
//!
//! These are upstream's; kinds that differ from the rule are rows here.

use super::FieldSet;
use crate::kind::Kind;

/// Paths that `group/Kind/subresource` resets, where the rule does not say it.
const ROWS: &[(&str, &[&[&str]])] = &[
    (
        "apps/Deployment/status",
        &[&["spec"], &["metadata", "labels"]],
    ),
    (
        "/Pod/status",
        &[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
    ),
    ("/Namespace/finalize", &[&["status"]]),
    (
        "certificates.k8s.io/CertificateSigningRequest/",
        &[&["spec"], &["status"]],
    ),
    (
        "certificates.k8s.io/CertificateSigningRequest/status",
        &[&["spec"], &["status", "conditions"]],
    ),
    (
        "certificates.k8s.io/CertificateSigningRequest/approval",
        &[&["spec"], &["status", "certificate"]],
    ),
];

/// Groups whose `status` resets all metadata too.
const STATUS_RESETS_METADATA: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "resource.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// The fields that a write of `subresource` (empty for the object itself) of a kind never changes.
pub fn reset_fields(kind: &Kind, subresource: &str) -> FieldSet {
    let name = format!("{}/{}/{subresource}", kind.group, kind.kind);
    if let Some((_, paths)) = ROWS.iter().find(|(row, _)| *row == name) {
        return FieldSet::of_fields(paths);
    }
    let metadata_too =
        STATUS_RESETS_METADATA.contains(&kind.group.as_ref()) || kind.kind == "ServiceCIDR";
    match subresource {
        "status" if metadata_too => FieldSet::of_fields(&[&["metadata"], &["spec"]]),
        "status" => FieldSet::of_fields(&[&["spec"]]),
        _ if kind.has_status() => FieldSet::of_fields(&[&["status"]]),
        _ => FieldSet::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::KindTable;

    #[test]
    fn by_rule_and_by_row() {
        let table = KindTable::builtin();
        for (group, kind, subresource, expect) in [
            ("apps", "ReplicaSet", "", r#"{"f:status":{}}"#),
            ("apps", "ReplicaSet", "status", r#"{"f:spec":{}}"#),
            (
                "apps",
                "Deployment",
                "status",
                r#"{"f:metadata":{"f:labels":{}},"f:spec":{}}"#,
            ),
            ("", "ConfigMap", "", "{}"),
            (
                "storage.k8s.io",
                "VolumeAttachment",
                "status",
                r#"{"f:metadata":{},"f:spec":{}}"#,
            ),
        ] {
            let row = table.kind(group, kind).expect("a known kind");
            assert_eq!(reset_fields(row, subresource).to_json().to_string(), expect);
        }
    }
}
