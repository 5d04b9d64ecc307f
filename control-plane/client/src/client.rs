//! Typed calls over a [`Backend`]: the verbs of the API for any `k8s-openapi` type.

use std::sync::Arc;

use api_machinery::Status;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::backend::{Backend, Call, User, Verb};

/// Any built-in kind with ordinary metadata.
pub trait Kind:
    Resource + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static
{
}
impl<K> Kind for K where
    K: Resource
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// How to change an object in part.
#[derive(Clone, Debug)]
pub enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// Options of a delete; `None` leaves the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    /// Only if the object still has this uid.
    pub uid: Option<String>,
    /// Only if the object still has this resourceVersion.
    pub resource_version: Option<String>,
}

/// The object does not exist (404).
pub fn is_not_found(status: &Status) -> bool {
    status.is_not_found()
}

/// The object changed since it was read, or a precondition failed (409 Conflict).
pub fn is_conflict(status: &Status) -> bool {
    status.is_conflict()
}

/// An object of that name exists (409 AlreadyExists).
pub fn is_already_exists(status: &Status) -> bool {
    status.is_already_exists()
}

/// The object does not pass validation (422).
pub fn is_invalid(status: &Status) -> bool {
    status.code == 422
}

/// A user's view of the API. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    backend: Arc<dyn Backend>,
    user: Arc<User>,
    fence: Option<Bytes>,
}

impl Client {
    pub fn new(backend: Arc<dyn Backend>, user: Arc<User>) -> Self {
        Self {
            backend,
            user,
            fence: None,
        }
    }

    /// The same API as another user.
    pub fn as_user(&self, user: Arc<User>) -> Self {
        Self {
            user,
            ..self.clone()
        }
    }

    /// Every write of the answered client is refused once the term of leadership behind `fence` has ended.
    pub fn fenced(&self, fence: Option<Bytes>) -> Self {
        Self {
            fence,
            ..self.clone()
        }
    }

    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    pub async fn get<K: Kind>(&self, namespace: Option<&str>, name: &str) -> Result<K, Status> {
        self.send(Verb::Get, path::<K>(namespace, name, ""), Bytes::new())
            .await
    }

    pub async fn create<K: Kind>(&self, namespace: Option<&str>, object: &K) -> Result<K, Status> {
        self.send(
            Verb::Post,
            path::<K>(namespace, "", ""),
            encode::<K, K>(object)?,
        )
        .await
    }

    /// Replaces the object (but not its status, where that is a subresource). Fails with a conflict if it has changed.
    pub async fn update<K: Kind>(&self, object: &K) -> Result<K, Status> {
        self.put(object, "").await
    }

    pub async fn update_status<K: Kind>(&self, object: &K) -> Result<K, Status> {
        self.put(object, "status").await
    }

    /// `subresource` is empty for the object itself.
    pub async fn patch<K: Kind>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<K, Status> {
        let (content_type, body) = match patch {
            Patch::Json(body) => ("application/json-patch+json", body),
            Patch::Merge(body) => ("application/merge-patch+json", body),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body),
        };
        let path = path::<K>(namespace, name, subresource);
        decode::<K>(
            &self
                .raw(Verb::Patch, path, content_type, body.to_string().into())
                .await?,
        )
    }

    pub async fn delete<K: Kind>(
        &self,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let mut body = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = options.grace_period_seconds {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(propagation) = options.propagation {
            body["propagationPolicy"] = json!(propagation);
        }
        if let Some(uid) = &options.uid {
            body["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &options.resource_version {
            body["preconditions"]["resourceVersion"] = json!(version);
        }
        let path = path::<K>(namespace, name, "");
        self.raw(
            Verb::Delete,
            path,
            "application/json",
            body.to_string().into(),
        )
        .await
        .map(drop)
    }

    /// Posts to a subresource such as `binding`, `eviction` or `approval`; answers the raw object.
    pub async fn create_subresource<K: Kind>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Status> {
        let path = path::<K>(namespace, name, subresource);
        let answer = self
            .raw(
                Verb::Post,
                path,
                "application/json",
                body.to_string().into(),
            )
            .await?;
        serde_json::from_slice(&answer).map_err(|e| Status::internal_error(e.to_string()))
    }

    /// Replaces a subresource such as `finalize` or `approval` with the whole object as its body.
    pub async fn update_subresource<K: Kind>(
        &self,
        object: &K,
        subresource: &str,
    ) -> Result<K, Status> {
        self.put(object, subresource).await
    }

    /// Any request, any kind: for resources that are only known at run time.
    pub async fn raw(
        &self,
        verb: Verb,
        path: String,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Status> {
        let call = Call {
            user: self.user.clone(),
            verb,
            path,
            content_type,
            body,
            fence: self.fence.clone(),
        };
        self.backend.call(call).await
    }

    async fn put<K: Kind>(&self, object: &K, subresource: &str) -> Result<K, Status> {
        let meta = object.metadata();
        let path = path::<K>(
            meta.namespace.as_deref(),
            meta.name.as_deref().unwrap_or_default(),
            subresource,
        );
        self.send(Verb::Put, path, encode::<K, K>(object)?).await
    }

    async fn send<K: Kind>(&self, verb: Verb, path: String, body: Bytes) -> Result<K, Status> {
        decode::<K>(&self.raw(verb, path, "application/json", body).await?)
    }
}

fn encode<K: Kind, B: Serialize>(body: &B) -> Result<Bytes, Status> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|e| Status::internal_error(format!("{}: {e}", K::KIND)))
}

fn decode<K: Kind>(body: &[u8]) -> Result<K, Status> {
    serde_json::from_slice(body).map_err(|e| Status::internal_error(format!("{}: {e}", K::KIND)))
}

fn path<K: Kind>(namespace: Option<&str>, name: &str, subresource: &str) -> String {
    let mut path = if K::GROUP.is_empty() {
        format!("/api/{}", K::VERSION)
    } else {
        format!("/apis/{}/{}", K::GROUP, K::VERSION)
    };
    if let Some(namespace) = namespace.filter(|n| !n.is_empty()) {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    for part in [K::URL_PATH_SEGMENT, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::path;
    use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};

    #[test]
    fn paths_are_those_of_the_rest_api() {
        assert_eq!(
            path::<Pod>(Some("a"), "b", "status"),
            "/api/v1/namespaces/a/pods/b/status"
        );
        assert_eq!(
            path::<Deployment>(None, "", ""),
            "/apis/apps/v1/deployments"
        );
    }
}
