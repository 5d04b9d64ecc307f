//! No call of the Auth service is carried out, whichever way it comes.

use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use tonic::{Code, Status};

use crate::auth::REFUSAL;
use crate::dispatch::Dispatch;
use crate::front::Options;
use crate::methods::METHODS;
use crate::serve::Offer;
use crate::testing::front;

/// etcd's paths of the gateway for the service's calls.
const PATHS: [&str; 17] = [
    "enable",
    "disable",
    "status",
    "authenticate",
    "user/add",
    "user/get",
    "user/list",
    "user/delete",
    "user/changepw",
    "user/grant",
    "user/revoke",
    "role/add",
    "role/get",
    "role/list",
    "role/delete",
    "role/grant",
    "role/revoke",
];

fn request(path: &str, content_type: &str, body: &'static [u8]) -> Request<Body> {
    Request::post(path)
        .header("content-type", content_type)
        .body(Body::from(Bytes::from_static(body)))
        .unwrap()
}

#[tokio::test]
async fn every_call_is_unimplemented_and_says_what_to_do() {
    let (front, _dir) = front(Options::default()).await;
    let dispatch = Dispatch::new(&front, Offer::Everything);
    let calls = METHODS.iter();
    let calls = calls.filter(|method| method.service == "etcdserverpb.Auth");
    let calls: Vec<_> = calls.map(|method| method.name).collect();
    assert_eq!(calls.len(), PATHS.len());
    for name in calls {
        let path = format!("/etcdserverpb.Auth/{name}");
        // A message without fields.
        let answer = dispatch.call(request(&path, "application/grpc", &[0; 5]));
        let answer = answer.await;
        let status = Status::from_header_map(answer.headers()).expect(name);
        let said = (status.code(), status.message());
        assert_eq!(said, (Code::Unimplemented, REFUSAL), "{name}");
    }
    assert!(REFUSAL.contains("--client-cert-auth"));
    drop(dispatch);
    front.store.shutdown().await;
}

#[tokio::test]
async fn so_is_every_path_of_the_gateway() {
    let (front, _dir) = front(Options::default()).await;
    let dispatch = Dispatch::new(&front, Offer::Everything);
    for path in PATHS {
        let request = request(&format!("/v3/auth/{path}"), "application/json", b"{}");
        let answer = dispatch.call(request).await;
        assert_eq!(answer.status(), StatusCode::NOT_IMPLEMENTED, "{path}");
        let body = answer.into_body().collect().await.expect(path);
        let body: serde_json::Value = serde_json::from_slice(&body.to_bytes()).unwrap();
        let said = (&body["code"], &body["message"]);
        assert_eq!(said, (&12.into(), &REFUSAL.into()), "{path}");
    }
    drop(dispatch);
    front.store.shutdown().await;
}
