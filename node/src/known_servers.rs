//! The API servers that the cluster names: followed, so that no load balancer is needed in front, and kept on disk, so that
//! an agent which starts while the one of its flag is down asks the others.
//!
//! One URL in a line. The file is a help and no more: what cannot be read or written is as if nothing had been known.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::api::Servers;
use crate::network::ServiceCache;

/// The Service that leads to the API servers.
const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";

/// Has `servers` and the file `kept` follow what the cluster names, until `stop`.
pub(crate) async fn follow(
    services: Arc<ServiceCache>,
    servers: Servers,
    kept: Option<PathBuf>,
    stop: CancellationToken,
) {
    let mut progress = services.progress();
    loop {
        // First: the cache may have been filled before this began, and then nothing changes any more.
        let found = named(&services);
        if !found.is_empty()
            && servers.learn(found)
            && let Some(kept) = &kept
        {
            write(kept, &servers.urls());
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// Where the Service leads now.
fn named(services: &ServiceCache) -> Vec<(IpAddr, u16)> {
    let mut found = Vec::new();
    for slice in services
        .state()
        .slices(&(NAMESPACE.to_owned(), NAME.to_owned()))
    {
        let mut ports = slice.ports.iter();
        let Some(port) = ports.find(|port| port.name == "https") else {
            continue;
        };
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
        found.extend(ready.map(|endpoint| (endpoint.address, port.port)));
    }
    found
}

/// None if nothing is kept.
pub(crate) fn read(path: &Path) -> Vec<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the cluster's other API servers are not known");
            String::new()
        }
    };
    text.lines().map(str::to_owned).collect()
}

/// Replaces the file.
pub(crate) fn write(path: &Path, servers: &[String]) {
    let next = path.with_extension("next");
    let written = std::fs::write(&next, servers.join("\n") + "\n");
    if let Err(error) = written.and_then(|()| std::fs::rename(&next, path)) {
        tracing::warn!(path = %path.display(), %error, "the cluster's API servers are not kept for the next start");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::SliceInfo;

    fn cache(master: &str) -> ServiceCache {
        let slice = serde_json::json!({
            "metadata": {"namespace": NAMESPACE, "name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "addressType": "IPv4",
            "ports": [{"name": "https", "port": 6443}],
            "endpoints": [{"addresses": [master]}],
        });
        let slice = serde_json::from_value(slice).unwrap();
        let cache = ServiceCache::empty();
        cache.change(|state| assert!(state.apply_slice(SliceInfo::from_api(&slice).unwrap())));
        cache
    }

    #[tokio::test]
    async fn what_was_named_before_is_learned_too() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("servers");
        let servers = Servers::parse(&["https://10.0.0.1:6443".to_owned()]).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let services = Arc::new(cache("10.0.0.2"));
        follow(services, servers.clone(), Some(path.clone()), stop).await;
        let all = ["https://10.0.0.2:6443", "https://10.0.0.1:6443"];
        assert_eq!(servers.urls(), all);
        assert_eq!(read(&path), all);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("servers");
        assert!(read(&path).is_empty());
        let servers = ["https://10.0.0.1:6443", "https://[fd00::1]:6444"].map(str::to_owned);
        write(&path, &servers);
        assert_eq!(read(&path), servers);
        write(&path, &servers[1..]);
        assert_eq!(read(&path), servers[1..]);
    }
}
