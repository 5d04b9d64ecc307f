//! Short access to an object's metadata, and owner references.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api_client::Kind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::jiff::Timestamp;

static NONE: LazyLock<BTreeMap<String, String>> = LazyLock::new(BTreeMap::new);

/// Metadata of stored objects, where absence means empty.
pub(crate) trait Meta {
    fn object_meta(&self) -> &ObjectMeta;

    fn name(&self) -> &str {
        self.object_meta().name.as_deref().unwrap_or_default()
    }
    fn namespace(&self) -> &str {
        self.object_meta().namespace.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.object_meta().uid.as_deref().unwrap_or_default()
    }
    fn labels(&self) -> &BTreeMap<String, String> {
        self.object_meta().labels.as_ref().unwrap_or(&NONE)
    }
    fn annotation(&self, key: &str) -> Option<&str> {
        self.object_meta()
            .annotations
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }
    fn is_deleting(&self) -> bool {
        self.object_meta().deletion_timestamp.is_some()
    }
    fn generation(&self) -> i64 {
        self.object_meta().generation.unwrap_or(0)
    }
    fn created(&self) -> Timestamp {
        self.object_meta()
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |t| t.0)
    }
    fn has_finalizer(&self, name: &str) -> bool {
        self.object_meta()
            .finalizers
            .iter()
            .flatten()
            .any(|f| f == name)
    }
}

impl<K: Kind> Meta for K {
    fn object_meta(&self) -> &ObjectMeta {
        self.metadata()
    }
}

/// The one owner that manages the object.
pub(crate) fn controller_of(object: &impl Meta) -> Option<&OwnerReference> {
    object
        .object_meta()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

pub(crate) fn is_controlled_by(object: &impl Meta, owner: &impl Meta) -> bool {
    controller_of(object).is_some_and(|reference| reference.uid == owner.uid())
}

/// The reference that makes `owner` the controller of an object.
pub(crate) fn owner_reference<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: Meta::name(owner).into(),
        uid: Meta::uid(owner).into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}
