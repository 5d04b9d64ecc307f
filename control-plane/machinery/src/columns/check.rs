//! The one check of the columns' tests: an object, an instant, the cells as text.

use expect_test::Expect;
use serde_json::Value;

use super::ColumnSet;

/// The instant at which tests look: ten minutes after `CREATED`.
pub(super) const NOW: &str = "2026-01-01T00:10:00Z";
pub(super) const CREATED: &str = "2026-01-01T00:00:00Z";

/// Compares cells, joined by ` | `.
pub(super) fn check(columns: &ColumnSet, mut object: Value, expected: Expect) {
    object["metadata"]["creationTimestamp"] = CREATED.into();
    if object["metadata"].get("name").is_none() {
        object["metadata"]["name"] = "x".into();
    }
    let now = NOW.parse().expect("an instant");
    let cells = (columns.cells)(&object, now);
    assert_eq!(cells.len(), columns.columns.len());
    let texts: Vec<String> = cells
        .iter()
        .map(|cell| match cell {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    expected.assert_eq(&texts.join(" | "));
}
