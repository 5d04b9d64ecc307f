//! What etcd promises and at times breaks: these cases are not compared, and must end well with `xebec store`.

use anyhow::{Context, Result, ensure};

use super::{put, watch_of};
use crate::session::Session;
use crate::watching::Watching;

crate::cases!("promises": progress_never_overtakes);

/// A progress that names a revision comes after all events up to it (etcd's issue 15220).
async fn progress_never_overtakes(s: &mut Session) -> Result<()> {
    const WRITES: i64 = 300;
    let mut watch = Watching::open(s, watch_of("pn", "")).await?;
    watch.response().await?;
    let (mut kv, last) = (s.kv(), s.base() + WRITES);
    let writes = tokio::spawn(async move {
        for _ in 0..WRITES {
            kv.put(put("pn", "x")).await?;
        }
        anyhow::Ok(())
    });
    let (mut seen, mut told) = (s.base(), 0);
    while seen < last || told == 0 {
        watch.ask_progress().await?;
        let response = watch.response().await?;
        let revision = response.header.context("a header")?.revision;
        match response.events.last().and_then(|event| event.kv.as_ref()) {
            Some(newest) => seen = newest.mod_revision,
            None => {
                ensure!(revision == seen, "progress {revision} after event {seen}");
                told += 1;
            }
        }
    }
    writes.await??;
    s.note("no progress came too early");
    Ok(())
}
