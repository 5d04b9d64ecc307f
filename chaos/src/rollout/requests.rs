//! Clients of a Service: each on a host of its own, one request after the other over new connections, all of them counted.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, park_timeout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};
use parking_lot::Mutex;

/// A request that is not answered for so long is lost.
const LIMIT: Duration = Duration::from_secs(5);
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(20);
/// Until the Service answers for the first time.
const FIRST_LIMIT: Duration = Duration::from_secs(60);
/// Lost requests that are told of one by one.
const TOLD: usize = 5;

/// What became of the requests since the last look.
#[derive(Default)]
pub struct Tally {
    pub requests: usize,
    pub lost: usize,
    pub slowest: Duration,
    /// When the first ones were lost, whom they asked, and why.
    pub told: Vec<(Instant, SocketAddr, String)>,
}

/// Stopped when dropped.
pub struct Clients {
    stopping: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Clients {
    /// One for each host's network namespace, with the addresses that it asks in turn. Begins to count once all of them answer.
    pub fn start(hosts: Vec<(PathBuf, Vec<SocketAddr>)>) -> Result<Self> {
        let mut clients = Self {
            stopping: Arc::default(),
            tally: Arc::default(),
            threads: Vec::new(),
        };
        let (ready, all_ready) = std::sync::mpsc::channel();
        for (namespace, addresses) in hosts {
            let (stopping, tally) = (clients.stopping.clone(), clients.tally.clone());
            let ready = ready.clone();
            clients.threads.push(std::thread::spawn(move || {
                enter(&namespace)?;
                for address in &addresses {
                    await_answer(*address)?;
                }
                ready.send(()).context("somebody waits for all")?;
                drop(ready);
                for address in addresses.iter().cycle() {
                    if stopping.load(Ordering::Relaxed) {
                        break;
                    }
                    record(&tally, *address);
                    park_timeout(PAUSE);
                }
                Ok(())
            }));
        }
        drop(ready);
        if all_ready.iter().count() < clients.threads.len() {
            clients.stopping.store(true, Ordering::Relaxed);
            for thread in clients.threads.drain(..) {
                thread.join().ok().context("a client panicked")??;
            }
        }
        Ok(clients)
    }

    /// What was counted since the last look.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut self.tally.lock())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it had to say was counted.
            let _ = thread.join();
        }
    }
}

/// From now on this thread's sockets are those of that host.
fn enter(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| namespace.display().to_string())?;
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

fn await_answer(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + FIRST_LIMIT;
    while let Err(error) = request(address) {
        ensure!(Instant::now() < deadline, "{address}: {error:#}");
        park_timeout(PAUSE);
    }
    Ok(())
}

fn record(tally: &Mutex<Tally>, address: SocketAddr) {
    let asked = Instant::now();
    let answer = request(address);
    let mut tally = tally.lock();
    tally.requests += 1;
    tally.slowest = tally.slowest.max(asked.elapsed());
    if let Err(error) = answer {
        tally.lost += 1;
        if tally.told.len() < TOLD {
            tally.told.push((asked, address, format!("{error:#}")));
        }
    }
}

fn request(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).context("connecting")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let sent = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    sent.context("sending")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("reading")?;
    let said = String::from_utf8_lossy(&answer);
    let first = said.lines().next().unwrap_or_default();
    ensure!(first.contains(" 200 "), "the answer is {first:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_answered_well_is_lost() -> Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> Result<()> {
            for answer in ["HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.0 503 No\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept()?;
                let mut asked = [0; 18];
                stream.read_exact(&mut asked)?;
                stream.write_all(answer.as_bytes())?;
            }
            Ok(())
        });
        let tally = Mutex::default();
        // The last one finds nobody who listens.
        for lost in [0, 1, 2] {
            record(&tally, address);
            assert_eq!(tally.lock().lost, lost);
        }
        server.join().ok().context("the server panicked")??;
        record(&tally, address);
        let tally = tally.into_inner();
        assert_eq!((tally.requests, tally.lost, tally.told.len()), (4, 3, 3));
        Ok(())
    }
}
