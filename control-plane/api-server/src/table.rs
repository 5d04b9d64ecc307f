//! Tables: what `kubectl get` prints, of objects in their served version.

use api_machinery::{
    ColumnSet, IncludeObject, ListMeta, Status, Table, TableRow, Timestamp, columns_of,
};
use serde_json::Value;

use crate::answer::Context;
use crate::negotiate::Shape;
use crate::resource::Resource;

/// An object, as it is stored and as it is served.
pub(crate) struct Row {
    pub stored: Value,
    pub served: Value,
}

/// Objects as a Table of `meta.k8s.io/VERSION`.
///
/// # Errors
/// 400 for an unknown `includeObject`.
pub(crate) fn render(
    resource: &Resource,
    rows: &[Row],
    meta: ListMeta,
    version: &str,
    include_object: &str,
) -> Result<Value, Status> {
    let columns = columns_of(&resource.kind);
    with_columns(columns, rows, meta, version, include_object)
}

/// Objects that are not stored, as the Table that a client may ask for.
///
/// # Errors
/// 400 for an unknown `includeObject`.
pub(crate) fn of_unstored(
    cx: &Context,
    columns: &'static ColumnSet,
    items: &[Value],
) -> Result<Option<Value>, Status> {
    let Shape::Table(version) = cx.accepted.shape else {
        return Ok(None);
    };
    let row = |item: &Value| Row {
        stored: item.clone(),
        served: item.clone(),
    };
    let rows: Vec<Row> = items.iter().map(row).collect();
    let include = &cx.query.include_object;
    with_columns(columns, &rows, ListMeta::default(), version, include).map(Some)
}

fn with_columns(
    columns: &'static ColumnSet,
    rows: &[Row],
    meta: ListMeta,
    version: &str,
    include_object: &str,
) -> Result<Value, Status> {
    let include = IncludeObject::parse(include_object).ok_or_else(|| {
        Status::bad_request(format!(
            "unrecognized includeObject value: {include_object:?}"
        ))
    })?;
    let now = Timestamp::now();
    let mut table = Table::new(columns, meta);
    table.rows = rows
        .iter()
        .map(|row| TableRow::new(columns, &row.stored, &row.served, include, now))
        .collect();
    let mut document = serde_json::to_value(table).map_err(Status::internal_error)?;
    if version != "v1" {
        document["apiVersion"] = format!("meta.k8s.io/{version}").into();
    }
    Ok(document)
}
