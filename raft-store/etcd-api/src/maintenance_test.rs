//! Snapshots that end too early, and what a member says of itself.

use bytes::Bytes;
use futures::StreamExt;
use raft_store::PutRequest;
use tonic::{Code, Request};
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::maintenance_server::Maintenance;

use crate::front::{Front, Options};
use crate::maintenance::complete;
use crate::testing::front;

async fn fill(front: &Front, megabytes: usize) {
    for number in 0..megabytes {
        let request = PutRequest {
            key: Bytes::from(format!("k{number}")),
            value: vec![number as u8; 1024 * 1024].into(),
            ..Default::default()
        };
        front.store.put(request).await.unwrap();
    }
}

async fn snapshot(front: &Front) -> <Front as Maintenance>::SnapshotStream {
    let request = Request::new(pb::SnapshotRequest {});
    Maintenance::snapshot(front, request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_a_stop_cuts_off_ends_with_an_error() {
    let (front, _dir) = front(Options::default()).await;
    fill(&front, 3).await;
    let whole: Vec<_> = snapshot(&front).await.collect().await;
    assert!(whole.iter().all(Result::is_ok));
    let mut parts = snapshot(&front).await;
    assert!(parts.next().await.unwrap().is_ok());
    front.shutdown.cancel();
    let rest: Vec<_> = parts.collect().await;
    assert_eq!(rest.len(), 1, "nothing more of it is sent");
    let error = rest[0].as_ref().unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
    front.store.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_that_lacks_bytes_ends_with_an_error() {
    let parts = || {
        let part = |bytes: usize| {
            Ok(pb::SnapshotResponse {
                blob: vec![0; bytes].into(),
                ..Default::default()
            })
        };
        futures::stream::iter([part(3), part(4)])
    };
    let whole: Vec<_> = complete(parts(), 7).collect().await;
    assert!(whole.len() == 2 && whole.iter().all(Result::is_ok));
    let cut: Vec<_> = complete(parts(), 8).collect().await;
    assert_eq!(cut.len(), 3);
    let error = cut[2].as_ref().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().contains("lacks its last 1 bytes"),
        "{error}"
    );
}

/// kube-apiserver reads consistently from its cache where progress requests are answered right: from 3.4.31 and 3.5.13 on.
#[tokio::test]
async fn the_version_turns_on_consistent_reads_from_cache() {
    let (front, _dir) = front(Options::default()).await;
    let request = Request::new(pb::StatusRequest {});
    let status = Maintenance::status(&front, request).await.unwrap();
    let version = status.into_inner().version;
    let numbers = version.split('.').map(|part| part.parse().unwrap());
    let numbers: Vec<u32> = numbers.collect();
    assert!(numbers.len() == 3 && numbers >= vec![3, 5, 13], "{version}");
    front.store.shutdown().await;
}
