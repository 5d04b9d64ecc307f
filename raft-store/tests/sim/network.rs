//! The network between simulated members: TCP as it may be. Bytes of one connection keep their order, but take their
//! time, are held up by partitions, and are lost when the connection breaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use raft_store::{PeerListener, PeerNetwork, PeerStream};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

pub const MILLI: u64 = 1_000_000;
/// Bytes that one direction of a connection holds.
const PIPE_BYTES: usize = 256 * 1024;

/// One direction of a connection.
struct Pipe {
    from: usize,
    to: usize,
    /// When each piece arrives.
    pieces: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Nothing arrives before what was sent before it.
    last: u64,
    /// When the end arrives.
    closed: Option<u64>,
    reset: bool,
    /// One end is gone without a word.
    dead: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    pub latency_micros: (u64, u64),
    /// One of so many writes breaks its connection.
    pub reset_ratio: u32,
}

impl Quality {
    pub const GOOD: Self = Self {
        latency_micros: (50, 2_000),
        reset_ratio: 20_000,
    };
}

struct Listening {
    host: usize,
    accept: mpsc::UnboundedSender<Box<dyn PeerStream>>,
}

pub struct State {
    /// Nanoseconds since the simulation began.
    pub now: u64,
    random: StdRng,
    pub quality: Quality,
    /// Directions in which nothing gets through.
    pub blocked: BTreeSet<(usize, usize)>,
    listening: BTreeMap<String, Listening>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    /// A host loses its power: its connections end without a word.
    pub silent: bool,
    /// Hosts that something has come to.
    poked: BTreeSet<usize>,
    /// A digest of all that arrived.
    pub trace: u64,
}

impl State {
    fn arrival(&mut self, id: u64) -> u64 {
        let (least, most) = self.quality.latency_micros;
        let micros = self.random.random_range(least..=most);
        let pipe = self.pipes.get_mut(&id).expect("a stream's pipes exist");
        pipe.last = pipe.last.max(self.now + micros * 1_000);
        pipe.last
    }

    fn pipe(&mut self, from: usize, to: usize) -> u64 {
        self.next_pipe += 1;
        let pipe = Pipe {
            from,
            to,
            pieces: VecDeque::new(),
            bytes: 0,
            last: self.now,
            closed: None,
            reset: false,
            dead: false,
            reader: None,
            writer: None,
        };
        self.pipes.insert(self.next_pipe, pipe);
        self.next_pipe
    }

    fn note(&mut self, what: &[u64]) {
        for word in what {
            self.trace = (self.trace.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

impl Pipe {
    fn break_now(&mut self, wakers: &mut Vec<Waker>, poked: &mut BTreeSet<usize>) {
        poked.extend([self.from, self.to]);
        self.reset = true;
        self.pieces.clear();
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}

/// The whole network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            random: StdRng::seed_from_u64(seed),
            quality: Quality::GOOD,
            blocked: BTreeSet::new(),
            listening: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            silent: false,
            poked: BTreeSet::new(),
            trace: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panicked with it")
    }

    pub fn now(&self) -> u64 {
        self.lock().now
    }

    pub fn note(&self, what: &[u64]) {
        self.lock().note(what);
    }

    /// Lets time pass; wakes whom something has arrived for.
    pub fn advance(&self, nanos: u64) {
        let mut state = self.lock();
        state.now += nanos;
        let State {
            now,
            blocked,
            pipes,
            poked,
            ..
        } = &mut *state;
        let mut wakers = Vec::new();
        for pipe in pipes.values_mut() {
            let arrived = pipe.pieces.front().map(|(at, _)| *at).or(pipe.closed);
            if arrived.is_some_and(|at| at <= *now) && !blocked.contains(&(pipe.from, pipe.to)) {
                wakers.extend(pipe.reader.take());
                poked.insert(pipe.to);
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Hosts that something has come to since the last time.
    pub fn take_poked(&self) -> BTreeSet<usize> {
        std::mem::take(&mut self.lock().poked)
    }

    /// Breaks connections of hosts for which `of` holds, as far as both ends hear of it.
    pub fn reset(&self, of: impl Fn(usize, usize) -> bool) {
        let mut state = self.lock();
        let State { pipes, poked, .. } = &mut *state;
        let mut wakers = Vec::new();
        for pipe in pipes.values_mut() {
            if of(pipe.from, pipe.to) {
                pipe.break_now(&mut wakers, poked);
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Cuts or mends directions at random moments' notice: what was held up arrives late, or its connection breaks.
    pub fn mend(&self, keep: bool) {
        let blocked = std::mem::take(&mut self.lock().blocked);
        if !keep {
            self.reset(|from, to| blocked.contains(&(from, to)) || blocked.contains(&(to, from)));
        }
    }

    pub fn of_host(&self, host: usize) -> Arc<dyn PeerNetwork> {
        Arc::new(HostNet {
            net: self.clone(),
            host,
        })
    }
}

/// The network as one host sees it.
struct HostNet {
    net: Net,
    host: usize,
}

#[async_trait::async_trait]
impl PeerNetwork for HostNet {
    async fn dial(&self, url: &str) -> io::Result<Box<dyn PeerStream>> {
        let micros = {
            let mut state = self.net.lock();
            let (least, most) = state.quality.latency_micros;
            state.random.random_range(least..=most) * 2
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
        let (stream, blocked) = {
            let mut state = self.net.lock();
            let Some(listening) = state.listening.get(url) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let (there, accept) = (listening.host, listening.accept.clone());
            let blocked = state.blocked.contains(&(self.host, there))
                || state.blocked.contains(&(there, self.host));
            if blocked {
                (None, true)
            } else {
                state.poked.insert(there);
                let (out, back) = (state.pipe(self.host, there), state.pipe(there, self.host));
                let end = |read, write| Stream {
                    net: self.net.clone(),
                    read,
                    write,
                };
                drop(state);
                let accepted = accept.send(Box::new(end(out, back)));
                accepted.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                (Some(end(back, out)), false)
            }
        };
        if blocked {
            // Nobody answers.
            std::future::pending::<()>().await;
        }
        Ok(Box::new(stream.expect("it is not blocked")))
    }

    async fn listen(&self, url: &str) -> io::Result<Box<dyn PeerListener>> {
        let (accept, accepted) = mpsc::unbounded_channel();
        let listening = Listening {
            host: self.host,
            accept,
        };
        self.net.lock().listening.insert(url.to_owned(), listening);
        Ok(Box::new(Listener {
            accepted,
            net: self.net.clone(),
            url: url.to_owned(),
        }))
    }
}

struct Listener {
    accepted: mpsc::UnboundedReceiver<Box<dyn PeerStream>>,
    net: Net,
    url: String,
}

#[async_trait::async_trait]
impl PeerListener for Listener {
    async fn accept(&mut self) -> io::Result<Box<dyn PeerStream>> {
        Ok(self.accepted.recv().await.expect("the network goes on"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.net.lock().listening.remove(&self.url);
    }
}

/// One end of a connection.
struct Stream {
    net: Net,
    read: u64,
    write: u64,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        let State {
            now,
            blocked,
            pipes,
            poked,
            ..
        } = &mut *state;
        let Some(pipe) = pipes.get_mut(&self.read) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if pipe.reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let passes = !blocked.contains(&(pipe.from, pipe.to));
        match pipe.pieces.front_mut() {
            Some((at, piece)) if *at <= *now && passes => {
                let len = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece.split_to(len));
                if piece.is_empty() {
                    pipe.pieces.pop_front();
                }
                pipe.bytes -= len;
                let writer = pipe.writer.take();
                if writer.is_some() {
                    poked.insert(pipe.from);
                }
                let what = [*now, self.read, len as u64];
                state.note(&what);
                drop(state);
                writer.into_iter().for_each(Waker::wake);
                Poll::Ready(Ok(()))
            }
            None if pipe.closed.is_some_and(|at| at <= *now) && passes => Poll::Ready(Ok(())),
            _ => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.net.lock();
        let ratio = state.quality.reset_ratio;
        let breaks = state.random.random_ratio(1, ratio);
        let mut wakers = Vec::new();
        if breaks {
            let State { pipes, poked, .. } = &mut *state;
            for id in [self.read, self.write] {
                if let Some(pipe) = pipes.get_mut(&id) {
                    pipe.break_now(&mut wakers, poked);
                }
            }
        }
        let at = match state.pipes.get(&self.write) {
            Some(pipe) if !pipe.reset => state.arrival(self.write),
            _ => {
                drop(state);
                wakers.into_iter().for_each(Waker::wake);
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
        };
        let pipe = state.pipes.get_mut(&self.write).expect("looked at above");
        if pipe.bytes >= PIPE_BYTES {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes += bytes.len();
        pipe.pieces.push_back((at, Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.net.lock();
        if state.pipes.contains_key(&self.write) {
            let at = state.arrival(self.write);
            let pipe = state.pipes.get_mut(&self.write).expect("looked at above");
            pipe.closed = Some(at);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.net.lock();
        let silent = state.silent;
        let mut wakers = Vec::new();
        if state.pipes.contains_key(&self.write) {
            let at = state.arrival(self.write);
            let pipe = state.pipes.get_mut(&self.write).expect("looked at above");
            // Whichever end goes last takes the pipe with it.
            if pipe.dead {
                state.pipes.remove(&self.write);
            } else if !silent {
                pipe.closed = Some(at);
            }
        }
        let State { pipes, poked, .. } = &mut *state;
        for id in [self.read, self.write] {
            let Some(pipe) = pipes.get_mut(&id) else {
                continue;
            };
            if pipe.dead {
                pipes.remove(&id);
                continue;
            }
            pipe.dead = true;
            if id == self.read && !silent {
                pipe.break_now(&mut wakers, poked);
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}
