//! What a watch sends: one line of JSON per change, made once per change and shared by all who watch the same.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use api_machinery::{ObjectMutExt, Status};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::answer::Context;
use crate::cache::{
    CacheEvent, CachedObject, Caches, EventType, WatchStart, Watcher, WatcherEvents, event_line,
};
use crate::core::Core;
use crate::negotiate::{Accepted, Shape};
use crate::render;
use crate::request::RequestInfo;
use crate::resource::Resource;
use crate::selection::Selection;

/// How often an idle watch tells how far it is, where bookmarks are allowed.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// A last bookmark is sent this long before the watch ends.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// Lines are joined into pieces of about this many bytes where several wait.
const CHUNK_BYTES: usize = 32 << 10;

/// In which form the objects are sent.
pub(crate) struct WatchForm {
    resource: Arc<Resource>,
    accepted: Accepted,
    include_object: String,
    /// Stands for the form among the renditions that an event keeps.
    id: u64,
}

impl WatchForm {
    /// # Errors
    /// 404 for an unknown resource.
    pub fn new(core: &Core, cx: &Context, info: &RequestInfo) -> Result<Self, Status> {
        use std::hash::{Hash, Hasher};
        let resource = core
            .resources
            .get(&info.group, &info.version, &info.resource)
            .ok_or_else(Status::no_such_path)?
            .clone();
        let mut hasher = std::hash::DefaultHasher::new();
        (
            &cx.accepted,
            &resource.api_version,
            &cx.query.include_object,
        )
            .hash(&mut hasher);
        Ok(Self {
            resource,
            accepted: Accepted {
                format: crate::negotiate::Format::Json,
                ..cx.accepted
            },
            include_object: cx.query.include_object.clone(),
            id: hasher.finish(),
        })
    }

    fn is_plain(&self) -> bool {
        self.accepted.is_plain() && self.resource.conversion.is_none()
    }

    fn line(&self, event_type: EventType, json: &[u8], first: bool) -> Bytes {
        if self.is_plain() {
            return event_line(event_type, json);
        }
        match render::event_object(
            &self.resource,
            self.accepted,
            &self.include_object,
            first,
            json,
        ) {
            Ok(object) => event_line(event_type, object.to_string().as_bytes()),
            Err(status) => status_line(&status),
        }
    }

    fn event(&self, event: &CacheEvent, event_type: EventType, first: bool) -> Bytes {
        if self.is_plain() {
            return event.line(event_type);
        }
        let id = self
            .id
            .wrapping_add(event_type as u64 * 2 + u64::from(first));
        event.rendition(id, || match event.object(event_type) {
            Some((_, json)) => self.line(event_type, &json, first),
            None => Bytes::new(),
        })
    }

    fn bookmark(&self, revision: u64, ends_initial_events: bool) -> Bytes {
        let mut object = json!({
            "kind": self.resource.kind.kind,
            "apiVersion": self.resource.api_version,
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
        });
        match self.accepted.shape {
            Shape::Metadata(version) => {
                object.set(&["kind"], "PartialObjectMetadata");
                object.set(&["apiVersion"], format!("meta.k8s.io/{version}"));
            }
            Shape::Table(version) => {
                object = json!({
                    "kind": "Table",
                    "apiVersion": format!("meta.k8s.io/{version}"),
                    "metadata": {"resourceVersion": revision.to_string()},
                    "columnDefinitions": null,
                    "rows": [{"cells": [], "object": object}],
                });
            }
            _ => {}
        }
        if ends_initial_events {
            let end = match self.accepted.shape {
                Shape::Table(_) => &mut object["rows"][0]["object"],
                _ => &mut object,
            };
            end.set(
                &["metadata", "annotations", "k8s.io/initial-events-end"],
                "true",
            );
        }
        Bytes::from(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n"))
    }
}

fn status_line(status: &Status) -> Bytes {
    let json = String::from_utf8_lossy(&status.to_json()).into_owned();
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{json}}}\n"))
}

/// What a change means to a watcher with a selection: objects appear when they begin to match and go when they cease to.
pub(crate) fn transition(
    event: &CacheEvent,
    selection: &Selection,
    prefix: &str,
) -> Option<EventType> {
    let matches = |object: &Option<Arc<CachedObject>>| {
        object.as_ref().is_some_and(|o| {
            o.key.starts_with(prefix) && (selection.is_everything() || selection.matches(o))
        })
    };
    match (matches(&event.previous), matches(&event.current)) {
        (false, true) => Some(EventType::Added),
        (true, true) => Some(EventType::Modified),
        (true, false) => Some(EventType::Deleted),
        (false, false) => None,
    }
}

/// The stream of lines.
pub(super) struct WatchBody {
    caches: Arc<Caches>,
    watcher: Watcher,
    initial: std::vec::IntoIter<Arc<CachedObject>>,
    /// The bookmark that ends the initial events is still to come.
    initial_bookmark: Option<u64>,
    pending: VecDeque<Arc<CacheEvent>>,
    selection: Selection,
    form: WatchForm,
    prefix: String,
    first: bool,
    ended: bool,
    bookmarks: bool,
    deadline: Instant,
    timer: Pin<Box<Sleep>>,
    /// The server is stopping.
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    watchers: Gauge<i64, AtomicI64>,
}

impl WatchBody {
    pub fn new(
        caches: Arc<Caches>,
        start: WatchStart,
        selection: Selection,
        form: WatchForm,
        prefix: String,
        timeout: Duration,
        bookmarks: bool,
        ends_initial_events: bool,
        stop: CancellationToken,
        watchers: Gauge<i64, AtomicI64>,
    ) -> Self {
        watchers.inc();
        let deadline = Instant::now() + timeout;
        let mut body = Self {
            caches,
            watcher: start.watcher,
            initial: start.objects.into_iter(),
            initial_bookmark: (ends_initial_events && bookmarks).then_some(start.revision),
            pending: VecDeque::new(),
            selection,
            form,
            prefix,
            first: true,
            ended: false,
            bookmarks,
            deadline,
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            stopped: Box::pin(stop.cancelled_owned()),
            watchers,
        };
        body.set_timer();
        body
    }

    fn set_timer(&mut self) {
        let mut at = self.deadline;
        if self.bookmarks {
            let now = Instant::now();
            let last = self
                .deadline
                .checked_sub(BOOKMARK_BEFORE_END)
                .unwrap_or(self.deadline);
            let next = now + BOOKMARK_INTERVAL;
            at = if now < last {
                next.min(last)
            } else {
                self.deadline
            };
        }
        self.timer.as_mut().reset(at);
    }

    /// Lines that are there, up to a piece's size.
    fn ready(&mut self) -> Option<Bytes> {
        let mut single: Option<Bytes> = None;
        let mut joined = BytesMut::new();
        while joined.len() < CHUNK_BYTES {
            let Some(line) = self.next_line() else { break };
            match (&single, joined.is_empty()) {
                (None, true) => single = Some(line),
                (Some(one), true) => {
                    joined.extend_from_slice(one);
                    joined.extend_from_slice(&line);
                }
                _ => joined.extend_from_slice(&line),
            }
        }
        if joined.is_empty() {
            single
        } else {
            Some(joined.freeze())
        }
    }

    fn next_line(&mut self) -> Option<Bytes> {
        for object in self.initial.by_ref() {
            if self.selection.is_everything() || self.selection.matches(&object) {
                let first = std::mem::replace(&mut self.first, false);
                return Some(self.form.line(EventType::Added, &object.json, first));
            }
        }
        if let Some(revision) = self.initial_bookmark.take() {
            return Some(self.form.bookmark(revision, true));
        }
        while let Some(event) = self.pending.pop_front() {
            if let Some(event_type) = transition(&event, &self.selection, &self.prefix) {
                let first = std::mem::replace(&mut self.first, false);
                return Some(self.form.event(&event, event_type, first));
            }
        }
        None
    }

    /// A bookmark, where nothing waits that it would skip.
    fn due(&mut self) -> Option<Bytes> {
        if Instant::now() >= self.deadline {
            self.ended = true;
            return None;
        }
        let revision = self.caches.revision();
        self.set_timer();
        if let Poll::Ready(events) = self
            .watcher
            .poll(&mut TaskContext::from_waker(std::task::Waker::noop()))
        {
            self.take(events);
            if let Some(lines) = self.ready() {
                return Some(lines);
            }
        }
        Some(self.form.bookmark(revision, false))
    }

    fn take(&mut self, events: WatcherEvents) {
        match events {
            WatcherEvents::Events(events) => self.pending = events,
            WatcherEvents::Closed => self.ended = true,
        }
    }
}

impl Stream for WatchBody {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        loop {
            if let Some(lines) = body.ready() {
                return Poll::Ready(Some(Ok(lines)));
            }
            if body.ended {
                return Poll::Ready(None);
            }
            if let Poll::Ready(events) = body.watcher.poll(cx) {
                body.take(events);
                continue;
            }
            if body.stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            match body.timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {
                    if let Some(lines) = body.due() {
                        return Poll::Ready(Some(Ok(lines)));
                    }
                }
            }
        }
    }
}

impl Drop for WatchBody {
    fn drop(&mut self) {
        self.watchers.dec();
    }
}
