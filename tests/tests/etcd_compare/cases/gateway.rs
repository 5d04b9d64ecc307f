//! HTTP on the client port: the JSON gateway, health and version.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::http::{exchange, send};
use crate::session::{Session, comparable};

crate::cases!("gateway":
    version, health, health_excludes, livez_and_readyz, wrong_methods, metrics, put_and_range, names_of_fields, enums,
    unknown_fields, bad_json, empty_body, delete_range, txn, patroni, compaction_errors, leases, lease_aliases, keep_alive, watch,
    watch_compacted, watch_progress, members, maintenance, auth, unknown_path, old_prefix, errors, snapshot, locks,
);

pub async fn post(s: &mut Session, path: &str, body: Value) -> Result<Value> {
    exchange(s, "POST", path, &body.to_string()).await
}

async fn version(s: &mut Session) -> Result<()> {
    let answer = send(s.port, "GET", "/version", "").await?;
    s.note(answer.status.clone());
    let answer: Value = serde_json::from_str(&answer.body().await?)?;
    s.note(format!(
        "{} {}",
        answer["etcdserver"].is_string(),
        answer["etcdcluster"].is_string()
    ));
    Ok(())
}

async fn health(s: &mut Session) -> Result<()> {
    exchange(s, "GET", "/health", "").await?;
    exchange(s, "GET", "/health?serializable=true", "")
        .await
        .map(drop)
}

async fn health_excludes(s: &mut Session) -> Result<()> {
    exchange(s, "GET", "/health?exclude=NOSPACE&exclude=", "")
        .await
        .map(drop)
}

async fn livez_and_readyz(s: &mut Session) -> Result<()> {
    for path in [
        "/livez",
        "/readyz",
        "/livez/serializable_read",
        "/readyz/nonsense",
    ] {
        exchange(s, "GET", path, "").await?;
    }
    Ok(())
}

async fn wrong_methods(s: &mut Session) -> Result<()> {
    exchange(s, "POST", "/health", "").await?;
    exchange(s, "POST", "/version", "").await?;
    exchange(s, "GET", "/v3/kv/range", "").await?;
    exchange(s, "PUT", "/v3/kv/put", "{}").await.map(drop)
}

/// Series whose meaning is the same must be there under etcd's name.
async fn metrics(s: &mut Session) -> Result<()> {
    const NAMES: &[&str] = &[
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total ",
        "etcd_server_proposals_committed_total ",
        "etcd_server_proposals_applied_total ",
        "etcd_server_proposals_pending ",
        "etcd_server_proposals_failed_total ",
        "etcd_server_health_success ",
        "etcd_server_id{server_id=",
        "etcd_server_version{server_version=",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=",
        "etcd_disk_wal_fsync_duration_seconds_count ",
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "etcd_debugging_mvcc_watcher_total ",
        "etcd_debugging_mvcc_slow_watcher_total ",
        "etcd_debugging_mvcc_events_total ",
        "etcd_debugging_mvcc_current_revision ",
        "etcd_debugging_mvcc_compact_revision ",
        "etcd_network_client_grpc_received_bytes_total ",
        "etcd_network_client_grpc_sent_bytes_total ",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
        "process_start_time_seconds ",
    ];
    let answer = send(s.port, "GET", "/metrics", "").await?;
    s.note(answer.status.clone());
    let text = answer.body().await?;
    for name in NAMES {
        s.note(format!(
            "{name}: {}",
            text.lines().any(|line| line.starts_with(name))
        ));
    }
    Ok(())
}

async fn put_and_range(s: &mut Session) -> Result<()> {
    let (key, value) = ("Z3cvYQ==", "dmFsdWU=");
    post(s, "/v3/kv/put", json!({"key": key, "value": value})).await?;
    post(
        s,
        "/v3/kv/put",
        json!({"key": key, "value": value, "prev_kv": true}),
    )
    .await?;
    post(s, "/v3/kv/range", json!({"key": key})).await?;
    post(
        s,
        "/v3/kv/range",
        json!({"key": "Z3cv", "range_end": "Z3cw", "limit": 1}),
    )
    .await?;
    post(
        s,
        "/v3/kv/range",
        json!({"key": "Z3cv", "range_end": "Z3cw", "limit": "1", "count_only": true}),
    )
    .await?;
    post(s, "/v3/kv/range", json!({"key": "bm9uZQ=="}))
        .await
        .map(drop)
}

async fn names_of_fields(s: &mut Session) -> Result<()> {
    post(
        s,
        "/v3/kv/range",
        json!({"key": "Z3cv", "rangeEnd": "Z3cw", "countOnly": true}),
    )
    .await?;
    post(s, "/v3/kv/range", json!({"key": null, "range_end": "Z3cw"}))
        .await
        .map(drop)
}

async fn enums(s: &mut Session) -> Result<()> {
    for order in [json!("DESCEND"), json!(2), json!("NONE")] {
        post(
            s,
            "/v3/kv/range",
            json!({"key": "Z3cv", "range_end": "Z3cw", "sort_order": order, "sort_target": "MOD"}),
        )
        .await?;
    }
    let answer = send(
        s.port,
        "POST",
        "/v3/kv/range",
        r#"{"key": "Z3cv", "sort_order": "SIDEWAYS"}"#,
    )
    .await?;
    s.note(answer.status);
    Ok(())
}

async fn unknown_fields(s: &mut Session) -> Result<()> {
    post(s, "/v3/kv/range", json!({"key": "Z3cvYQ==", "nonsense": 1}))
        .await
        .map(drop)
}

async fn bad_json(s: &mut Session) -> Result<()> {
    for body in [
        "{",
        "[]",
        r#"{"key": 5}"#,
        r#"{"key": "%%%"}"#,
        r#"{"key": "YQ==", "limit": "x"}"#,
    ] {
        let answer = send(s.port, "POST", "/v3/kv/range", body).await?;
        let status = answer.status.clone();
        let answer: Value = serde_json::from_str(&answer.body().await?)?;
        // The words are those of Go's JSON decoder.
        s.note(format!(
            "{body}: {status} code {}, error is message {}",
            answer["code"],
            answer["error"] == answer["message"]
        ));
    }
    Ok(())
}

async fn empty_body(s: &mut Session) -> Result<()> {
    exchange(s, "POST", "/v3/kv/range", "").await?;
    exchange(s, "POST", "/v3/cluster/member/list", "").await?;
    exchange(s, "POST", "/v3/kv/range", "{}").await.map(drop)
}

async fn delete_range(s: &mut Session) -> Result<()> {
    post(s, "/v3/kv/put", json!({"key": "Z2QvYQ==", "value": "MQ=="})).await?;
    post(
        s,
        "/v3/kv/deleterange",
        json!({"key": "Z2Qv", "range_end": "Z2Qw", "prev_kv": true}),
    )
    .await?;
    post(
        s,
        "/v3/kv/deleterange",
        json!({"key": "Z2Qv", "range_end": "Z2Qw"}),
    )
    .await
    .map(drop)
}

async fn txn(s: &mut Session) -> Result<()> {
    let request = json!({
        "compare": [{"key": "Z3Q=", "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
        "success": [{"request_put": {"key": "Z3Q=", "value": "MQ=="}}],
        "failure": [{"request_range": {"key": "Z3Q="}}, {"request_delete_range": {"key": "Z3Q="}}],
    });
    for _ in 0..3 {
        post(s, "/v3/kv/txn", request.clone()).await?;
    }
    let nested = json!({"success": [{"request_txn": request}]});
    post(s, "/v3/kv/txn", nested).await?;
    post(s, "/v3/kv/txn", json!({"success": [{}]}))
        .await
        .map(drop)
}

/// The calls of Patroni: a leader key with a lease, taken over by a comparison.
async fn patroni(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": 30, "ID": "77001"})).await?;
    let leader = "L3NlcnZpY2UvbGVhZGVy";
    let put = json!({"request_put": {"key": leader, "value": "bm9kZTE=", "lease": "77001"}});
    let create = json!({"key": leader, "target": "CREATE", "create_revision": "0"});
    let request = json!({"compare": [create], "success": [put]});
    post(s, "/v3/kv/txn", request.clone()).await?;
    post(s, "/v3/kv/txn", request).await?;
    let owned = json!({"key": leader, "target": "VALUE", "value": "bm9kZTE="});
    let inner = json!({"compare": [owned.clone()], "success": [put], "failure": []});
    let absent = json!({"key": leader, "target": "CREATE", "create_revision": "0"});
    let request =
        json!({"compare": [absent], "success": [put], "failure": [{"request_txn": inner}]});
    post(s, "/v3/kv/txn", request).await?;
    post(
        s,
        "/v3/kv/range",
        json!({"key": leader, "serializable": false}),
    )
    .await?;
    post(s, "/v3/lease/keepalive", json!({"ID": "77001"})).await?;
    post(
        s,
        "/v3/kv/put",
        json!({"key": leader, "value": "eA==", "lease": "77002"}),
    )
    .await?;
    let request =
        json!({"compare": [owned], "success": [{"request_delete_range": {"key": leader}}]});
    post(s, "/v3/kv/txn", request).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "77001"}))
        .await
        .map(drop)
}

async fn compaction_errors(s: &mut Session) -> Result<()> {
    post(s, "/v3/kv/compaction", json!({"revision": "999999999"})).await?;
    post(
        s,
        "/v3/kv/range",
        json!({"key": "YQ==", "revision": "999999999"}),
    )
    .await
    .map(drop)
}

async fn leases(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78001"})).await?;
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78001"})).await?;
    post(s, "/v3/lease/leases", json!({})).await?;
    post(s, "/v3/lease/timetolive", json!({"ID": "99", "keys": true})).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78001"})).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78001"}))
        .await
        .map(drop)
}

async fn lease_aliases(s: &mut Session) -> Result<()> {
    post(s, "/v3/kv/lease/timetolive", json!({"ID": "99"})).await?;
    post(s, "/v3/kv/lease/leases", json!({})).await?;
    post(s, "/v3/kv/lease/revoke", json!({"ID": "99"}))
        .await
        .map(drop)
}

async fn keep_alive(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78101"})).await?;
    post(s, "/v3/lease/keepalive", json!({"ID": "78101"})).await?;
    post(s, "/v3/lease/keepalive", json!({"ID": "99"})).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78101"}))
        .await
        .map(drop)
}

/// The results of a watch, one JSON text a line; a write is made after each.
async fn lines(s: &mut Session, body: Value, count: usize, writes: &[Value]) -> Result<()> {
    let writes: Vec<_> = writes
        .iter()
        .map(|write| ("/v3/kv/put", write.clone()))
        .collect();
    stream(s, "/v3/watch", &body.to_string(), count, &writes).await
}

/// The results of a stream; another request is made after each.
pub async fn stream(
    s: &mut Session,
    path: &str,
    body: &str,
    count: usize,
    writes: &[(&str, Value)],
) -> Result<()> {
    let mut answer = send(s.port, "POST", path, body).await?;
    s.note(answer.status.clone());
    let mut text = String::new();
    let mut seen = 0;
    let mut writes = writes.iter();
    while seen < count {
        text += &answer.chunk().await?.context("the stream ended")?;
        while let Some((line, rest)) = text.split_once('\n') {
            let mut value: Value = serde_json::from_str(line)?;
            comparable(&mut value, s.base());
            s.note(value.to_string());
            text = rest.to_owned();
            seen += 1;
            if let Some((path, body)) = writes.next() {
                post(s, path, body.clone()).await?;
            }
        }
    }
    Ok(())
}

async fn watch(s: &mut Session) -> Result<()> {
    let body = json!({"create_request": {"key": "Z3cv", "range_end": "Z3cw", "prev_kv": true}});
    let put = |value: &str| json!({"key": "Z3cvdw==", "value": value});
    lines(s, body, 3, &[put("MQ=="), put("Mg==")]).await
}

async fn watch_compacted(s: &mut Session) -> Result<()> {
    let body = json!({"create_request": {"key": "YQ==", "start_revision": "-1"}});
    lines(s, body, 1, &[]).await
}

async fn watch_progress(s: &mut Session) -> Result<()> {
    let body = json!({"create_request": {"key": "YQ==", "progress_notify": true, "filters": ["NOPUT"], "watch_id": "12"}});
    lines(s, body, 1, &[]).await
}

async fn members(s: &mut Session) -> Result<()> {
    let answer = send(s.port, "POST", "/v3/cluster/member/list", "{}").await?;
    s.note(answer.status.clone());
    let answer: Value = serde_json::from_str(&answer.body().await?)?;
    let member = &answer["members"][0];
    s.note(format!(
        "{} {} {} {} {}",
        answer["header"]["cluster_id"].is_string(),
        member["ID"].is_string(),
        member["name"].is_string(),
        member["peerURLs"].is_array(),
        member["clientURLs"].is_array()
    ));
    s.settle().await?;
    post(s, "/v3/cluster/member/remove", json!({"ID": "123"})).await?;
    s.settle().await?;
    post(
        s,
        "/v3/cluster/member/update",
        json!({"ID": "123", "peerURLs": ["http://127.0.0.1:1"]}),
    )
    .await?;
    s.settle().await?;
    post(
        s,
        "/v3/cluster/member/add",
        json!({"peerURLs": ["nonsense"]}),
    )
    .await
    .map(drop)
}

async fn maintenance(s: &mut Session) -> Result<()> {
    post(s, "/v3/maintenance/alarm", json!({})).await?;
    post(
        s,
        "/v3/maintenance/alarm",
        json!({"action": "GET", "alarm": "NOSPACE"}),
    )
    .await?;
    post(s, "/v3/maintenance/defragment", json!({})).await?;
    post(
        s,
        "/v3/maintenance/transfer-leadership",
        json!({"targetID": "5"}),
    )
    .await?;
    for path in ["/v3/maintenance/status", "/v3/maintenance/hash"] {
        let answer = send(s.port, "POST", path, "{}").await?;
        s.note(answer.status.clone());
        let answer: Value = serde_json::from_str(&answer.body().await?)?;
        s.note(format!(
            "{} {}",
            answer["header"]["revision"].is_string(),
            answer["version"].is_string()
        ));
    }
    Ok(())
}

async fn auth(s: &mut Session) -> Result<()> {
    post(
        s,
        "/v3/auth/authenticate",
        json!({"name": "root", "password": "x"}),
    )
    .await?;
    post(s, "/v3/auth/user/list", json!({})).await?;
    post(s, "/v3/auth/status", json!({})).await.map(drop)
}

async fn unknown_path(s: &mut Session) -> Result<()> {
    exchange(s, "POST", "/v3/kv/nonsense", "{}").await?;
    exchange(s, "GET", "/nonsense", "").await.map(drop)
}

async fn old_prefix(s: &mut Session) -> Result<()> {
    post(s, "/v3beta/kv/range", json!({"key": "bm9uZQ=="}))
        .await
        .map(drop)
}

async fn errors(s: &mut Session) -> Result<()> {
    post(s, "/v3/kv/range", json!({"key": ""})).await?;
    post(s, "/v3/kv/put", json!({"key": "YQ==", "lease": "424242"})).await?;
    post(
        s,
        "/v3/kv/put",
        json!({"key": "YQ==", "value": "YQ==", "ignore_value": true}),
    )
    .await
    .map(drop)
}

async fn snapshot(s: &mut Session) -> Result<()> {
    let mut answer = send(s.port, "POST", "/v3/maintenance/snapshot", "{}").await?;
    s.note(answer.status.clone());
    let first = answer.chunk().await?.context("a part")?;
    s.note(format!(
        "{}",
        first.starts_with(r#"{"result":{"remaining_bytes":"#)
    ));
    Ok(())
}

async fn locks(s: &mut Session) -> Result<()> {
    post(s, "/v3/lease/grant", json!({"TTL": "500", "ID": "78301"})).await?;
    let held = post(
        s,
        "/v3/lock/lock",
        json!({"name": "Z2w=", "lease": "78301"}),
    )
    .await?;
    post(s, "/v3/lock/unlock", json!({"key": held["key"]})).await?;
    post(
        s,
        "/v3/election/campaign",
        json!({"name": "Z2U=", "lease": "78301", "value": "YQ=="}),
    )
    .await?;
    post(s, "/v3/election/leader", json!({"name": "Z2U="})).await?;
    post(s, "/v3/election/leader", json!({"name": "bm9uZQ=="})).await?;
    post(s, "/v3/lease/revoke", json!({"ID": "78301"}))
        .await
        .map(drop)
}
