//! Limits and timers of watch streams, with options that make them cheap to reach.

use std::time::Duration;

use futures::{Stream, StreamExt};
use tonic::Status;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;

use crate::front::Options;
use crate::splice::WatchAnswer;
use crate::testing::front;

const LIMIT: Duration = Duration::from_secs(60);

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

fn creates(count: usize) -> Vec<Result<pb::WatchRequest, Status>> {
    (0..count).map(|_| create(false)).collect()
}

/// A watcher's id, whether it was cancelled, and why.
type Said = (i64, bool, String);

fn made(id: i64) -> Said {
    (id, false, String::new())
}

fn refused(reason: &str) -> Said {
    (-1, true, reason.to_owned())
}

/// The next answers of a stream.
async fn said(
    answers: &mut (impl Stream<Item = Result<WatchAnswer, Status>> + Unpin),
    count: usize,
) -> Vec<Said> {
    let answers = answers.take(count).collect::<Vec<_>>();
    let answers = tokio::time::timeout(LIMIT, answers).await.unwrap();
    let said = answers.into_iter().map(|answer| {
        let answer = answer.unwrap().into_message();
        (answer.watch_id, answer.canceled, answer.cancel_reason)
    });
    said.collect()
}

#[tokio::test]
async fn a_stream_has_only_so_many_watchers() {
    let options = Options {
        max_watchers_per_stream: 2,
        ..Options::default()
    };
    let (front, _dir) = front(options).await;
    let mut answers = Box::pin(front.watch_stream(requests(creates(3))));
    let refusal = refused("etcdserver: too many watchers on one stream");
    assert_eq!(said(&mut answers, 3).await, [made(0), made(1), refusal]);
    front.store.shutdown().await;
}

#[tokio::test]
async fn all_streams_together_have_only_so_many_watchers() {
    let options = Options {
        max_watchers: 3,
        ..Options::default()
    };
    let (front, _dir) = front(options).await;
    let mut first = Box::pin(front.watch_stream(requests(creates(2))));
    assert_eq!(said(&mut first, 2).await, [made(0), made(1)]);
    let mut second = Box::pin(front.watch_stream(requests(creates(2))));
    let refusal = refused("etcdserver: too many watchers on this member");
    assert_eq!(said(&mut second, 2).await, [made(0), refusal]);
    let page = crate::metrics_page::render(&front);
    for line in [
        "xebec_store_watchers_refused_total 1",
        "etcd_debugging_mvcc_watch_stream_total 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}: {page}");
    }
    // Those that end make room.
    drop(first);
    let room = front.watchers.acquire_many(2);
    drop(tokio::time::timeout(LIMIT, room).await.unwrap().unwrap());
    let mut third = Box::pin(front.watch_stream(requests(creates(1))));
    assert_eq!(said(&mut third, 1).await, [made(0)]);
    front.store.shutdown().await;
}

#[tokio::test]
async fn progress_of_a_stream_without_watchers_is_the_revision() {
    let (front, _dir) = front(Options::default()).await;
    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
    let progress = pb::WatchRequest {
        request_union: Some(progress),
    };
    let mut answers = Box::pin(front.watch_stream(requests(vec![Ok(progress)])));
    let told = tokio::time::timeout(LIMIT, answers.next()).await.unwrap();
    let told = told.unwrap().unwrap().into_message();
    assert_eq!(
        (told.watch_id, told.created, told.canceled),
        (-1, false, false)
    );
    assert_eq!(told.header.unwrap().revision, front.store.revision());
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
