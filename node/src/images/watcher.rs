//! Waits, by inotify, for archives that are put into the images folder while the agent runs.
//!
//! It must not know how an import is done.

use rustix::fs::inotify::WatchFlags;
use tokio_util::sync::CancellationToken;

use super::importer::{import_all, is_archive};
use super::{ImageError, ImagesConfig};
use crate::containerd::DirWatch;

pub(super) async fn watch(config: ImagesConfig, shutdown: CancellationToken) -> Result<(), ImageError> {
    let dir = config.archives();
    std::fs::create_dir_all(&dir).map_err(|source| ImageError::file("cannot create", &dir, source))?;
    let error = |source| ImageError::file("cannot watch", &dir, source);
    // A file is complete when its writer closes it or when it is moved into the folder.
    let watch = DirWatch::new(&dir, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO).map_err(error)?;
    // What came between the import at start and the watch is not announced.
    import_all(&config).await?;
    loop {
        let changes = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changes = watch.changes() => changes.map_err(error)?,
        };
        if (changes.overflow || changes.names.iter().any(|name| is_archive(name)))
            && let Err(error) = import_all(&config).await
        {
            tracing::warn!(%error, "cannot import image archives");
        }
    }
}
