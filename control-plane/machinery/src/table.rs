//! The `Table` form of objects (KEP-331): what `kubectl get` prints, computed by the server.
//!
//! Columns and cells of a kind come from `columns`; this file makes the document. Cells are read from the stored form of an
//! object, and ages from the instant that is handed in.

use serde::Serialize;
use serde_json::{Value, json};

use crate::columns::ColumnSet;
use crate::kind::Kind;
use crate::time::Timestamp;

/// `apiVersion` of tables and partial objects.
pub const META_V1: &str = "meta.k8s.io/v1";

/// One column's heading.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Column {
    pub name: &'static str,
    #[serde(rename = "type")]
    pub column_type: &'static str,
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl Column {
    /// A column of text that is always shown.
    pub const fn text(name: &'static str, description: &'static str) -> Column {
        Column {
            name,
            column_type: "string",
            format: "",
            description,
            priority: 0,
        }
    }

    /// A column of whole numbers that is always shown.
    pub const fn integer(name: &'static str, description: &'static str) -> Column {
        Column {
            name,
            column_type: "integer",
            format: "",
            description,
            priority: 0,
        }
    }

    /// A column of flags that is always shown.
    pub const fn boolean(name: &'static str, description: &'static str) -> Column {
        Column {
            name,
            column_type: "boolean",
            format: "",
            description,
            priority: 0,
        }
    }

    /// The same, shown only with `-o wide`.
    pub const fn wide(mut self) -> Column {
        self.priority = 1;
        self
    }

    /// The same, marked as holding the object's name.
    pub const fn named(mut self) -> Column {
        self.format = "name";
        self
    }

    /// The same, marked as holding an instant.
    pub const fn dated(mut self) -> Column {
        self.column_type = "date";
        self
    }
}

/// What a row carries of its object (`includeObject` in the query).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// From the query parameter; `None` for a value that is not known.
    pub fn parse(text: &str) -> Option<IncludeObject> {
        match text {
            "" | "Metadata" => Some(IncludeObject::Metadata),
            "None" => Some(IncludeObject::None),
            "Object" => Some(IncludeObject::Object),
            _ => None,
        }
    }
}

/// One row.
#[derive(Debug, Clone, Serialize)]
pub struct TableRow {
    pub cells: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Value>,
    /// The object in the served version, its metadata, or null.
    pub object: Value,
}

/// The metadata of a list or a table.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<i64>,
}

/// The document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    kind: &'static str,
    api_version: &'static str,
    pub metadata: ListMeta,
    /// Absent in all watch events but the first.
    pub column_definitions: Option<&'static [Column]>,
    pub rows: Vec<TableRow>,
}

impl Table {
    /// An empty table with the columns of `columns`.
    pub fn new(columns: &ColumnSet, metadata: ListMeta) -> Table {
        Table {
            kind: "Table",
            api_version: META_V1,
            metadata,
            column_definitions: Some(columns.columns),
            rows: Vec::new(),
        }
    }

    /// The same without headings.
    #[must_use]
    pub fn without_headings(mut self) -> Table {
        self.column_definitions = None;
        self
    }
}

impl TableRow {
    /// The row of an object in its stored form. `served` is the same object in the version that was asked for; with
    /// `IncludeObject::Object` it becomes part of the row.
    pub fn new(
        columns: &ColumnSet,
        stored: &Value,
        served: &Value,
        include: IncludeObject,
        now: Timestamp,
    ) -> TableRow {
        let object = match include {
            IncludeObject::None => Value::Null,
            IncludeObject::Metadata => partial_object_metadata(served),
            IncludeObject::Object => served.clone(),
        };
        TableRow {
            cells: (columns.cells)(stored, now),
            conditions: (columns.conditions)(stored),
            object,
        }
    }
}

/// An object's metadata alone, as `PartialObjectMetadata`.
pub fn partial_object_metadata(object: &Value) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"kind": "PartialObjectMetadata", "apiVersion": META_V1, "metadata": metadata})
}

/// The columns of a kind; name and creation time where it has none of its own.
pub fn columns_of(kind: &Kind) -> &'static ColumnSet {
    crate::columns::find(&kind.group, &kind.kind)
}

/// The columns of `Scale`, which is no kind of its own but a subresource of many.
pub fn scale_columns() -> &'static ColumnSet {
    crate::columns::find("autoscaling", "Scale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::KindTable;

    #[test]
    fn document_is_upstreams() {
        let kinds = KindTable::builtin();
        let columns = columns_of(kinds.kind("", "LimitRange").expect("LimitRange"));
        let object = json!({"kind": "LimitRange", "metadata": {"name": "l", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        let metadata = ListMeta {
            resource_version: "7".into(),
            ..ListMeta::default()
        };
        let mut table = Table::new(columns, metadata);
        table.rows.push(TableRow::new(
            columns,
            &object,
            &object,
            IncludeObject::Metadata,
            Timestamp::UNIX_EPOCH,
        ));
        let text = serde_json::to_string(&table.without_headings()).expect("plain data");
        assert_eq!(
            text,
            r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"7"},"columnDefinitions":null,"rows":[{"cells":["l","2026-01-01T00:00:00Z"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"l","creationTimestamp":"2026-01-01T00:00:00Z"}}}]}"#
        );
    }

    #[test]
    fn every_row_has_a_cell_for_every_column() {
        let empty = json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}});
        for kind in KindTable::builtin().iter() {
            let columns = columns_of(kind);
            let cells = (columns.cells)(&empty, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), columns.columns.len(), "{}", kind.kind);
        }
    }
}
