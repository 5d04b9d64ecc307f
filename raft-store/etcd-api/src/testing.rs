//! What unit tests of the services share: a front over a store of its own.

use raft_store::{Config, Store};
use tokio_util::sync::CancellationToken;

use crate::front::{Front, Options};

/// The directory must outlive the store; shut that down at the end.
pub(crate) async fn front(options: Options) -> (Front, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Config::new(dir.path())).await.unwrap();
    (Front::new(store, options, CancellationToken::new()), dir)
}
