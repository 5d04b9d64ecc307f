//! The one writer of the log: takes all that is queued, writes it once, syncs once, tells all who wait.
//!
//! It has a thread of its own. Whoever queues little and could do nothing else meanwhile may do its work instead
//! ([`Shared::flush_here`]): that spares two changes of thread, most of what a lone write waits for beside the disk.
//!
//! A write or sync that fails ends the process: after a failed `fsync` nobody knows what is on disk, so it is never
//! tried again.

use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use rand::Rng;
use tokio::sync::{oneshot, watch};

use super::appender::{Appender, Blocks};
use super::record::{Record, seal};
use super::segment::Directory;
use super::spare::SpareMaker;
use super::state::{Position, State};
use crate::fatal::end_process;
use crate::limits;
use crate::metrics::Metrics;
use crate::raft::{LogId, TypeConfig, Vote, Votes};
use crate::threads;

/// Records that wait to be written, in order.
#[derive(Default)]
pub struct Queue {
    bytes: Vec<u8>,
    records: Vec<Queued>,
    waiters: Vec<Waiter>,
    /// Something waits: write now (else the records go along with the next that does).
    due: bool,
    stopping: bool,
}

struct Queued {
    len: usize,
    effect: Effect,
}

/// What a record changes in the positions once written.
enum Effect {
    None,
    Entry(u64),
    Truncate(Option<LogId>),
    Purge,
    Committed(Option<LogId>),
    Vote(Vote),
}

/// Who is told when everything queued before is durable.
pub enum Waiter {
    Append(IOFlushed<TypeConfig>),
    Other(oneshot::Sender<()>),
}

impl Waiter {
    fn complete(self) {
        match self {
            Waiter::Append(callback) => callback.io_completed(Ok(())),
            // Whoever asked may have gone.
            Waiter::Other(sender) => drop(sender.send(())),
        }
    }
}

/// What the log's users and the flusher share.
pub struct Shared {
    pub state: Mutex<State>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Rung instead in a simulation.
    simulated_wake: tokio::sync::Notify,
    /// Taken before the queue is: batches are written in the order in which they were queued.
    writer: Mutex<Option<Flusher>>,
    member: u64,
    /// The newest vote on the disk.
    written_vote: watch::Sender<Option<Vote>>,
    /// What a sync takes lately, or took last if that was longer.
    sync_micros: AtomicU64,
    /// Told when enough segments have piled up that the state should be flushed and the log purged.
    checkpoint_due: Arc<tokio::sync::Notify>,
    metrics: Metrics,
}

impl Shared {
    pub fn new(
        state: State,
        member: u64,
        metrics: Metrics,
        checkpoint_due: Arc<tokio::sync::Notify>,
    ) -> Self {
        Self {
            written_vote: watch::Sender::new(state.vote),
            sync_micros: AtomicU64::new(0),
            state: Mutex::new(state),
            queue: Mutex::default(),
            wake: Condvar::new(),
            simulated_wake: tokio::sync::Notify::new(),
            writer: Mutex::new(None),
            member,
            checkpoint_due,
            metrics,
        }
    }

    /// Queues records, and a waiter for them all. Without one they are written with the next that has.
    pub fn enqueue(&self, records: impl Iterator<Item = Record>, waiter: Option<Waiter>) {
        self.queue(records, waiter, false);
    }

    /// As [`Self::enqueue`], for a caller that goes on with [`Self::flush_here`] or [`Self::wake`].
    pub fn enqueue_here(&self, records: impl Iterator<Item = Record>, waiter: Waiter) {
        self.queue(records, Some(waiter), true);
    }

    fn queue(&self, records: impl Iterator<Item = Record>, waiter: Option<Waiter>, here: bool) {
        let mut queue = self.queue.lock();
        self.put(&mut queue, records);
        if let Some(waiter) = waiter {
            queue.waiters.push(waiter);
            queue.due = true;
            if !here {
                self.wake();
            }
        }
    }

    fn put(&self, queue: &mut Queue, records: impl Iterator<Item = Record>) {
        // The state changes under the queue's lock, so that both see one order.
        let mut state = self.state.lock();
        for record in records {
            let len = record.encode(&mut queue.bytes);
            let effect = match record {
                Record::Entry(entry) => {
                    let index = entry.log_id.index;
                    state.append(entry, len);
                    Effect::Entry(index)
                }
                Record::TruncatedAfter(id) => {
                    state.truncate_after(id);
                    Effect::Truncate(id)
                }
                Record::Purged(id) => {
                    state.purge(id);
                    Effect::Purge
                }
                Record::Vote(vote) => {
                    state.vote = Some(vote);
                    Effect::Vote(vote)
                }
                Record::Committed(id) => {
                    state.committed = id;
                    Effect::Committed(id)
                }
                Record::Opened { .. } | Record::Closed => Effect::None,
            };
            queue.records.push(Queued { len, effect });
        }
    }

    /// Begins to write the vote, unless that has begun already; it is durable once that shows in what is returned. A vote
    /// that is not higher than all others is written only if `must` be.
    pub fn queue_vote(&self, vote: Vote, must: bool) -> watch::Receiver<Option<Vote>> {
        let written = self.written_vote.subscribe();
        let mut queue = self.queue.lock();
        let newest = self.state.lock().vote;
        let begun = newest == Some(vote);
        let higher = newest.partial_cmp(&Some(vote)) == Some(std::cmp::Ordering::Less);
        if begun || !(must || higher) {
            return written;
        }
        self.put(&mut queue, [Record::Vote(vote)].into_iter());
        queue.due = true;
        drop(queue);
        self.wake();
        written
    }

    /// Writes what is queued on the calling thread, unless the disk is slow, or the flusher at work: then it goes on with
    /// that.
    pub fn flush_here(&self) {
        match self.writer.try_lock().as_deref_mut() {
            Some(Some(flusher)) if flusher.sync_time <= limits::LOG_SYNC_FLUSHED_HERE => {
                flusher.flush_queued(self);
            }
            // Another writes, or the flusher's thread has only just started.
            _ => self.wake(),
        }
    }

    /// Tells the flusher that something is queued.
    pub fn wake(&self) {
        if threads::simulated() {
            return self.simulated_wake.notify_one();
        }
        self.wake.notify_one();
    }

    /// Lets the flusher finish what is queued and end.
    pub fn stop(&self) {
        if threads::simulated() {
            return self.stop_simulated();
        }
        self.queue.lock().stopping = true;
        self.wake.notify_one();
    }

    fn stop_simulated(&self) {
        if let Some(mut flusher) = self.writer.lock().take() {
            match crate::fault::power_is_lost() {
                true => flusher.tear(&mut self.queue.lock()),
                false => flusher.flush_queued(self),
            }
        }
        self.simulated_wake.notify_one();
    }
}

impl Votes for Shared {
    fn promise(&self, vote: Vote) {
        self.queue_vote(vote, false);
    }

    fn sync_time(&self) -> Duration {
        Duration::from_micros(self.sync_micros.load(Ordering::Relaxed))
    }
}

/// The writer's own state.
pub struct Flusher {
    pub directory: Directory,
    pub active: Option<Appender>,
    /// Of whatever segment is the active one.
    pub blocks: Blocks,
    pub spares: SpareMaker,
    pub next_number: u64,
    /// Segments on disk, ascending.
    pub segments: Vec<u64>,
    /// What is being written; its room is used again.
    pub batch: Queue,
    /// The newest that was written: what is queued may be torn, and what it commits with it.
    pub committed: Option<LogId>,
    /// Of a sync lately: the mean, later ones counting more.
    pub sync_time: Duration,
}

/// Starts the flusher: its thread, or a task in a simulation.
pub fn start(shared: &Arc<Shared>, flusher: Flusher) -> io::Result<Option<JoinHandle<()>>> {
    *shared.writer.lock() = Some(flusher);
    let shared = shared.clone();
    if threads::simulated() {
        tokio::spawn(async move { run_simulated(&shared).await });
        return Ok(None);
    }
    let thread = std::thread::Builder::new().name("log-flusher".to_owned());
    thread.spawn(move || run(&shared)).map(Some)
}

async fn run_simulated(shared: &Shared) {
    loop {
        shared.simulated_wake.notified().await;
        tokio::time::sleep(threads::disk_time()).await;
        match &mut *shared.writer.lock() {
            Some(flusher) => flusher.flush_queued(shared),
            None => return,
        }
    }
}

/// The flusher's thread: runs until told to stop.
fn run(shared: &Shared) {
    loop {
        let stopping = {
            let mut queue = shared.queue.lock();
            while !queue.due && !queue.stopping {
                shared.wake.wait(&mut queue);
            }
            queue.stopping
        };
        let mut writer = shared.writer.lock();
        let flusher = writer.as_mut().expect("put there above");
        flusher.flush_queued(shared);
        if stopping {
            // What was queued before was written; nobody queues any more.
            *writer = None;
            return;
        }
    }
}

impl Flusher {
    /// Writes what is queued now, and tells those who wait for it.
    fn flush_queued(&mut self, shared: &Shared) {
        let mut batch = std::mem::take(&mut self.batch);
        {
            let mut queue = shared.queue.lock();
            if queue.bytes.is_empty() {
                self.batch = batch;
                return;
            }
            std::mem::swap(&mut *queue, &mut batch);
            queue.stopping = batch.stopping;
        }
        if let Err(error) = self.flush(shared, &mut batch) {
            end_process("writing the Raft log", &error);
        }
        batch.waiters.drain(..).for_each(Waiter::complete);
        batch.records.clear();
        batch.bytes.clear();
        batch.bytes.shrink_to(2 * limits::MAX_BYTES_PER_ENTRY);
        batch.due = false;
        batch.stopping = false;
        self.batch = batch;
    }

    /// Simulates a loss of power while what is queued was being written: any of its sectors may have reached the disk.
    fn tear(&mut self, queue: &mut Queue) {
        let Some(Appender {
            segment,
            end: offset,
            ..
        }) = &self.active
        else {
            return;
        };
        let mut at = 0;
        for queued in &queue.records {
            let record = &mut queue.bytes[at..at + queued.len];
            at += seal(record, segment.number, *offset);
        }
        if offset + at as u64 > segment.capacity {
            return;
        }
        let mut random = rand::rng();
        let mut from = 0;
        while from < at {
            let sector = 512 - (offset + from as u64) as usize % 512;
            let to = at.min(from + sector);
            if random.random() {
                let written = segment
                    .file
                    .write_all_at(&queue.bytes[from..to], offset + from as u64);
                written.expect("a simulated disk takes it");
            }
            from = to;
        }
    }

    fn flush(&mut self, shared: &Shared, batch: &mut Queue) -> io::Result<()> {
        let len = batch.bytes.len() as u64;
        let mut appender = self.room_for(shared, len)?;
        let (number, offset) = (appender.segment.number, appender.end);
        let mut at = 0;
        for queued in &batch.records {
            at += seal(&mut batch.bytes[at..at + queued.len], number, offset);
        }
        appender.append(&batch.bytes, &mut self.blocks)?;
        let started = Instant::now();
        crate::fault::before_log_sync()?;
        appender.sync()?;
        let took = started.elapsed();
        if !threads::simulated() {
            self.sync_time = (7 * self.sync_time + took) / 8;
            let shown = self.sync_time.max(took).as_micros();
            let shown = u64::try_from(shown).unwrap_or(u64::MAX);
            shared.sync_micros.store(shown, Ordering::Relaxed);
        }
        shared.metrics.fsync_seconds.observe(took.as_secs_f64());
        self.active = Some(appender);
        self.note_written(shared, batch, number, offset)
    }

    fn note_written(
        &mut self,
        shared: &Shared,
        batch: &Queue,
        segment: u64,
        offset: u64,
    ) -> io::Result<()> {
        let mut state = shared.state.lock();
        let mut at = offset;
        let mut purged = false;
        for queued in &batch.records {
            match queued.effect {
                Effect::Entry(index) => {
                    let position = Position {
                        segment,
                        offset: at as u32,
                        len: queued.len as u32,
                    };
                    state.written(index, position);
                }
                Effect::Truncate(id) => state.truncate_positions(id),
                Effect::Purge => purged = true,
                Effect::Committed(id) => self.committed = id,
                Effect::Vote(vote) => drop(shared.written_vote.send_replace(Some(vote))),
                Effect::None => {}
            }
            at += queued.len as u64;
        }
        if let Some(purged) = state.purged {
            state.purge(purged);
        }
        state.evict();
        let oldest = state.oldest_segment().unwrap_or(segment);
        drop(state);
        if purged {
            self.retire_before(oldest.min(segment))?;
        }
        Ok(())
    }

    fn retire_before(&mut self, oldest: u64) -> io::Result<()> {
        let keep_from = self.segments.partition_point(|number| *number < oldest);
        for number in self.segments.drain(..keep_from) {
            self.directory.retire(number)?;
        }
        Ok(())
    }

    /// The active segment with `len` bytes of room behind its end, or the next one.
    fn room_for(&mut self, shared: &Shared, len: u64) -> io::Result<Appender> {
        let mut closing = Vec::new();
        let closing_len = Record::Closed.encode(&mut closing) as u64;
        if let Some(mut appender) = self.active.take() {
            if appender.has_room(len + closing_len) {
                return Ok(appender);
            }
            seal(&mut closing, appender.segment.number, appender.end);
            appender.append(&closing, &mut self.blocks)?;
            appender.sync()?;
        }
        self.open_next(shared, len + closing_len)
    }

    /// Makes the next segment; it begins with all that the segments before it may take away with them.
    fn open_next(&mut self, shared: &Shared, len: u64) -> io::Result<Appender> {
        let mut preamble = Vec::new();
        let mut lens = vec![
            Record::Opened {
                member: shared.member,
            }
            .encode(&mut preamble),
        ];
        {
            let state = shared.state.lock();
            lens.extend(
                state
                    .vote
                    .map(|vote| Record::Vote(vote).encode(&mut preamble)),
            );
            lens.extend(
                state
                    .purged
                    .map(|id| Record::Purged(id).encode(&mut preamble)),
            );
        }
        lens.push(Record::Committed(self.committed).encode(&mut preamble));
        let segment = self
            .directory
            .create(self.next_number, preamble.len() as u64 + len)?;
        let mut at = 0;
        for len in lens {
            at += seal(&mut preamble[at..at + len], segment.number, 0);
        }
        self.next_number += 1;
        self.segments.push(segment.number);
        let mut appender = Appender::new(&self.directory, segment, 0, &mut self.blocks)?;
        appender.append(&preamble, &mut self.blocks)?;
        self.spares.wake();
        if self.segments.len() > limits::LOG_SEGMENTS_PER_CHECKPOINT {
            shared.checkpoint_due.notify_one();
        }
        Ok(appender)
    }
}
