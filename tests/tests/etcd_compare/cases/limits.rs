//! Requests that are too large, and metadata that asks for a leader.

use anyhow::Result;
use tonic::Request;
use xebec_proto::etcdserverpb as pb;

use super::{get, op, put, then};
use crate::session::Session;

crate::cases!("limits": request_too_large, request_at_the_limit, far_too_large, transaction_too_large, many_large_answers, leader_required, unknown_service);

fn large(key: &'static str, bytes: usize) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: vec![b'x'; bytes].into(),
        ..Default::default()
    }
}

async fn request_too_large(s: &mut Session) -> Result<()> {
    s.put(large("tl", 1_400_000)).await?;
    s.put(large("tl", 1_572_864)).await?;
    s.put(large("tl", 1_700_000)).await?;
    s.delete(super::delete("tl", "")).await?;
    Ok(())
}

/// etcd counts the message that it logs, with a number of its own that takes seven to ten bytes.
async fn request_at_the_limit(s: &mut Session) -> Result<()> {
    const LIMIT: usize = 1_572_864;
    s.put(large("rl", LIMIT - 26)).await?;
    s.put(large("rl", LIMIT - 22)).await?;
    s.delete(super::delete("rl", "")).await?;
    Ok(())
}

async fn far_too_large(s: &mut Session) -> Result<()> {
    s.put(large("ft", 3_000_000)).await?;
    s.range(get("ft")).await?;
    Ok(())
}

async fn transaction_too_large(s: &mut Session) -> Result<()> {
    s.txn(then(vec![
        op::put_with(large("tt/1", 800_000)),
        op::put_with(large("tt/2", 800_000)),
    ]))
    .await?;
    s.range(get("tt/1")).await?;
    Ok(())
}

async fn many_large_answers(s: &mut Session) -> Result<()> {
    for key in ["ml/1", "ml/2", "ml/3", "ml/4", "ml/5"] {
        s.put(large(key, 1_000_000)).await?;
    }
    let answer = s.kv().range(super::span("ml/", "ml0")).await?.into_inner();
    s.note(format!(
        "{} keys, {} counted",
        answer.kvs.len(),
        answer.count
    ));
    s.delete(super::delete("ml/", "ml0")).await?;
    Ok(())
}

async fn leader_required(s: &mut Session) -> Result<()> {
    for value in ["true", "false", ""] {
        let mut request = Request::new(put("lr", "1"));
        request.metadata_mut().insert("hasleader", value.parse()?);
        let answer = s.kv().put(request).await;
        s.record("put", answer)?;
    }
    Ok(())
}

async fn unknown_service(s: &mut Session) -> Result<()> {
    let answer = crate::http::exchange(s, "GET", "/nowhere", "").await?;
    s.note(answer.to_string());
    Ok(())
}
