//! Where clients' connections are served: on the store's own thread, or on threads beside it.
//!
//! Each connection stays on one thread, together with all its streams: what a request wakes runs next, on the same core. On
//! the store's own thread a write wakes no other, which is most of what a lone one costs beside the disk; with cores to
//! spare, clients have threads of their own, so that Raft and they work at the same time.

use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::serve::{Offer, Service, serve_one};

/// Cores up to which clients share the store's thread: the other is theirs, or the disk's.
const CORES_SHARED: usize = 2;
/// Threads for clients, however many cores there are: Raft's own thread is busy by then.
const MAX_THREADS: usize = 8;
/// Connections that may wait for their thread.
const QUEUED_CONNECTIONS: usize = 64;

/// A thread that serves clients.
pub(crate) struct Thread {
    pub connections: mpsc::Sender<std::net::TcpStream>,
    pub ended: oneshot::Receiver<()>,
}

/// Those of one listener.
pub(crate) fn start(service: &Arc<Service>) -> io::Result<Vec<Thread>> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    match own_threads(service.offer, cores) {
        0 => Ok(vec![Thread::of_store(service.clone())]),
        count => (0..count).map(|_| Thread::start(service.clone())).collect(),
    }
}

/// How many threads clients have for themselves.
fn own_threads(offer: Offer, cores: usize) -> usize {
    match offer {
        Offer::Everything if cores <= CORES_SHARED => 0,
        // One core is Raft's.
        Offer::Everything => (cores - 1).min(MAX_THREADS),
        Offer::Metrics => 1,
    }
}

impl Thread {
    fn of_store(service: Arc<Service>) -> Self {
        let (connections, receiver) = mpsc::channel(QUEUED_CONNECTIONS);
        let (done, ended) = oneshot::channel();
        service.front.store.runtime().spawn(async move {
            serve_all(service, receiver).await;
            // Whoever asked may have gone.
            let _ = done.send(());
        });
        Self { connections, ended }
    }

    fn start(service: Arc<Service>) -> io::Result<Self> {
        let (connections, receiver) = mpsc::channel(QUEUED_CONNECTIONS);
        let (done, ended) = oneshot::channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let body = move || {
            runtime.block_on(serve_all(service, receiver));
            // What is left in it holds the store, which nobody may hold once this has ended.
            drop(runtime);
            // Whoever asked may have gone.
            let _ = done.send(());
        };
        thread::Builder::new()
            .name("clients".to_owned())
            .spawn(body)?;
        Ok(Self { connections, ended })
    }
}

async fn serve_all(service: Arc<Service>, mut connections: mpsc::Receiver<std::net::TcpStream>) {
    let tasks = TaskTracker::new();
    while let Some(stream) = connections.recv().await {
        match TcpStream::from_std(stream) {
            Ok(stream) => drop(tasks.spawn(serve_one(stream, service.clone()))),
            Err(error) => tracing::debug!(%error, "a client went away at once"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_the_cores_that_raft_does_not_need() {
        let check = |offer, cores, expect| assert_eq!(own_threads(offer, cores), expect);
        check(Offer::Everything, 1, 0);
        check(Offer::Everything, 2, 0);
        check(Offer::Everything, 4, 3);
        check(Offer::Everything, 64, 8);
        check(Offer::Metrics, 2, 1);
    }
}
