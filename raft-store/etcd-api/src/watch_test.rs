//! Limits and timers of watch streams, with options that make them cheap to reach.

use std::time::Duration;

use futures::{Stream, StreamExt};
use raft_store::{Config, Store};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;

use crate::front::{Front, Options};

const LIMIT: Duration = Duration::from_secs(60);

async fn front(options: Options) -> (Front, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    (Front::new(store, options, CancellationToken::new()), dir)
}

fn create(progress_notify: bool) -> Result<pb::WatchRequest, Status> {
    let request = pb::WatchCreateRequest {
        key: "k".into(),
        progress_notify,
        ..Default::default()
    };
    Ok(pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    })
}

/// Requests that are made now, on a stream that stays open.
fn requests(
    made: Vec<Result<pb::WatchRequest, Status>>,
) -> impl Stream<Item = Result<pb::WatchRequest, Status>> + Send + Unpin + 'static {
    futures::stream::iter(made).chain(futures::stream::pending())
}

#[tokio::test]
async fn a_stream_has_only_so_many_watchers() {
    let options = Options {
        max_watchers_per_stream: 2,
        ..Options::default()
    };
    let (front, _dir) = front(options).await;
    let made = (0..3).map(|_| create(false)).collect();
    let answers = front.watch_stream(requests(made)).take(3);
    let answers = tokio::time::timeout(LIMIT, answers.collect::<Vec<_>>()).await;
    let said: Vec<_> = answers
        .unwrap()
        .into_iter()
        .map(|answer| {
            let answer = answer.unwrap().into_message();
            (answer.watch_id, answer.canceled, answer.cancel_reason)
        })
        .collect();
    let refusal = "etcdserver: too many watchers on one stream".to_owned();
    let made = |id| (id, false, String::new());
    assert_eq!(said, [made(0), made(1), (-1, true, refusal)]);
    front.store.shutdown().await;
}

#[tokio::test]
async fn idle_watchers_that_asked_are_told_the_revision() {
    let options = Options {
        watch_progress_notify_interval: Duration::ZERO,
        ..Options::default()
    };
    let (front, _dir) = front(options).await;
    let made = vec![create(false), create(true)];
    let mut answers = Box::pin(front.watch_stream(requests(made)).skip(2));
    for _ in 0..2 {
        let told = tokio::time::timeout(LIMIT, answers.next()).await.unwrap();
        let told = told.unwrap().unwrap().into_message();
        let revision = told.header.unwrap().revision;
        assert_eq!((told.watch_id, told.events.len(), revision), (1, 0, 1));
    }
    front.store.shutdown().await;
}
