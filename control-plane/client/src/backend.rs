//! The boundary to the API server: one request in, one answer out, and a stream of changes per resource.
//!
//! The API server implements [`Backend`]; everything else in the control plane only calls it.

use std::pin::Pin;
use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;

/// Who is asking, as the authorizer and the audit log see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    /// A controller's own identity, `system:serviceaccount:kube-system:NAME`.
    pub fn controller(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: format!("system:serviceaccount:kube-system:{name}"),
            groups: vec![
                "system:serviceaccounts".into(),
                "system:serviceaccounts:kube-system".into(),
                "system:authenticated".into(),
            ],
        })
    }

    /// A component with a user name of its own, such as `system:kube-scheduler`.
    pub fn component(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            groups: vec!["system:authenticated".into()],
        })
    }
}

/// The HTTP method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// One request, as it would stand in HTTP.
#[derive(Clone, Debug)]
pub struct Call {
    pub user: Arc<User>,
    pub verb: Verb,
    /// Path and query, e.g. `/api/v1/namespaces/default/pods?limit=5`.
    pub path: String,
    /// Media type of the body; only a patch needs one other than `application/json`.
    pub content_type: &'static str,
    pub body: Bytes,
    /// The term of leadership that the writer acts under; the store refuses the write when it has ended.
    pub fence: Option<Bytes>,
}

/// One change of one resource. `json` is the object in its storage version, resourceVersion included.
#[derive(Clone, Debug)]
pub enum RawEvent {
    /// The object exists now in this form (created or changed).
    Applied { json: Bytes },
    /// The object is gone; `json` is its last state.
    Deleted { json: Bytes },
    /// Everything that existed at the start has been delivered.
    Synced,
    /// The stream starts over (history was lost): forget what was known; all objects follow, then `Synced`.
    Restarted,
}

/// Changes of one resource, without an end.
pub type WatchStream = Pin<Box<dyn Stream<Item = RawEvent> + Send>>;

/// The API server, as its neighbours in the process see it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs the whole pipeline; answers the JSON body, or the `Status` that a client would have got.
    async fn call(&self, call: Call) -> Result<Bytes, Status>;

    /// All objects of a resource, then every change. Trusted: not authorized, meant for shared informers.
    fn watch(&self, group: &str, plural: &str) -> Result<WatchStream, Status>;
}
