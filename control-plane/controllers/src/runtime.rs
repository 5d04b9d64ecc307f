//! Starts every row of the table and stops them all: the one place where controllers meet queues and tasks.
//!
//! It knows no controller's rules. A panic in one reconciliation is contained: the key is tried again later.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use api_client::{Backend, Client, EventRecorder, Informers, ObjectKey, User};
use bytes::Bytes;
use futures::FutureExt;
use k8s_openapi::jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, Controller, Queue};
use crate::options::Options;
use crate::table::{ROWS, Row};

/// Runs all controllers until `shutdown` is cancelled, and returns when every one of them has stopped.
///
/// Meant to be called anew for each term of leadership, with informers of that term: `fence` goes with every write, so
/// that the store refuses what is still under way when the term has ended.
pub async fn run_all(
    backend: Arc<dyn Backend>,
    informers: Informers,
    options: Options,
    fence: Option<Bytes>,
    shutdown: CancellationToken,
) {
    let options = Arc::new(options);
    let tasks = TaskTracker::new();
    let mut started = Vec::with_capacity(ROWS.len());
    for row in ROWS {
        let client =
            Client::new(backend.clone(), User::controller(row.identity)).fenced(fence.clone());
        let context = Context {
            recorder: EventRecorder::start(client.clone(), row.identity),
            client,
            informers: informers.clone(),
            clock: Arc::new(Timestamp::now),
            options: options.clone(),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        };
        let queue = Queue::new();
        let controller = (row.start)(&context, &queue);
        started.push((row, queue, controller));
    }
    tokio::select! {
        () = informers.wait_synced() => {}
        () = shutdown.cancelled() => {}
    }
    for (row, queue, controller) in &started {
        for _ in 0..row.workers {
            tasks.spawn(work(
                row,
                queue.clone(),
                controller.clone(),
                shutdown.clone(),
            ));
        }
    }
    tracing::info!(controllers = started.len(), "controllers started");
    shutdown.cancelled().await;
    started.iter().for_each(|(_, queue, _)| queue.close());
    tasks.close();
    tasks.wait().await;
    tracing::info!("controllers stopped");
}

async fn work(
    row: &'static Row,
    queue: Queue,
    controller: Arc<dyn Controller>,
    shutdown: CancellationToken,
) {
    while let Some(key) = queue.next().await {
        tokio::select! {
            () = reconcile(row, &queue, controller.as_ref(), &key) => {}
            // What is under way is dropped: the next term looks at every key again.
            () = shutdown.cancelled() => return,
        }
        queue.done(&key);
    }
}

async fn reconcile(row: &Row, queue: &Queue, controller: &dyn Controller, key: &ObjectKey) {
    match AssertUnwindSafe(controller.reconcile(key))
        .catch_unwind()
        .await
    {
        Ok(Ok(())) => queue.forget(key),
        Ok(Err(error)) => {
            if error.is_routine() {
                tracing::debug!(controller = row.name, %key, %error, "trying again");
            } else {
                tracing::warn!(controller = row.name, %key, %error, "reconciliation failed; trying again");
            }
            queue.retry(key.clone());
        }
        Err(_) => {
            tracing::error!(controller = row.name, %key, "reconciliation panicked; trying again");
            queue.retry(key.clone());
        }
    }
}
