//! From cached bytes to the form that a client accepts.
//!
//! JSON of the stored version is passed on as it is; everything else (another version, YAML, Table, metadata alone) is
//! made here, on demand.

use std::sync::Arc;

use api_machinery::{ListMeta, ObjectExt, Status};
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{Answer, Context, JSON, YAML};
use crate::body::{AnswerBody, ListBody};
use crate::cache::CachedObject;
use crate::negotiate::{Accepted, Format, Shape};
use crate::resource::Resource;
use crate::table::{self, Row};

/// An object in the version that a client asked for, beside the stored one where they differ.
fn row(resource: &Resource, stored: &[u8]) -> Result<Row, Status> {
    let stored: Value = serde_json::from_slice(stored).map_err(Status::internal_error)?;
    let mut served = stored.clone();
    if let Some(conversion) = resource.conversion {
        (conversion.from_stored)(&mut served);
    }
    Ok(Row { stored, served })
}

fn version_of(object: &Value) -> ListMeta {
    ListMeta {
        resource_version: object.resource_version().to_owned(),
        ..ListMeta::default()
    }
}

/// An object, in the stored version, as an answer.
pub(crate) fn object(
    cx: &Context,
    resource: &Resource,
    status: StatusCode,
    stored: Bytes,
) -> Result<Answer, Status> {
    if cx.accepted.is_plain() && resource.conversion.is_none() && !cx.query.pretty {
        return Ok(Answer::json(status, stored));
    }
    let shaped = event_object(
        resource,
        cx.accepted,
        &cx.query.include_object,
        true,
        &stored,
    )?;
    value(cx, status, &shaped)
}

/// Any value as an answer, in the format that the client accepts.
pub(crate) fn value(cx: &Context, status: StatusCode, value: &Value) -> Result<Answer, Status> {
    match cx.accepted.format {
        Format::Json if cx.query.pretty => {
            let body = serde_json::to_vec_pretty(value).map_err(Status::internal_error)?;
            Ok(Answer::json(status, body))
        }
        Format::Json => Ok(Answer::json(
            status,
            serde_json::to_vec(value).map_err(Status::internal_error)?,
        )),
        Format::Yaml => {
            let body = crate::yaml::write(value).map_err(Status::internal_error)?;
            Ok(Answer::new(status, YAML, AnswerBody::Bytes(body.into())))
        }
    }
}

/// Objects as a list.
pub(crate) fn list(
    cx: &Context,
    resource: &Resource,
    meta: &ListMeta,
    objects: Vec<Arc<CachedObject>>,
) -> Result<Answer, Status> {
    if cx.accepted.is_plain() && resource.conversion.is_none() && !cx.query.pretty {
        let head = format!(
            "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{},\"items\":[",
            resource.kind.list_kind,
            resource.api_version,
            serde_json::to_string(meta).map_err(Status::internal_error)?
        );
        let body = ListBody::new(head.into(), objects, b"]}\n");
        return Ok(Answer::new(
            StatusCode::OK,
            JSON,
            AnswerBody::List(Box::new(body)),
        ));
    }
    if let Shape::Table(version) = cx.accepted.shape {
        let rows = objects
            .iter()
            .map(|o| row(resource, &o.json))
            .collect::<Result<Vec<_>, _>>()?;
        let rendered = table::render(
            resource,
            &rows,
            meta.clone(),
            version,
            &cx.query.include_object,
        )?;
        return value(cx, StatusCode::OK, &rendered);
    }
    let items = objects
        .iter()
        .map(|o| served(resource, &o.json))
        .collect::<Result<Vec<_>, _>>()?;
    let shaped = match cx.accepted.shape {
        Shape::Metadata(version) => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": meta,
            "items": items.into_iter().map(|o| metadata_only(o, version)).collect::<Vec<_>>(),
        }),
        _ => json!({
            "kind": resource.kind.list_kind,
            "apiVersion": resource.api_version,
            "metadata": meta,
            "items": items,
        }),
    };
    value(cx, StatusCode::OK, &shaped)
}

/// An object in the form that a client accepts; the columns of a Table are left out of all watch events but the first.
pub(crate) fn event_object(
    resource: &Resource,
    accepted: Accepted,
    include_object: &str,
    with_columns: bool,
    stored: &[u8],
) -> Result<Value, Status> {
    Ok(match accepted.shape {
        Shape::Object | Shape::Discovery(_) => served(resource, stored)?,
        Shape::Metadata(version) => metadata_only(served(resource, stored)?, version),
        Shape::Table(version) => {
            let row = row(resource, stored)?;
            let meta = version_of(&row.stored);
            let mut rendered = table::render(resource, &[row], meta, version, include_object)?;
            if !with_columns {
                rendered["columnDefinitions"] = Value::Null;
            }
            rendered
        }
    })
}

/// A stored object as a value of the served version.
pub(crate) fn served(resource: &Resource, stored: &[u8]) -> Result<Value, Status> {
    let mut object = serde_json::from_slice(stored).map_err(Status::internal_error)?;
    if let Some(conversion) = resource.conversion {
        (conversion.from_stored)(&mut object);
    }
    Ok(object)
}

fn metadata_only(mut object: Value, version: &str) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": format!("meta.k8s.io/{version}"),
        "metadata": object["metadata"].take(),
    })
}
