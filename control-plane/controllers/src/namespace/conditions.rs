//! What a namespace that is being deleted says about it, in upstream's conditions. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::Findings;

/// Type, reason and message of each condition while there is nothing to complain of.
const FINE: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// The current conditions brought up to date; one that says the same as before keeps its time.
pub(super) fn updated_conditions(
    current: &[NamespaceCondition],
    findings: &Findings,
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let mut conditions = current.to_vec();
    for (kind, reason, message) in FINE {
        let (status, reason, message) = match complaint(kind, findings) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        let condition = NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => conditions.push(condition),
            Some(old) => {
                let same = old.status == condition.status
                    && old.reason == condition.reason
                    && old.message == condition.message;
                if !same {
                    *old = condition;
                }
            }
        }
    }
    conditions
}

fn complaint(kind: &str, findings: &Findings) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionDiscoveryFailure" if !findings.discovery_failures.is_empty() => {
            let failures = &findings.discovery_failures;
            let message = format!(
                "Discovery failed for some groups, {} failing: {}",
                failures.len(),
                failures.join(", ")
            );
            Some(("DiscoveryFailed", message))
        }
        "NamespaceDeletionContentFailure" if !findings.deletion_failures.is_empty() => {
            let failures = &findings.deletion_failures;
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                failures.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !findings.remaining.is_empty() => {
            let list = listed(&findings.remaining, "has");
            Some((
                "SomeResourcesRemain",
                format!("Some resources are remaining: {list}"),
            ))
        }
        "NamespaceFinalizersRemaining" if !findings.finalizers.is_empty() => {
            let list = listed(&findings.finalizers, "in");
            let message = format!("Some content in the namespace has finalizers remaining: {list}");
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}

fn listed(counts: &BTreeMap<String, usize>, word: &str) -> String {
    let place = if word == "has" { "." } else { "" };
    counts
        .iter()
        .map(|(name, count)| {
            format!(
                "{name}{} {word} {count} resource instances",
                if name.contains('.') { "" } else { place }
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_named_until_it_is_gone() {
        let findings = Findings {
            remaining: BTreeMap::from([("pods".into(), 2)]),
            finalizers: BTreeMap::from([("example.com/hold".into(), 1)]),
            ..Findings::default()
        };
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let conditions = updated_conditions(&[], &findings, at(1));
        let text: Vec<_> = conditions
            .iter()
            .filter(|c| c.status == "True")
            .filter_map(|c| c.message.as_deref())
            .collect();
        assert_eq!(
            text,
            [
                "Some resources are remaining: pods. has 2 resource instances",
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
            ]
        );
        assert_eq!(
            updated_conditions(&conditions, &findings, at(9)),
            conditions,
            "nothing new, no new times"
        );
        let clean = updated_conditions(&conditions, &Findings::default(), at(9));
        assert!(clean.iter().all(|c| c.status == "False") && clean.len() == 5);
    }
}
