//! api-client: how the scheduler, the controllers and other parts inside the process use the API.
//!
//! They are clients like any other: every call names its user and goes through the API server's whole pipeline
//! (authorization, admission, validation), only without HTTP. This crate holds the boundary ([`Backend`]), typed calls
//! over it ([`Client`]), shared informers ([`Informer`]), the work queue ([`WorkQueue`]) and the event recorder
//! ([`EventRecorder`]). It does not know the API server's code, the store, or any controller.

mod backend;
mod client;
mod events;
mod informer;
mod queue;

pub use backend::{Backend, Call, RawEvent, User, Verb, WatchStream};
pub use client::{
    Client, DeleteOptions, Kind, Patch, Propagation, is_already_exists, is_conflict, is_invalid,
    is_not_found,
};
pub use events::{EventRecorder, EventType};
pub use informer::{Change, Informer, Informers, ObjectKey};
pub use queue::WorkQueue;
