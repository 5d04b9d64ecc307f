//! Who owns what: adopts orphans that a selector matches and releases objects that it no longer matches.

use std::sync::Arc;

use api_client::{Client, Kind, Patch, is_invalid, is_not_found};
use serde_json::json;

use super::{Meta, Selector, controller_of, owner_reference};
use crate::error::{Error, Outcome};

/// What is to be done about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It is the owner's already.
    Owned,
    /// It has no controller and matches: the owner takes it.
    Adopt,
    /// It is the owner's but no longer matches.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

impl Claim {
    /// Decides about `object` from the point of view of `owner`. `matches` is the selector's verdict.
    fn decide(owner: &impl Meta, object: &impl Meta, matches: bool) -> Self {
        match controller_of(object) {
            Some(reference) if reference.uid != owner.uid() => Self::Ignore,
            Some(_) if matches => Self::Owned,
            Some(_) if owner.is_deleting() => Self::Ignore,
            Some(_) => Self::Release,
            None if owner.is_deleting() || !matches || object.is_deleting() => Self::Ignore,
            None if object.namespace() != owner.namespace() => Self::Ignore,
            None => Self::Adopt,
        }
    }
}

/// The objects among `candidates` that belong to `owner` after adoption and release. An adoption happens only after a
/// live look at the owner: it must not adopt when it has just been deleted.
pub(crate) async fn claim_objects<O: Kind, K: Kind>(
    client: &Client,
    owner: &O,
    selector: &Selector,
    candidates: Vec<Arc<K>>,
    adopted_finalizer: Option<&str>,
) -> Outcome<Vec<Arc<K>>> {
    let mut claimed = Vec::with_capacity(candidates.len());
    let mut checked = false;
    for object in candidates {
        match Claim::decide(
            owner,
            object.as_ref(),
            selector.matches(Meta::labels(object.as_ref())),
        ) {
            Claim::Ignore => {}
            Claim::Owned => claimed.push(object),
            Claim::Release => release(client, owner, object.as_ref()).await?,
            Claim::Adopt => {
                if !checked {
                    ensure_alive(client, owner).await?;
                    checked = true;
                }
                claimed.extend(
                    adopt(client, owner, object.as_ref(), adopted_finalizer)
                        .await?
                        .map(Arc::new),
                );
            }
        }
    }
    Ok(claimed)
}

async fn ensure_alive<O: Kind>(client: &Client, owner: &O) -> Outcome {
    let fresh: O = client
        .get(owner.metadata().namespace.as_deref(), Meta::name(owner))
        .await?;
    if Meta::uid(&fresh) != Meta::uid(owner) {
        let (namespace, name) = (Meta::namespace(owner), Meta::name(owner));
        return Err(Error::NotReady(format!(
            "original {} {namespace}/{name} is gone: got uid {}, wanted {}",
            O::KIND,
            Meta::uid(&fresh),
            Meta::uid(owner)
        )));
    }
    if Meta::is_deleting(&fresh) {
        return Err(Error::NotReady(format!(
            "{}/{} has just been deleted",
            Meta::namespace(owner),
            Meta::name(owner)
        )));
    }
    Ok(())
}

async fn adopt<O: Kind, K: Kind>(
    client: &Client,
    owner: &O,
    object: &K,
    finalizer: Option<&str>,
) -> Outcome<Option<K>> {
    let mut metadata =
        json!({"ownerReferences": [owner_reference(owner)], "uid": Meta::uid(object)});
    if let Some(finalizer) = finalizer {
        metadata["finalizers"] = json!([finalizer]);
    }
    patch(client, object, json!({ "metadata": metadata })).await
}

/// Takes the owner's reference off the object. An object that is gone, or another by now, needs nothing.
async fn release<O: Kind, K: Kind>(client: &Client, owner: &O, object: &K) -> Outcome {
    let references = json!([{"$patch": "delete", "uid": Meta::uid(owner)}]);
    let body = json!({"metadata": {"ownerReferences": references, "uid": Meta::uid(object)}});
    patch(client, object, body).await.map(drop)
}

async fn patch<K: Kind>(
    client: &Client,
    object: &K,
    body: serde_json::Value,
) -> Outcome<Option<K>> {
    let namespace = object.metadata().namespace.as_deref();
    match client
        .patch::<K>(namespace, Meta::name(object), "", &Patch::Strategic(body))
        .await
    {
        Ok(patched) => Ok(Some(patched)),
        Err(status) if is_not_found(&status) || is_invalid(&status) => Ok(None),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
    use k8s_openapi::jiff::Timestamp;

    fn pod(uid: &str, controller: Option<&str>, deleting: bool) -> Pod {
        let owner = |uid: &str| OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        let metadata = ObjectMeta {
            uid: Some(uid.into()),
            owner_references: controller.map(|uid| vec![owner(uid)]),
            deletion_timestamp: deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            ..Pod::default()
        }
    }

    #[test]
    fn claims() {
        let check = |owner_deleting, controller, matches, deleting, expect| {
            let owner = pod("me", None, owner_deleting);
            assert_eq!(
                Claim::decide(&owner, &pod("pod", controller, deleting), matches),
                expect
            );
        };
        check(false, Some("me"), true, false, Claim::Owned);
        check(false, Some("me"), false, false, Claim::Release);
        check(true, Some("me"), false, false, Claim::Ignore);
        check(false, Some("other"), true, false, Claim::Ignore);
        check(false, None, true, false, Claim::Adopt);
        check(false, None, true, true, Claim::Ignore);
        check(false, None, false, false, Claim::Ignore);
        check(true, None, true, false, Claim::Ignore);
    }
}
