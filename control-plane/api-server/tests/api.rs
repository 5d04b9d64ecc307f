//! The API server as its clients see it, over a store in memory: one test per promise.

#[path = "api/server.rs"]
mod server;

use api_client::Verb;
use api_machinery::Status;
use api_server::Store;
use serde_json::{Value, json};
use server::start;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": data}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>) -> (u16, String) {
    let status = outcome.expect_err("a refusal");
    (status.code, status.message)
}

#[tokio::test]
async fn a_write_is_seen_by_the_next_read_and_conflicts_are_told() {
    let server = start().await;
    let created = server.post(MAPS, &map("a", "1")).await.expect("create");
    let path = format!("{MAPS}/a");
    assert_eq!(server.get(&path).await.expect("get"), created);
    assert_eq!(
        refused(server.post(MAPS, &map("a", "2")).await),
        (409, "configmaps \"a\" already exists".into())
    );
    let mut changed = created.clone();
    changed["data"]["k"] = "2".into();
    let updated = server.put(&path, &changed).await.expect("update");
    assert_ne!(
        updated["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    changed["data"]["k"] = "3".into();
    let (code, message) = refused(server.put(&path, &changed).await);
    assert_eq!(code, 409);
    assert!(
        message.ends_with("please apply your changes to the latest version and try again"),
        "{message}"
    );
    // What changes nothing makes no new version.
    assert_eq!(server.put(&path, &updated).await.expect("no-op"), updated);
    assert_eq!(
        refused(server.get(&format!("{MAPS}/b")).await),
        (404, "configmaps \"b\" not found".into())
    );
    let dry = server
        .post(&format!("{MAPS}?dryRun=All"), &map("c", "1"))
        .await
        .expect("dry run");
    assert!(dry["metadata"]["uid"].is_string());
    assert_eq!(refused(server.get(&format!("{MAPS}/c")).await).0, 404);
}

#[tokio::test]
async fn patches_apply_to_the_newest_state() {
    let server = start().await;
    server.post(MAPS, &map("a", "1")).await.expect("create");
    let path = format!("{MAPS}/a");
    let patches = (0..20).map(|i| {
        let (server, path) = (&server, &path);
        async move {
            server
                .merge(path, &json!({"data": {format!("p{i}"): "x"}}))
                .await
                .expect("patch")
        }
    });
    futures::future::join_all(patches).await;
    let object = server.get(&path).await.expect("get");
    assert_eq!(object["data"].as_object().expect("data").len(), 21);
    let unknown = server
        .raw(Verb::Patch, &path, "text/plain", "{}".into())
        .await;
    assert_eq!(refused(unknown).0, 415);
}

#[tokio::test]
async fn pages_of_a_list_show_one_revision() {
    let server = start().await;
    for i in 0..7 {
        server
            .post(MAPS, &map(&format!("m{i}"), "1"))
            .await
            .expect("create");
    }
    let first = server.get(&format!("{MAPS}?limit=3")).await.expect("page");
    assert_eq!(first["items"].as_array().expect("items").len(), 3);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    server
        .delete(&format!("{MAPS}/m4"), &Value::Null)
        .await
        .expect("delete");
    server.post(MAPS, &map("m41", "1")).await.expect("create");
    let token = first["metadata"]["continue"]
        .as_str()
        .expect("token")
        .to_owned();
    let rest = server
        .get(&format!("{MAPS}?limit=10&continue={token}"))
        .await
        .expect("rest");
    let names: Vec<&str> = rest["items"]
        .as_array()
        .expect("items")
        .iter()
        .filter_map(|o| o["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["m3", "m4", "m5", "m6"]);
    assert_eq!(
        rest["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let exact = format!(
        "{MAPS}?resourceVersionMatch=Exact&resourceVersion={}",
        first["metadata"]["resourceVersion"]
            .as_str()
            .expect("version")
    );
    assert_eq!(
        server.get(&exact).await.expect("exact")["items"]
            .as_array()
            .expect("items")
            .len(),
        7
    );
    assert_eq!(
        refused(server.get(&format!("{MAPS}?resourceVersion=999999")).await).0,
        504
    );
    assert_eq!(
        refused(server.get(&format!("{MAPS}?fieldSelector=data%3Dx")).await).0,
        400
    );
    let one = server
        .get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm1"))
        .await
        .expect("by name");
    assert_eq!(one["items"].as_array().expect("items").len(), 1);
}

#[tokio::test]
async fn deleted_objects_wait_for_their_finalizers_and_pods_for_their_nodes() {
    let server = start().await;
    let mut held = map("a", "1");
    held["metadata"]["finalizers"] = json!(["example.com/f"]);
    server.post(MAPS, &held).await.expect("create");
    let path = format!("{MAPS}/a");
    let marked = server.delete(&path, &Value::Null).await.expect("delete");
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    server
        .merge(&path, &json!({"metadata": {"finalizers": null}}))
        .await
        .expect("release");
    assert_eq!(refused(server.get(&path).await).0, 404);

    let pods = "/api/v1/namespaces/default/pods";
    let created = server.post(pods, &pod("p")).await.expect("create");
    let wrong = json!({"preconditions": {"uid": "other"}});
    assert_eq!(
        refused(server.delete(&format!("{pods}/p"), &wrong).await).0,
        409
    );
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n1"}});
    server
        .post(&format!("{pods}/p/binding"), &binding)
        .await
        .expect("bind");
    assert_eq!(
        refused(server.post(&format!("{pods}/p/binding"), &binding).await).0,
        409
    );
    let bound = server.get(&format!("{pods}/p")).await.expect("get");
    assert_eq!(bound["spec"]["nodeName"], "n1");
    assert_eq!(bound["metadata"]["uid"], created["metadata"]["uid"]);
    let dying = server
        .delete(&format!("{pods}/p"), &json!({"gracePeriodSeconds": 20}))
        .await
        .expect("delete");
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 20);
    server
        .delete(&format!("{pods}/p"), &json!({"gracePeriodSeconds": 0}))
        .await
        .expect("force");
    assert_eq!(refused(server.get(&format!("{pods}/p")).await).0, 404);
}

#[tokio::test]
async fn services_get_addresses_and_ports_and_give_them_back() {
    let server = start().await;
    let path = "/api/v1/namespaces/default/services";
    let service = |name: &str, kind: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": kind, "ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    let created = server
        .post(path, &service("a", "NodePort"))
        .await
        .expect("create");
    let address = created["spec"]["clusterIP"]
        .as_str()
        .expect("address")
        .to_owned();
    let port = created["spec"]["ports"][0]["nodePort"]
        .as_u64()
        .expect("port");
    assert!(address.starts_with("10.43.") && (30000..=32767).contains(&port));
    let addresses = "/apis/networking.k8s.io/v1/ipaddresses";
    server
        .get(&format!("{addresses}/{address}"))
        .await
        .expect("allocated");
    let mut taken = service("b", "ClusterIP");
    taken["spec"]["clusterIP"] = address.as_str().into();
    assert!(
        refused(server.post(path, &taken).await)
            .1
            .contains("provided IP is already allocated")
    );
    let mut taken = service("b", "NodePort");
    taken["spec"]["ports"][0]["nodePort"] = port.into();
    assert!(
        refused(server.post(path, &taken).await)
            .1
            .contains("provided port is already allocated")
    );
    let kept = server
        .put(&format!("{path}/a"), &service("a", "NodePort"))
        .await
        .expect("update");
    assert_eq!(kept["spec"]["clusterIP"], address.as_str());
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], port);
    server
        .delete(&format!("{path}/a"), &Value::Null)
        .await
        .expect("delete");
    assert_eq!(
        refused(server.get(&format!("{addresses}/{address}")).await).0,
        404
    );
    server
        .post(path, &taken)
        .await
        .expect("the port is free again");
}

fn labelled(name: &str, value: &str) -> Value {
    let mut object = map(name, "1");
    object["metadata"]["labels"] = json!({"x": value});
    object
}

/// Type and object of the next line of a watch; lines of HTTP's chunks are passed over.
async fn next_event(reader: &mut BufReader<TcpStream>) -> (String, Value) {
    loop {
        let mut line = String::new();
        let read = reader.read_line(&mut line).await.expect("read");
        assert!(read > 0, "the watch ended");
        if let Ok(event @ Value::Object(_)) = serde_json::from_str::<Value>(&line) {
            let event_type = event["type"].as_str().expect("type").to_owned();
            return (event_type, event["object"].clone());
        }
    }
}

#[tokio::test]
async fn a_watch_follows_a_selection_and_ends_the_initial_events() {
    let server = start().await;
    server
        .post(MAPS, &labelled("a", "1"))
        .await
        .expect("create");
    let query = "watch=1&labelSelector=x%3D1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true";
    let (head, mut reader) = server
        .http(&format!("GET {MAPS}?{query} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let (kind, object) = next_event(&mut reader).await;
    assert_eq!(
        (kind.as_str(), object["metadata"]["name"].as_str()),
        ("ADDED", Some("a"))
    );
    let (kind, object) = next_event(&mut reader).await;
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    server
        .post(MAPS, &labelled("b", "2"))
        .await
        .expect("create");
    server
        .merge(
            &format!("{MAPS}/b"),
            &json!({"metadata": {"labels": {"x": "1"}}}),
        )
        .await
        .expect("patch");
    assert_eq!(next_event(&mut reader).await.0, "ADDED");
    server
        .merge(&format!("{MAPS}/b"), &json!({"data": {"k": "2"}}))
        .await
        .expect("patch");
    assert_eq!(next_event(&mut reader).await.0, "MODIFIED");
    let left = server
        .merge(
            &format!("{MAPS}/b"),
            &json!({"metadata": {"labels": {"x": "2"}}}),
        )
        .await
        .expect("patch");
    let (kind, object) = next_event(&mut reader).await;
    assert_eq!(kind, "DELETED");
    assert_eq!(
        object["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    assert_eq!(
        object["metadata"]["labels"]["x"], "1",
        "the last state that matched is shown"
    );
}

#[tokio::test]
async fn bad_input_gets_kubernetes_own_answers() {
    let server = start().await;
    let cases: [(&str, &str, u16); 5] = [
        ("{", "application/json", 400),
        ("{}", "text/plain", 415),
        (
            r#"{"apiVersion":"v1","kind":"Pod"}"#,
            "application/json",
            400,
        ),
        (
            r#"{"metadata":{"name":"Bad_Name"}}"#,
            "application/json",
            422,
        ),
        (r#"{"metadata":{"name":1}}"#, "application/json", 400),
    ];
    for (body, content_type, code) in cases {
        let outcome = server
            .raw(Verb::Post, MAPS, content_type, body.into())
            .await;
        assert_eq!(refused(outcome).0, code, "{body}");
    }
    let strict = server
        .post(
            &format!("{MAPS}?fieldValidation=Strict"),
            &json!({"metadata": {"name": "a"}, "dta": {}}),
        )
        .await;
    assert!(
        refused(strict)
            .1
            .contains("strict decoding error: unknown field \"dta\"")
    );
    let large = map("a", &"x".repeat(4 << 20)).to_string();
    let outcome = server
        .raw(Verb::Post, MAPS, "application/json", large)
        .await;
    assert_eq!(
        refused(outcome),
        (413, "Request entity too large: limit is 3145728".into())
    );
    let (head, mut reader) = server
        .http(&format!(
            "GET {MAPS}/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let mut body = String::new();
    reader.read_to_string(&mut body).await.expect("body");
    assert_eq!(
        serde_json::from_str::<Value>(&body).expect("Status")["reason"],
        "NotFound"
    );
}

#[tokio::test]
async fn the_cache_remembers_what_the_store_has_compacted() {
    let server = start().await;
    let created = server.post(MAPS, &map("a", "1")).await.expect("create");
    server
        .merge(&format!("{MAPS}/a"), &json!({"data": {"k": "2"}}))
        .await
        .expect("patch");
    let version: u64 = created["metadata"]["resourceVersion"]
        .as_str()
        .expect("version")
        .parse()
        .expect("number");
    let newest = server.store.read_index().await.expect("revision");
    server.store.compact(newest).await.expect("compact");
    // The cache still knows what the store has forgotten.
    let old = server
        .get(&format!(
            "{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact"
        ))
        .await
        .expect("list");
    let item = old["items"]
        .as_array()
        .expect("items")
        .iter()
        .find(|o| o["metadata"]["name"] == "a");
    assert_eq!(item.expect("a")["data"]["k"], "1");
}

#[tokio::test]
async fn applies_respect_other_owners() {
    let server = start().await;
    let config = |text: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": text}}).to_string()
    };
    let apply = "application/apply-patch+yaml";
    let path = |manager: &str, more: &str| format!("{MAPS}/a?fieldManager={manager}{more}");
    let unnamed = server
        .raw(Verb::Patch, &format!("{MAPS}/a"), apply, config("1"))
        .await;
    assert_eq!(refused(unnamed).0, 422);
    let created = server
        .raw(Verb::Patch, &path("one", ""), apply, config("1"))
        .await
        .expect("apply");
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "one");
    let again = server
        .raw(Verb::Patch, &path("one", ""), apply, config("1"))
        .await
        .expect("apply");
    assert_eq!(again, created, "the same configuration changes nothing");
    let (code, message) = refused(
        server
            .raw(Verb::Patch, &path("two", ""), apply, config("2"))
            .await,
    );
    assert_eq!(
        (code, message.as_str()),
        (
            409,
            "Apply failed with 1 conflict: conflict with \"one\": .data.k"
        )
    );
    let forced = server
        .raw(Verb::Patch, &path("two", "&force=true"), apply, config("2"))
        .await
        .expect("apply");
    assert_eq!(forced["data"]["k"], "2");
    let merged = server
        .merge(&path("three", ""), &json!({"data": {"k": "3"}}))
        .await
        .expect("patch");
    let managers: Vec<&str> = merged["metadata"]["managedFields"]
        .as_array()
        .expect("managers")
        .iter()
        .filter_map(|m| m["manager"].as_str())
        .collect();
    assert!(managers.contains(&"three"), "{managers:?}");
}
