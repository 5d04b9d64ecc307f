//! `/api` and `/apis`: what is served, one document per group and version or all of it at once (aggregated).

use api_machinery::{
    AGGREGATED_V2, AGGREGATED_V2BETA1, Status, aggregated_api, aggregated_apis, api_group,
    api_group_list, api_resource_list, api_versions,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Context, JSON};
use crate::body::AnswerBody;
use crate::core::Core;
use crate::negotiate::Shape;
use crate::render;

pub(super) fn api(core: &Core, cx: &Context, rest: &str) -> Result<Answer, Status> {
    let table = &core.resources.table;
    match (rest, cx.accepted.shape) {
        ("", Shape::Discovery(version)) => {
            aggregated(cx, &aggregated_api(table, form(version)), version)
        }
        ("", _) => document(
            cx,
            Some(api_versions(&core.settings.advertise_address.to_string())),
        ),
        (version, _) => document(cx, api_resource_list(table, "", version)),
    }
}

pub(super) fn apis(core: &Core, cx: &Context, rest: &str) -> Result<Answer, Status> {
    let table = &core.resources.table;
    match (rest, rest.split_once('/'), cx.accepted.shape) {
        ("", _, Shape::Discovery(version)) => {
            aggregated(cx, &aggregated_apis(table, form(version)), version)
        }
        ("", ..) => document(cx, Some(api_group_list(table))),
        (group, None, _) => document(cx, api_group(table, group)),
        (_, Some((group, version)), _) => document(cx, api_resource_list(table, group, version)),
    }
}

fn form(version: &str) -> &'static str {
    if version == "v2beta1" {
        AGGREGATED_V2BETA1
    } else {
        AGGREGATED_V2
    }
}

fn document<T: Serialize>(cx: &Context, document: Option<T>) -> Result<Answer, Status> {
    let document = document.ok_or_else(Status::no_such_path)?;
    let value = serde_json::to_value(document).map_err(Status::internal_error)?;
    render::value(cx, StatusCode::OK, &value)
}

/// With an ETag, by which clients keep the document in a cache.
fn aggregated<T: Serialize>(cx: &Context, document: &T, version: &str) -> Result<Answer, Status> {
    let body = serde_json::to_vec(document).map_err(Status::internal_error)?;
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&body)));
    let known = cx
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes());
    let mut answer = match known {
        true => Answer::new(
            StatusCode::NOT_MODIFIED,
            JSON,
            AnswerBody::Bytes(bytes::Bytes::new()),
        ),
        false => Answer::json(StatusCode::OK, body),
    };
    let content_type =
        format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    for (name, text) in [
        (ETAG, tag.as_str()),
        (http::header::CONTENT_TYPE, &content_type),
        (VARY, "Accept"),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            answer.headers.insert(name, value);
        }
    }
    Ok(answer)
}
