//! The load's own HTTP/2: one connection, unary gRPC calls, and nothing else.
//!
//! Client and servers share the machine's cores. What the load costs is taken from the servers under test, and flatters
//! whoever costs much; so a call is some bytes behind others, and its answer is counted, not decoded. Field numbers and
//! flags are those of RFC 9113 and RFC 7541. Only plain HTTP, one thread.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use super::hpack::Headers;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const MESSAGE_HEADER: usize = 5;
/// What servers may send before they are told to go on: per stream it is never used up, per connection it is renewed.
const WINDOW: u32 = 16 << 20;
/// Sent without asking; also how large one frame may be.
const FIRST_WINDOW: i64 = 65_535;
const FRAME_BYTES: usize = 16_384;
const READ_BYTES: usize = 256 * 1024;

/// Types of frames.
mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RESET: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GO_AWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// Flags of frames.
mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
}

/// One connection; clones share it.
#[derive(Clone)]
pub struct Wire(Rc<RefCell<State>>);

struct State {
    headers: Headers,
    next_stream: u32,
    calls: HashMap<u32, Call>,
    /// To be written.
    out: BytesMut,
    /// Requests that the server has no room for yet.
    held: VecDeque<Bytes>,
    /// Bytes of messages that the server takes before it renews the window.
    room: i64,
    /// Bytes of answers since the window was last renewed.
    taken: u32,
    /// Of the task that writes.
    writer: Option<Waker>,
    /// Why the connection has ended.
    ended: Option<String>,
}

#[derive(Default)]
struct Call {
    answer: BytesMut,
    done: Option<Result<(), &'static str>>,
    waker: Option<Waker>,
}

impl Wire {
    /// Connects to `HOST:PORT`. To be called within a local set.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut out = BytesMut::from(PREFACE);
        // Setting 4 is a stream's first window.
        frame(&mut out, kind::SETTINGS, 0, 0, 6);
        out.put_u16(4);
        out.put_u32(WINDOW);
        renew_window(&mut out, WINDOW);
        let state = Rc::new(RefCell::new(State {
            headers: Headers::new(address),
            next_stream: 1,
            calls: HashMap::new(),
            out,
            held: VecDeque::new(),
            room: FIRST_WINDOW,
            taken: 0,
            writer: None,
            ended: None,
        }));
        let served = state.clone();
        tokio::task::spawn_local(async move {
            let why = serve(stream, &served).await;
            served.borrow_mut().end(why);
        });
        Ok(Self(state))
    }

    /// Calls a unary method, e.g. `KV/Put`; the bytes of the answer's message.
    ///
    /// # Errors
    /// The server refused, or the connection broke. What the server said is not kept.
    pub async fn call(&self, method: &'static str, request: &impl Message) -> Result<Bytes> {
        let stream = self.0.borrow_mut().begin(method, request)?;
        let mut call = poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if let Some(why) = &state.ended {
                return Poll::Ready(Err(anyhow::anyhow!("the connection broke: {why}")));
            }
            let call = state.calls.get_mut(&stream).expect("it was begun");
            if call.done.is_none() {
                call.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(state.calls.remove(&stream).expect("it was there")))
        })
        .await?;
        if let Some(Err(why)) = call.done {
            bail!("{method}: {why}");
        }
        ensure!(
            call.answer.len() >= MESSAGE_HEADER,
            "{method}: the server refused"
        );
        let len = (&call.answer[1..MESSAGE_HEADER]).get_u32() as usize;
        ensure!(
            call.answer[0] == 0 && call.answer.len() == MESSAGE_HEADER + len,
            "{method}: not one plain message"
        );
        call.answer.advance(MESSAGE_HEADER);
        Ok(call.answer.freeze())
    }
}

fn frame(out: &mut BytesMut, kind: u8, flags: u8, stream: u32, len: usize) {
    out.put_uint(len as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

fn renew_window(out: &mut BytesMut, by: u32) {
    frame(out, kind::WINDOW_UPDATE, 0, 0, 4);
    out.put_u32(by);
}

impl State {
    fn begin(&mut self, method: &'static str, request: &impl Message) -> Result<u32> {
        let len = request.encoded_len();
        ensure!(
            len + MESSAGE_HEADER <= FRAME_BYTES,
            "a request of more than one frame"
        );
        let stream = self.next_stream;
        self.next_stream += 2;
        let block = self.headers.block(method);
        frame(
            &mut self.out,
            kind::HEADERS,
            flag::END_HEADERS,
            stream,
            block.len(),
        );
        self.out.extend_from_slice(&block);
        let before = self.out.len();
        frame(
            &mut self.out,
            kind::DATA,
            flag::END_STREAM,
            stream,
            MESSAGE_HEADER + len,
        );
        self.out.put_u8(0);
        self.out.put_u32(len as u32);
        request.encode(&mut self.out)?;
        self.calls.insert(stream, Call::default());
        if !self.held.is_empty() || self.room < (MESSAGE_HEADER + len) as i64 {
            self.held.push_back(self.out.split_off(before).freeze());
        } else {
            self.room -= (MESSAGE_HEADER + len) as i64;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Ok(stream)
    }

    fn send_held(&mut self) {
        while let Some(first) = self.held.front() {
            let len = (first.len() - FRAME_HEADER) as i64;
            if self.room < len {
                return;
            }
            self.room -= len;
            self.out.extend_from_slice(first);
            self.held.pop_front();
        }
    }

    fn end(&mut self, why: anyhow::Error) {
        self.ended = Some(format!("{why:#}"));
        let wakers = self.calls.values_mut().filter_map(|call| call.waker.take());
        wakers.for_each(Waker::wake);
    }

    fn finish(&mut self, stream: u32, how: Result<(), &'static str>) {
        if let Some(call) = self.calls.get_mut(&stream) {
            call.done = Some(how);
            if let Some(waker) = call.waker.take() {
                waker.wake();
            }
        }
    }

    /// Takes the frames that have arrived in whole.
    fn take_frames(&mut self, read: &mut BytesMut) -> Result<()> {
        while let Some(len) = read.first_chunk::<3>() {
            let len = u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize;
            if read.len() < FRAME_HEADER + len {
                break;
            }
            let (kind, flags) = (read[3], read[4]);
            let stream = (&read[5..FRAME_HEADER]).get_u32() & (u32::MAX >> 1);
            self.take_frame(kind, flags, stream, &read[FRAME_HEADER..FRAME_HEADER + len])?;
            read.advance(FRAME_HEADER + len);
        }
        if self.taken > WINDOW / 2 {
            renew_window(&mut self.out, std::mem::take(&mut self.taken));
        }
        Ok(())
    }

    fn take_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<()> {
        match kind {
            kind::DATA => {
                ensure!(flags & flag::PADDED == 0, "padding that nobody needs");
                self.taken += payload.len() as u32;
                if let Some(call) = self.calls.get_mut(&stream) {
                    call.answer.extend_from_slice(payload);
                }
            }
            kind::RESET => self.finish(stream, Err("the server reset the stream")),
            kind::SETTINGS if flags & flag::ACK == 0 => {
                frame(&mut self.out, kind::SETTINGS, flag::ACK, 0, 0);
            }
            kind::PING if flags & flag::ACK == 0 => {
                frame(&mut self.out, kind::PING, flag::ACK, 0, payload.len());
                self.out.extend_from_slice(payload);
            }
            kind::GO_AWAY => bail!("the server goes away"),
            kind::WINDOW_UPDATE if stream == 0 => {
                self.room += i64::from(
                    payload
                        .first_chunk()
                        .map_or(0, |by| u32::from_be_bytes(*by)),
                );
                self.send_held();
            }
            // Headers are not read: a call that was refused has no message. Streams' windows are never used up.
            _ => {}
        }
        if matches!(kind, kind::DATA | kind::HEADERS) && flags & flag::END_STREAM != 0 {
            self.finish(stream, Ok(()));
        }
        Ok(())
    }
}

/// Reads and writes until the connection breaks; why.
async fn serve(mut stream: TcpStream, state: &RefCell<State>) -> anyhow::Error {
    let mut read = BytesMut::with_capacity(READ_BYTES);
    let mut writing = BytesMut::new();
    let both = poll_fn(|cx| {
        if let Poll::Ready(ended) = poll_read(&mut stream, state, &mut read, cx) {
            return Poll::Ready(ended);
        }
        poll_write(&mut stream, state, &mut writing, cx)
    });
    match both.await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

type Ended = Result<std::convert::Infallible>;

fn poll_read(
    stream: &mut TcpStream,
    state: &RefCell<State>,
    read: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    loop {
        read.reserve(READ_BYTES / 4);
        match ready!(poll_read_buf(Pin::new(&mut *stream), cx, read)).context("reading") {
            Ok(0) => return Poll::Ready(Err(anyhow::anyhow!("the server closed it"))),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        if let Err(error) = state.borrow_mut().take_frames(read) {
            return Poll::Ready(Err(error));
        }
    }
}

fn poll_write(
    stream: &mut TcpStream,
    state: &RefCell<State>,
    writing: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Ended> {
    loop {
        if writing.is_empty() {
            let mut state = state.borrow_mut();
            if state.out.is_empty() {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(writing, &mut state.out);
        }
        let written = ready!(Pin::new(&mut *stream).poll_write(cx, writing)).context("writing");
        match written {
            Ok(written) => writing.advance(written),
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}
