//! Conditions in an object's status, as the API server itself sets them.

use api_machinery::{ObjectExt, ObjectMutExt};
use serde_json::Value;

/// Sets a condition; its transition time moves only when its status changes.
pub(crate) fn set(object: &mut Value, mut condition: Value, now: &str) {
    let mut conditions = object.list(&["status", "conditions"]).to_vec();
    let kind = condition.text(&["type"]).to_owned();
    let at = conditions.iter().position(|c| c.text(&["type"]) == kind);
    let since = at
        .map(|i| &conditions[i])
        .filter(|old| old.text(&["status"]) == condition.text(&["status"]))
        .map(|old| old.text(&["lastTransitionTime"]).to_owned())
        .filter(|t| !t.is_empty());
    condition.set(
        &["lastTransitionTime"],
        since.unwrap_or_else(|| now.to_owned()),
    );
    match at {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
    object.set(&["status", "conditions"], conditions);
}
