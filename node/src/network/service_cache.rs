//! Follows Services and EndpointSlices over the API and keeps the one state that proxy and DNS share.
//!
//! It must not know what is done with the state.

use std::sync::Arc;

use futures::{StreamExt, TryStream, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::service_model::{Key, ServiceInfo, ServiceState, SliceInfo};

/// The state of all Services and EndpointSlices, kept up to date.
#[derive(Debug)]
pub struct ServiceCache {
    state: RwLock<ServiceState>,
    progress: watch::Sender<Progress>,
}

/// How far the cache is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Grows with every change of the state.
    pub(crate) generation: u64,
    services_listed: bool,
    slices_listed: bool,
}

impl Progress {
    /// Whether Services and slices were both listed once.
    pub(crate) fn synced(self) -> bool {
        self.services_listed && self.slices_listed
    }
}

impl ServiceCache {
    /// Starts to list and watch; returns at once. The watches end with `shutdown`.
    pub fn start(client: kube::Client, shutdown: CancellationToken) -> Arc<ServiceCache> {
        let cache = Arc::new(ServiceCache::empty());
        let services = watch_objects(
            kube::Api::<Service>::all(client.clone()),
            watcher::Config::default(),
        );
        let services = follow(cache.clone(), services.default_backoff(), Services);
        let slices = watch_objects(
            kube::Api::<EndpointSlice>::all(client),
            watcher::Config::default(),
        );
        let slices = follow(cache.clone(), slices.default_backoff(), Slices);
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                ((), ()) = async { tokio::join!(services, slices) } => {}
            }
        });
        cache
    }

    pub(crate) fn empty() -> ServiceCache {
        ServiceCache {
            state: RwLock::default(),
            progress: watch::Sender::new(Progress::default()),
        }
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, ServiceState> {
        self.state.read()
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Changes the state by hand, as tests do.
    #[cfg(test)]
    pub(crate) fn change(&self, change: impl FnOnce(&mut ServiceState)) {
        change(&mut self.state.write());
        self.progress.send_modify(|progress| {
            progress.generation += 1;
            progress.services_listed = true;
            progress.slices_listed = true;
        });
    }
}

/// What differs between the two kinds that are followed.
trait Followed: Send {
    type Object: Send;
    type Info: Send;
    fn info(object: &Self::Object) -> Option<Self::Info>;
    fn key(object: &Self::Object) -> Option<Key>;
    fn info_key(info: &Self::Info) -> Key;
    fn apply(state: &mut ServiceState, info: Self::Info) -> bool;
    fn delete(state: &mut ServiceState, key: &Key) -> bool;
    fn keys(state: &ServiceState) -> Vec<Key>;
    fn listed(progress: &mut Progress);
}

struct Services;
struct Slices;

impl Followed for Services {
    type Object = Service;
    type Info = ServiceInfo;
    fn info(object: &Service) -> Option<ServiceInfo> {
        ServiceInfo::from_api(object)
    }
    fn key(object: &Service) -> Option<Key> {
        Some((
            object.metadata.namespace.clone()?,
            object.metadata.name.clone()?,
        ))
    }
    fn info_key(info: &ServiceInfo) -> Key {
        info.key()
    }
    fn apply(state: &mut ServiceState, info: ServiceInfo) -> bool {
        state.apply_service(info)
    }
    fn delete(state: &mut ServiceState, key: &Key) -> bool {
        state.delete_service(key)
    }
    fn keys(state: &ServiceState) -> Vec<Key> {
        state.service_keys()
    }
    fn listed(progress: &mut Progress) {
        progress.services_listed = true;
    }
}

impl Followed for Slices {
    type Object = EndpointSlice;
    type Info = SliceInfo;
    fn info(object: &EndpointSlice) -> Option<SliceInfo> {
        SliceInfo::from_api(object)
    }
    fn key(object: &EndpointSlice) -> Option<Key> {
        Some((
            object.metadata.namespace.clone()?,
            object.metadata.name.clone()?,
        ))
    }
    fn info_key(info: &SliceInfo) -> Key {
        info.key.clone()
    }
    fn apply(state: &mut ServiceState, info: SliceInfo) -> bool {
        state.apply_slice(info)
    }
    fn delete(state: &mut ServiceState, key: &Key) -> bool {
        state.delete_slice(key)
    }
    fn keys(state: &ServiceState) -> Vec<Key> {
        state.slice_keys()
    }
    fn listed(progress: &mut Progress) {
        progress.slices_listed = true;
    }
}

async fn follow<F: Followed>(
    cache: Arc<ServiceCache>,
    events: impl TryStream<Ok = Event<F::Object>, Error = watcher::Error> + Send,
    _: F,
) {
    let mut events = std::pin::pin!(events.into_stream());
    let mut listing: Vec<F::Info> = Vec::new();
    while let Some(event) = events.next().await {
        let (changed, listed) = match event {
            Ok(Event::Init) => {
                listing = Vec::new();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listing.extend(F::info(&object));
                continue;
            }
            Ok(Event::InitDone) => (
                replace::<F>(&mut cache.state.write(), std::mem::take(&mut listing)),
                true,
            ),
            Ok(Event::Apply(object)) => (apply::<F>(&mut cache.state.write(), &object), false),
            Ok(Event::Delete(object)) => {
                let mut state = cache.state.write();
                (
                    F::key(&object).is_some_and(|key| F::delete(&mut state, &key)),
                    false,
                )
            }
            Err(error) => {
                tracing::warn!(%error, "services or endpoint slices cannot be watched; trying again");
                continue;
            }
        };
        if changed || listed {
            cache.progress.send_modify(|progress| {
                progress.generation += 1;
                if listed {
                    F::listed(progress);
                }
            });
        }
    }
}

/// An object that is no longer of interest (a slice that lost its label) is deleted.
fn apply<F: Followed>(state: &mut ServiceState, object: &F::Object) -> bool {
    match F::info(object) {
        Some(info) => F::apply(state, info),
        None => F::key(object).is_some_and(|key| F::delete(state, &key)),
    }
}

fn replace<F: Followed>(state: &mut ServiceState, listing: Vec<F::Info>) -> bool {
    let listed: std::collections::HashSet<Key> = listing.iter().map(F::info_key).collect();
    let mut changed = false;
    for key in F::keys(state) {
        if !listed.contains(&key) {
            changed |= F::delete(state, &key);
        }
    }
    for info in listing {
        changed |= F::apply(state, info);
    }
    changed
}
