//! What an admission plugin is: one stage of every write, between decoding and storing.
//!
//! Plugins are rows of one ordered table that the pipeline walks twice: `admit` may change the object, `validate` may
//! only refuse it. This file knows no plugin.

use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;

use crate::identity::UserInfo;

/// What a write does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// Opens a stream (exec, attach, portforward, proxy).
    Connect,
}

impl Operation {
    /// As admission reviews write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// One write, as admission sees it.
#[derive(Debug)]
pub struct Attributes {
    pub operation: Operation,
    pub group: String,
    pub version: String,
    pub kind: String,
    /// Plural.
    pub resource: String,
    pub subresource: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// May be empty on create with `generateName`.
    pub name: String,
    /// The new object in the request's version; none on delete.
    pub object: Option<Value>,
    /// The object as it is stored; none on create.
    pub old: Option<Arc<Value>>,
    pub user: Arc<UserInfo>,
    pub dry_run: bool,
    /// `CreateOptions`, `UpdateOptions`, `DeleteOptions`...; may be null.
    pub options: Value,
    /// Sentences for the user, sent as `Warning` headers.
    pub warnings: Vec<String>,
}

impl Attributes {
    /// Whether this is about a resource itself (or the subresource named with a slash: `pods/binding`).
    pub fn is(&self, group: &str, resource: &str) -> bool {
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        self.group == group && self.resource == plural && self.subresource == subresource
    }
}

/// One admission plugin.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Upstream's name of it, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// Whether it has anything to say about such a write; asked before the other two.
    fn handles(&self, attributes: &Attributes) -> bool;

    /// May change `attributes.object`.
    async fn admit(&self, _attributes: &mut Attributes) -> Result<(), Status> {
        Ok(())
    }

    /// May only refuse.
    async fn validate(&self, _attributes: &Attributes) -> Result<(), Status> {
        Ok(())
    }
}

/// What parts inside the API server may read without a request: the watch caches.
#[async_trait]
pub trait ObjectReader: Send + Sync + 'static {
    /// From the cache, as it is now. `namespace` is empty for cluster-scoped kinds.
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>>;

    /// From the cache, as it is now. `None` is all namespaces.
    fn list(&self, group: &str, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>>;

    /// Those of a list whose text at `path` (dots between names) is `value`.
    fn list_where(
        &self,
        group: &str,
        plural: &str,
        namespace: Option<&str>,
        path: &str,
        value: &str,
    ) -> Vec<Arc<Value>> {
        let at = |object: &Value| {
            let found = path
                .split('.')
                .try_fold(object, |object, name| object.get(name));
            found.is_some_and(|found| found == value)
        };
        let mut objects = self.list(group, plural, namespace);
        objects.retain(|object| at(object));
        objects
    }

    /// The revision of the newest change of any object of the kind: what was computed from it is good while it stays.
    fn changed(&self, group: &str, plural: &str) -> u64;

    /// Waits until the cache holds every write acknowledged before this call, then reads.
    async fn get_latest(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, Status>;
}

/// One request to a kind that is asked and not stored, or to a subresource that creates (`serviceaccounts/token`).
#[derive(Debug)]
pub struct VirtualRequest<'a> {
    pub user: &'a UserInfo,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// Of the object whose subresource this is; else empty.
    pub name: &'a str,
    /// The body: checked against its type and defaulted.
    pub object: Value,
    pub dry_run: bool,
}

/// Answers creates of a kind that is not stored.
#[async_trait]
pub trait VirtualResource: Send + Sync + 'static {
    /// Group of the URL, and plural (with the subresource behind a slash): `("", "serviceaccounts/token")`.
    fn resource(&self) -> (&'static str, &'static str);

    /// The object as it is answered.
    async fn create(&self, request: VirtualRequest<'_>) -> Result<Value, Status>;
}

/// One request for a path of an [`Extension`].
#[derive(Debug)]
pub struct ExtensionRequest<'a> {
    pub user: &'a UserInfo,
    pub method: &'a Method,
    /// What follows the extension's path, without slashes around it.
    pub rest: &'a str,
    pub headers: &'a HeaderMap,
    pub body: Bytes,
}

/// Answers paths that are no resources and that the API server itself knows nothing of. Who may call it is RBAC's matter
/// (`nonResourceURLs`).
#[async_trait]
pub trait Extension: Send + Sync + 'static {
    /// The path that it answers, with all below.
    fn path(&self) -> &'static str;

    /// The JSON that is answered.
    async fn call(&self, request: ExtensionRequest<'_>) -> Result<Value, Status>;
}
