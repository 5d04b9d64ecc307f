//! Which owner has to look again when a pod changed.

use std::sync::Arc;

use api_client::{Change, Informer, Kind, ObjectKey};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::{Expectations, Meta, Selector, controller_of};
use crate::context::{Context, Queue};
use crate::error::Outcome;

/// Index: the namespace of every object that has no controller.
const ORPHANS: &str = "orphans";

/// The index function behind [`ORPHANS`].
fn orphan_namespace<K: Kind>(object: &K) -> Vec<String> {
    if controller_of(object).is_some() {
        Vec::new()
    } else {
        vec![Meta::namespace(object).to_owned()]
    }
}

/// An object's pods (or other dependents), and those without a controller that it might adopt.
pub(crate) fn owned_and_orphans<O: Kind, K: Kind>(
    dependents: &Informer<K>,
    owner: &O,
) -> Vec<Arc<K>> {
    let mut all = dependents.by_owner(Meta::uid(owner));
    all.extend(dependents.by_index(ORPHANS, Meta::namespace(owner)));
    all
}

/// The owner behind a reference, if it is of kind `O` and still the same object.
pub(crate) fn resolve<O: Kind>(
    owners: &Informer<O>,
    namespace: &str,
    reference: &OwnerReference,
) -> Option<Arc<O>> {
    if reference.kind != O::KIND
        || reference.api_version.split('/').next() != O::API_VERSION.split('/').next()
    {
        return None;
    }
    owners
        .get(&ObjectKey::new(namespace, &reference.name))
        .filter(|o| Meta::uid(o.as_ref()) == reference.uid)
}

/// Puts the owners (of kind `O`) of every dependent that changes into the queue, tells `expectations` what was seen, and
/// for orphans asks every owner whose selector matches.
pub(crate) fn route_dependents<O: Kind, K: Kind>(
    context: &Context,
    queue: &Queue,
    expectations: Arc<Expectations>,
    selector: fn(&O) -> Outcome<Selector>,
) {
    let owners = context.informer::<O>();
    let dependents = context.informer::<K>();
    dependents.add_index(ORPHANS, orphan_namespace::<K>);
    let queue = queue.clone();
    dependents.on_change(move |change| {
        let object = change.object().as_ref();
        let namespace = Meta::namespace(object);
        let owner_key = |object: &K| -> Option<ObjectKey> {
            let owner = resolve(&owners, namespace, controller_of(object)?)?;
            Some(ObjectKey::of(owner.as_ref()))
        };
        let key = owner_key(object);
        match change {
            Change::Deleted(_) => {
                if let Some(key) = &key {
                    expectations.deletion_observed(key, Meta::uid(object));
                }
            }
            Change::Applied { old, .. } => {
                if let Some(key) = &key {
                    if Meta::is_deleting(object) {
                        expectations.deletion_observed(key, Meta::uid(object));
                    }
                    if old.is_none() {
                        expectations.creation_observed(key);
                    }
                }
                if let Some(former) = old
                    .as_ref()
                    .and_then(|old| owner_key(old))
                    .filter(|k| Some(k) != key.as_ref())
                {
                    queue.add(former);
                }
                let moved = old.as_ref().is_none_or(|old| {
                    Meta::labels(old.as_ref()) != Meta::labels(object)
                        || controller_of(old.as_ref()).is_some() != controller_of(object).is_some()
                });
                if controller_of(object).is_none() && moved && !Meta::is_deleting(object) {
                    for owner in owners.list_namespace(namespace) {
                        if selector(&owner)
                            .is_ok_and(|s| !s.is_empty() && s.matches(Meta::labels(object)))
                        {
                            queue.add(ObjectKey::of(owner.as_ref()));
                        }
                    }
                }
            }
        }
        queue_some(&queue, key);
    });
}

/// As [`route_dependents`] for pods.
pub(crate) fn route_pods<O: Kind>(
    context: &Context,
    queue: &Queue,
    expectations: Arc<Expectations>,
    selector: fn(&O) -> Outcome<Selector>,
) {
    route_dependents::<O, Pod>(context, queue, expectations, selector);
}

fn queue_some(queue: &Queue, key: Option<ObjectKey>) {
    if let Some(key) = key {
        queue.add(key);
    }
}
