//! `/openapi/v2` and `/openapi/v3`: the schema of everything served, made when asked for and kept by clients.

use api_machinery::{
    Status, openapi_v2, openapi_v2_protobuf, openapi_v3_hash, openapi_v3_index, write_openapi_v3,
};
use http::StatusCode;
use http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH,
};
use sha2::{Digest, Sha256};

use crate::answer::{Answer, Context, JSON};
use crate::body::AnswerBody;
use crate::core::Core;
use crate::request::query_pairs;

/// What clients ask for, and what they are answered: `@` is no part of a media type, and Go's parser refuses it.
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
const FOREVER: HeaderValue = HeaderValue::from_static("public, immutable");
/// A year ahead, as clients expect of what never changes under its URL.
const FAR_FUTURE: HeaderValue = HeaderValue::from_static("Fri, 31 Dec 2099 23:59:59 GMT");

pub(super) fn v2(core: &Core, cx: &Context, _rest: &str) -> Result<Answer, Status> {
    let table = &core.resources.table;
    let accept = cx
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let mut answer = if accept.contains(V2_PROTOBUF_ASKED) || accept.contains(V2_PROTOBUF) {
        let mut answer = Answer::json(StatusCode::OK, openapi_v2_protobuf(table));
        answer
            .headers
            .insert(CONTENT_TYPE, HeaderValue::from_static(V2_PROTOBUF));
        answer
    } else {
        let mut document = Vec::new();
        openapi_v2(table, &mut document).map_err(Status::internal_error)?;
        Answer::json(StatusCode::OK, document)
    };
    if let AnswerBody::Bytes(body) = &answer.body {
        let tag = format!("\"{}\"", hex::encode_upper(Sha256::digest(body)));
        if let Some(unchanged) = tagged(cx, &mut answer, &tag) {
            return Ok(unchanged);
        }
    }
    Ok(answer)
}

pub(super) fn v3(core: &Core, cx: &Context, rest: &str) -> Result<Answer, Status> {
    let table = &core.resources.table;
    if rest.is_empty() {
        return Ok(Answer::json(
            StatusCode::OK,
            openapi_v3_index(table).to_string(),
        ));
    }
    let accept = cx
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    if accept
        .split(',')
        .all(|clause| clause.trim().starts_with(V3_PROTOBUF))
        && !accept.is_empty()
    {
        return Err(Status::not_acceptable(&["application/json"]));
    }
    let hash = openapi_v3_hash(table, rest).ok_or_else(Status::no_such_path)?;
    let mut answer = Answer::json(StatusCode::OK, bytes::Bytes::new());
    if let Some(unchanged) = tagged(cx, &mut answer, &format!("\"{hash}\"")) {
        return Ok(unchanged);
    }
    let mut document = Vec::new();
    if !write_openapi_v3(table, rest, &mut document).map_err(Status::internal_error)? {
        return Err(Status::no_such_path());
    }
    answer.body = AnswerBody::Bytes(document.into());
    if query_pairs(&cx.raw_query).any(|(key, value)| key == "hash" && value == hash) {
        answer.headers.insert(CACHE_CONTROL, FOREVER);
        answer.headers.insert(EXPIRES, FAR_FUTURE);
    }
    Ok(answer)
}

/// Sets the tag; answers "not modified" where the client has that already.
fn tagged(cx: &Context, answer: &mut Answer, tag: &str) -> Option<Answer> {
    if let Ok(value) = HeaderValue::from_str(tag) {
        answer.headers.insert(ETAG, value);
    }
    let known = cx
        .headers
        .get(IF_NONE_MATCH)
        .is_some_and(|v| v.as_bytes() == tag.as_bytes());
    known.then(|| {
        Answer::new(
            StatusCode::NOT_MODIFIED,
            JSON,
            AnswerBody::Bytes(bytes::Bytes::new()),
        )
    })
}
