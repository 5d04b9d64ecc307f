//! Between the versions of a kind: what a client sees and what is stored.
//!
//! Two kinds have more than one version: events (both groups over one storage) and autoscaling. A row names both ways.

mod autoscaling;
mod events;

use serde_json::Value;

/// Both ways between a served version and the stored one. Objects are changed in place, `apiVersion` included.
pub(crate) struct Conversion {
    pub to_stored: fn(&mut Value),
    pub from_stored: fn(&mut Value),
}

/// Group, version and kind as served.
type Row = (&'static str, &'static str, &'static str, Conversion);

static TABLE: &[Row] = &[
    (
        "autoscaling",
        "v1",
        "HorizontalPodAutoscaler",
        autoscaling::V1,
    ),
    ("events.k8s.io", "v1", "Event", events::V1),
];

/// The conversion of a served version; none where it is the stored one.
pub(crate) fn conversion_for(
    group: &str,
    version: &str,
    kind: &str,
) -> Option<&'static Conversion> {
    TABLE
        .iter()
        .find(|(g, v, k, _)| *g == group && *v == version && *k == kind)
        .map(|(.., c)| c)
}
