//! The JSON gateway of the services that are asked for rarely, and streams of requests that cannot be read.

use anyhow::Result;
use serde_json::{Value, json};

use super::gateway::{post, stream};
use crate::http::{exchange, send};
use crate::session::{Session, comparable};

crate::cases!("gateway_services":
    promote, hash_kv, downgrade, alarms, election, observe, lock_waits, malformed_streams, malformed_later,
);

async fn promote(s: &mut Session) -> Result<()> {
    s.settle().await?;
    post(s, "/v3/cluster/member/promote", json!({"ID": "123"})).await?;
    s.settle().await?;
    post(s, "/v3/cluster/member/promote", json!({}))
        .await
        .map(drop)
}

async fn hash_kv(s: &mut Session) -> Result<()> {
    let answer = send(s.port, "POST", "/v3/maintenance/hashkv", "{}").await?;
    s.note(answer.status.clone());
    let answer: Value = serde_json::from_str(&answer.body().await?)?;
    s.note(format!(
        "{} {} {}",
        answer["header"]["revision"].is_string(),
        answer["hash"].is_u64(),
        answer["compact_revision"]
    ));
    let future = json!({"revision": "999999999"});
    post(s, "/v3/maintenance/hashkv", future).await.map(drop)
}

async fn downgrade(s: &mut Session) -> Result<()> {
    for request in [
        json!({"action": "VALIDATE", "version": "nonsense"}),
        json!({"action": "VALIDATE", "version": "9.9.0"}),
        json!({"action": "ENABLE", "version": "2.1.0"}),
        json!({"action": "CANCEL"}),
        json!({}),
    ] {
        post(s, "/v3/maintenance/downgrade", request).await?;
    }
    Ok(())
}

/// What an operator does about a full disk, over HTTP.
async fn alarms(s: &mut Session) -> Result<()> {
    let status = send(s.port, "POST", "/v3/maintenance/status", "{}").await?;
    let status: Value = serde_json::from_str(&status.body().await?)?;
    let member = &status["header"]["member_id"];
    let alarm = |action: &str| json!({"action": action, "memberID": member, "alarm": "NOSPACE"});
    let path = "/v3/maintenance/alarm";
    post(s, path, alarm("ACTIVATE")).await?;
    post(s, path, json!({"action": "GET"})).await?;
    let put = json!({"key": "Z2Fs", "value": "YQ=="});
    post(s, "/v3/kv/put", put.clone()).await?;
    exchange(s, "GET", "/health", "").await?;
    post(s, path, alarm("DEACTIVATE")).await?;
    post(s, path, alarm("DEACTIVATE")).await?;
    post(s, "/v3/kv/put", put).await?;
    post(s, path, json!({"action": "ACTIVATE", "memberID": member}))
        .await
        .map(drop)
}

async fn campaign(s: &mut Session, name: &str, lease: &str, value: &str) -> Result<Value> {
    let request = json!({"name": name, "lease": lease, "value": value});
    let mut won = post(s, "/v3/election/campaign", request).await?;
    Ok(won["leader"].take())
}

async fn election(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78401"})).await?;
    let leader = campaign(s, "Z3ByLw==", "78401", "YQ==").await?;
    let proclaim = "/v3/election/proclaim";
    post(s, proclaim, json!({"leader": leader, "value": "Yg=="})).await?;
    post(s, "/v3/election/leader", json!({"name": "Z3ByLw=="})).await?;
    post(s, proclaim, json!({"value": "Yg=="})).await?;
    post(s, "/v3/election/resign", json!({"leader": leader})).await?;
    post(s, "/v3/election/leader", json!({"name": "Z3ByLw=="})).await?;
    post(s, proclaim, json!({"leader": leader, "value": "Yw=="})).await?;
    post(s, "/v3/election/resign", json!({"leader": leader})).await?;
    post(s, "/v3/election/resign", json!({})).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78401"}))
        .await
        .map(drop)
}

/// An observer is told who leads, and of what that proclaims.
async fn observe(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78501"})).await?;
    let leader = campaign(s, "Z29i", "78501", "YQ==").await?;
    let proclaim = json!({"leader": leader, "value": "Yg=="});
    let writes = [("/v3/election/proclaim", proclaim)];
    let body = json!({"name": "Z29i"}).to_string();
    stream(s, "/v3/election/observe", &body, 2, &writes).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78501"}))
        .await
        .map(drop)
}

/// Who asks for a held lock is answered once it is given back.
async fn lock_waits(s: &mut Session) -> Result<()> {
    let queue = json!({"key": "Z3dhaXQv", "range_end": "Z3dhaXQw", "count_only": true});
    for id in ["78601", "78602"] {
        post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": id})).await?;
    }
    let lock = |lease: &str| json!({"name": "Z3dhaXQ=", "lease": lease}).to_string();
    let held = exchange(s, "POST", "/v3/lock/lock", &lock("78601")).await?;
    let (port, second) = (s.port, lock("78602"));
    let second = tokio::spawn(async move {
        let answer = send(port, "POST", "/v3/lock/lock", &second).await?;
        anyhow::Ok((answer.status.clone(), answer.body().await?))
    });
    // It is in the queue once its key is there.
    loop {
        let waiting = send(s.port, "POST", "/v3/kv/range", &queue.to_string()).await?;
        let waiting: Value = serde_json::from_str(&waiting.body().await?)?;
        if waiting["count"] == "2" || second.is_finished() {
            break;
        }
    }
    s.note(format!("waits: {}", !second.is_finished()));
    post(s, "/v3/lock/unlock", json!({"key": held["key"]})).await?;
    let (status, body) = second.await??;
    let mut body = serde_json::from_str(&body)?;
    comparable(&mut body, s.base());
    s.note(format!("{status} {body}"));
    for id in ["78601", "78602"] {
        post(s, "/v3/lease/revoke", json!({"ID": id})).await?;
    }
    Ok(())
}

const MALFORMED: [&str; 5] = [
    "{",
    "[]",
    "nonsense",
    r#"{"create_request": 5, "ID": {}}"#,
    r#"{"create_request": {"key": "%%%"}, "ID": "x"}"#,
];

async fn malformed_streams(s: &mut Session) -> Result<()> {
    for path in ["/v3/watch", "/v3/lease/keepalive"] {
        for body in MALFORMED {
            let answer = send(s.port, "POST", path, body).await?;
            let status = answer.status.clone();
            let answer: Value = serde_json::from_str(&answer.body().await?)?;
            // The words are those of Go's JSON decoder.
            s.note(format!(
                "{path} {body}: {status} code {}, error is message {}",
                answer["code"],
                answer["error"] == answer["message"]
            ));
        }
    }
    Ok(())
}

/// What follows a good request and is none ends what is asked, not what is answered.
async fn malformed_later(s: &mut Session) -> Result<()> {
    let put = json!({"key": "Z21sLw==", "value": "MQ=="});
    let body = r#"{"create_request": {"key": "Z21sLw=="}} {"#;
    stream(s, "/v3/watch", body, 2, &[("/v3/kv/put", put)]).await?;
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78701"})).await?;
    stream(
        s,
        "/v3/lease/keepalive",
        r#"{"ID": "78701"} nonsense"#,
        1,
        &[],
    )
    .await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78701"}))
        .await
        .map(drop)
}
