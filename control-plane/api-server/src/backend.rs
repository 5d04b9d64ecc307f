//! The API for callers in the process: the same pipeline, without HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use api_client::{Backend, Call, RawEvent, Verb, WatchStream};
use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};

use crate::answer::Request;
use crate::body::RequestBody;
use crate::cache::{CacheEvent, Held, Interest, KindCache, Watcher, WatcherEvents};
use crate::core::Core;
use crate::identity::UserInfo;

/// Hands calls to the API server; empty until it is started.
#[derive(Default)]
pub(crate) struct CoreBackend(OnceLock<Arc<Core>>);

impl CoreBackend {
    pub fn fill(&self, core: Arc<Core>) {
        // Only the start fills it, once.
        let _ = self.0.set(core);
    }

    fn core(&self) -> Result<&Arc<Core>, Status> {
        self.0
            .get()
            .ok_or_else(|| Status::service_unavailable("the API server is not started yet"))
    }
}

#[async_trait]
impl Backend for CoreBackend {
    async fn call(&self, call: Call) -> Result<Bytes, Status> {
        let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let mut headers = HeaderMap::new();
        if !call.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(call.content_type));
        }
        let request = Request {
            method: match call.verb {
                Verb::Get => Method::GET,
                Verb::Post => Method::POST,
                Verb::Put => Method::PUT,
                Verb::Patch => Method::PATCH,
                Verb::Delete => Method::DELETE,
            },
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: RequestBody::Ready(call.body),
            peer: None,
            remote: None,
            user: Some(Arc::new(UserInfo {
                name: call.user.name.clone(),
                groups: call.user.groups.clone(),
                ..UserInfo::default()
            })),
            fence: call.fence,
            upgrade: None,
        };
        self.core()?.handle(request).await?.body.collect().await
    }

    fn watch(&self, group: &str, plural: &str) -> Result<WatchStream, Status> {
        let core = self.core()?;
        let resource = core
            .resources
            .preferred(group, plural)
            .ok_or_else(Status::no_such_path)?;
        let cache = resource.stored("watch")?.clone();
        let feed = Feed {
            cache,
            watcher: None,
            queue: VecDeque::new(),
            started: false,
        };
        Ok(Box::pin(
            futures::stream::unfold(feed, Feed::step).flat_map(futures::stream::iter),
        ))
    }
}

/// Follows a cache; starts over by itself when it was cut off.
struct Feed {
    cache: Arc<KindCache>,
    watcher: Option<Watcher>,
    queue: VecDeque<RawEvent>,
    started: bool,
}

impl Feed {
    async fn step(mut self) -> Option<(Vec<RawEvent>, Self)> {
        let Some(watcher) = &self.watcher else {
            let start = self
                .cache
                .watch_from_now(&Held::default(), Interest::All, true);
            self.watcher = Some(start.watcher);
            if std::mem::replace(&mut self.started, true) {
                self.queue.push_back(RawEvent::Restarted);
            }
            self.queue
                .extend(start.objects.iter().map(|o| RawEvent::Applied {
                    json: o.json.clone(),
                }));
            self.queue.push_back(RawEvent::Synced);
            return Some((self.queue.drain(..).collect(), self));
        };
        match std::future::poll_fn(|cx| watcher.poll(cx)).await {
            WatcherEvents::Closed => {
                self.watcher = None;
                Some((Vec::new(), self))
            }
            WatcherEvents::Events(events) => {
                Some((events.iter().filter_map(|e| raw(e)).collect(), self))
            }
        }
    }
}

fn raw(event: &CacheEvent) -> Option<RawEvent> {
    match (&event.current, &event.previous) {
        (Some(object), _) => Some(RawEvent::Applied {
            json: object.json.clone(),
        }),
        (None, Some(previous)) => Some(RawEvent::Deleted {
            json: previous.json_at(event.revision),
        }),
        (None, None) => None,
    }
}
