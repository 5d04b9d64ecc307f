//! Waits, by inotify, for archives that are put into the images folder while the agent runs.
//!
//! It must not know how an import is done.

use rustix::fs::inotify::WatchFlags;
use tokio_util::sync::CancellationToken;

use super::importer::is_archive;
use super::{ImageError, ImagesConfig, Imported, import_all};
use crate::containerd::DirWatch;

pub(super) async fn watch(
    config: ImagesConfig,
    shutdown: CancellationToken,
) -> Result<(), ImageError> {
    let dir = config.archives();
    std::fs::create_dir_all(&dir)
        .map_err(|source| ImageError::file("cannot create", &dir, source))?;
    let error = |source| ImageError::file("cannot watch", &dir, source);
    // A file is complete when its writer closes it or when it is moved into the folder.
    let watch =
        DirWatch::new(&dir, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO).map_err(error)?;
    // What came between the import at start and the watch is not announced.
    report(&import_all(&config).await?);
    loop {
        let changes = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changes = watch.changes() => changes.map_err(error)?,
        };
        let archives = changes.names.iter().any(|name| is_archive(name));
        if !archives && !changes.overflow {
            continue;
        }
        match import_all(&config).await {
            Ok(imported) => report(&imported),
            Err(error) => tracing::warn!(%error, "cannot import image archives"),
        }
    }
}

fn report(imported: &[Imported]) {
    for Imported { archive, result } in imported {
        let archive = archive.display();
        match result {
            Ok(images) => tracing::info!(%archive, ?images, "imported"),
            Err(error) => tracing::warn!(%archive, %error, "not imported"),
        }
    }
}
