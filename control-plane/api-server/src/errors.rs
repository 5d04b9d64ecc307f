//! The store's and the cache's failures as the answers that a client gets.

use api_machinery::Status;

use crate::cache::FeedError;
use crate::store::StoreError;

/// A failure of the store; a caller that knows better (an expired continue token) looks at the error first.
pub(crate) fn from_store(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => Status::list_expired(),
        StoreError::FutureRevision(revision) => Status::too_large_resource_version(revision, 0, 1),
        StoreError::TooLarge(_) => Status::request_entity_too_large(crate::body::BODY_BYTES_LIMIT),
        StoreError::Unavailable(_) | StoreError::NoSpace | StoreError::Closed => {
            Status::service_unavailable(error.to_string())
        }
        StoreError::Fenced => Status::conflict("", "leadership", "", error),
        StoreError::Unknown(_) => Status::timeout(&error.to_string(), 0),
        StoreError::Internal(_) => Status::internal_error(error),
    }
}

/// The cache did not get as far as a read needs.
pub(crate) fn from_feed(error: FeedError) -> Status {
    match error {
        FeedError::Behind { wanted, current } => {
            Status::too_large_resource_version(wanted, current, 1)
        }
        FeedError::Store(error) => from_store(error),
    }
}
