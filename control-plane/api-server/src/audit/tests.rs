//! The log of a whole API server: what stands in the file after requests of several kinds.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::answer::Answer;
use crate::identity::Decision;
use api_machinery::Status;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

fn auditor(directory: &Path, rules: &str) -> Auditor {
    let policy = directory.join("policy.yaml");
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n");
    std::fs::write(&policy, text).expect("write");
    let config = AuditConfig {
        policy_file: Some(policy),
        path: directory.join("audit.log"),
        max_size_megabytes: 10,
        max_age_days: 0,
        max_backups: 1,
    };
    Auditor::start(&config, AuditCounters::default()).expect("starts")
}

async fn lines(auditor: &Auditor, directory: &Path) -> Vec<Value> {
    auditor.flush().await;
    let text = std::fs::read_to_string(directory.join("audit.log")).expect("log");
    let parse = |line: &str| serde_json::from_str(line).expect("JSON");
    text.lines().map(parse).collect()
}

fn begin(auditor: &Auditor, method: Method, path: &str) -> Option<Box<Record>> {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", "kubectl/v1".parse().expect("header"));
    headers.insert("x-forwarded-for", "192.0.2.9".parse().expect("header"));
    let received = Received {
        path,
        query: "dryRun=All",
        headers: &headers,
        remote: Some([127, 0, 0, 1].into()),
        in_process: false,
    };
    let user = UserInfo {
        name: "alice".into(),
        groups: vec!["staff".into()],
        ..UserInfo::default()
    };
    let info = RequestInfo::parse(&method, path, "");
    auditor.begin(Some(&user), &info, &received)
}

const CREATED: &str = r#"{"kind":"ConfigMap","metadata":{"resourceVersion":"7","name":"m","uid":"u","managedFields":[{}]},"data":{"a":"b"}}"#;

fn create(auditor: &Auditor) {
    let mut record =
        begin(auditor, Method::POST, "/api/v1/namespaces/ns/configmaps").expect("wanted");
    record.decided(&Decision::allow("because"));
    let body = Bytes::from("{\"metadata\":{\"name\":\"m\",\"managedFields\":[{}]}}");
    record.asked_with(&body, |body| serde_json::from_slice(body).ok());
    let mut outcome = Ok(Answer::json(StatusCode::CREATED, CREATED));
    record.conclude(&mut outcome, false);
    let Ok(answer) = outcome else {
        panic!("the outcome is kept");
    };
    assert!(matches!(answer.body, crate::body::AnswerBody::Bytes(bytes) if bytes == CREATED));
}

#[tokio::test]
async fn events_have_upstreams_shape() {
    let directory = tempfile::tempdir().expect("directory");
    let auditor = auditor(
        directory.path(),
        "[{level: Metadata, omitStages: [RequestReceived]}]",
    );
    create(&auditor);
    let mut lines = lines(&auditor, directory.path()).await;
    assert_eq!(lines.len(), 1);
    let event = lines[0].as_object_mut().expect("event");
    for time in ["requestReceivedTimestamp", "stageTimestamp", "auditID"] {
        let text = event.shift_remove(time).expect(time);
        assert!(text.as_str().expect("text").len() >= 27, "{text}");
    }
    let expect = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/ns/configmaps?dryRun=All", "verb": "create",
        "user": {"username": "alice", "groups": ["staff"]},
        "sourceIPs": ["192.0.2.9", "127.0.0.1"], "userAgent": "kubectl/v1",
        "objectRef": {"resource": "configmaps", "namespace": "ns", "name": "m", "uid": "u", "apiVersion": "v1",
            "resourceVersion": "7"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "because"},
    });
    assert_eq!(lines[0], expect);
}

#[tokio::test]
async fn levels_and_stages_are_the_policys() {
    let directory = tempfile::tempdir().expect("directory");
    let auditor = auditor(
        directory.path(),
        "[{level: None, verbs: [get]}, {level: RequestResponse, omitManagedFields: true}]",
    );
    assert!(begin(&auditor, Method::GET, "/api/v1/pods/a").is_none());
    create(&auditor);
    let record = begin(
        &auditor,
        Method::DELETE,
        "/api/v1/namespaces/ns/configmaps/m",
    );
    let mut refused = Err(Status::not_found("", "configmaps", "m"));
    record.expect("wanted").conclude(&mut refused, false);
    drop(begin(&auditor, Method::PUT, "/api/v1/nodes/n"));
    let lines = lines(&auditor, directory.path()).await;
    let stages: Vec<&str> = lines
        .iter()
        .map(|l| l["stage"].as_str().expect("stage"))
        .collect();
    assert_eq!(stages, ["RequestReceived", "ResponseComplete"].repeat(3));
    assert_eq!(lines[0]["auditID"], lines[1]["auditID"]);
    assert_eq!(
        lines[1]["requestObject"],
        serde_json::json!({"metadata": {"name": "m"}})
    );
    assert_eq!(lines[1]["responseObject"]["data"]["a"], "b");
    assert!(
        lines[1]["responseObject"]["metadata"]
            .get("managedFields")
            .is_none()
    );
    assert_eq!(lines[3]["responseStatus"]["reason"], "NotFound");
    assert_eq!(lines[3]["responseStatus"]["code"], 404);
    assert_eq!(lines[3]["responseObject"]["kind"], "Status");
    assert_eq!(
        lines[5]["responseStatus"]["message"],
        "Connection closed early"
    );
}

#[tokio::test]
async fn a_streams_record_ends_with_it() {
    let directory = tempfile::tempdir().expect("directory");
    let auditor = auditor(directory.path(), "[{level: Metadata}]");
    let record = begin(&auditor, Method::GET, "/api/v1/watch/pods").expect("wanted");
    let stream = futures::stream::iter([Ok(Bytes::from("x"))]);
    let body = crate::body::AnswerBody::Stream(Box::pin(stream));
    let mut outcome = Ok(Answer::new(StatusCode::OK, crate::answer::JSON, body));
    record.conclude(&mut outcome, true);
    assert_eq!(lines(&auditor, directory.path()).await.len(), 2);
    drop(outcome);
    let lines = lines(&auditor, directory.path()).await;
    assert_eq!(lines[1]["stage"], "ResponseStarted");
    assert_eq!(lines[2]["stage"], "ResponseComplete");
    assert_eq!(lines[2]["responseStatus"]["code"], 200);
}

#[test]
fn a_policy_that_is_not_there_is_an_error() {
    let config = AuditConfig {
        policy_file: Some("/nowhere/policy.yaml".into()),
        path: "-".into(),
        max_size_megabytes: 1,
        max_age_days: 0,
        max_backups: 0,
    };
    let error = Auditor::start(&config, AuditCounters::default())
        .err()
        .expect("refused");
    assert!(
        error
            .to_string()
            .starts_with("the audit policy /nowhere/policy.yaml"),
        "{error}"
    );
}
