//! Signs of life: each master keeps a key under a lease, with the address of its API, and all follow whose key is there.
//!
//! A new leader gives every lease its full time again, so the lease of the leader before it would hold too long: it asks
//! each master itself, once, and again those that did not answer as long as their key is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use control_plane::LivingMasters;
use futures::future::join_all;
use raft_store::{
    Error, EventKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store, WatchRequest,
    Watcher,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Each master's key is its name below this.
const PREFIX: &str = "/xebec/masters/";
/// How long a sign holds, seconds; the store raises what is below its own minimum.
const TTL_SECONDS: i64 = 2;
const RENEW_EVERY: Duration = Duration::from_millis(500);
/// A master that takes no connection within this is not counted for now.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Enough for a server to see that it is none.
const NO_TLS: &[u8] = b"\r\n\r\n\r\n";
/// The wait after a call of the store that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Keeps this master's sign until `stop`; then takes it away, so that nobody waits for its end.
pub async fn keep_sign(store: Store, name: String, api: SocketAddr, stop: CancellationToken) {
    let mut lease = 0;
    let keeping = async {
        loop {
            if let Err(error) = keep_one(&store, &name, api, &mut lease).await {
                tracing::debug!(%error, "the sign of life is made anew");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    tokio::select! {
        () = keeping => {}
        () = stop.cancelled() => {}
    }
    if lease != 0
        && tokio::time::timeout(ANSWER_LIMIT, store.lease_revoke(lease))
            .await
            .is_err()
    {
        tracing::debug!("the sign of life ends by itself");
    }
}

/// Makes the sign and renews it until it is gone.
async fn keep_one(
    store: &Store,
    name: &str,
    api: SocketAddr,
    lease: &mut i64,
) -> Result<(), Error> {
    let ttl = TTL_SECONDS;
    *lease = store
        .lease_grant(LeaseGrantRequest { id: 0, ttl })
        .await?
        .id;
    let put = PutRequest {
        key: Bytes::from(format!("{PREFIX}{name}")),
        value: Bytes::from(api.to_string()),
        lease: *lease,
        ..PutRequest::default()
    };
    store.put(put).await?;
    let mut ticks = tokio::time::interval(RENEW_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if store.lease_keep_alive(*lease).await?.ttl <= 0 {
            return Err(Error::LeaseNotFound);
        }
    }
}

/// Follows which masters live: the addresses of their APIs by their names. Goes on as long as the store does.
pub fn follow(store: Store) -> LivingMasters {
    let (sender, living) = watch::channel(BTreeMap::new());
    tokio::spawn(async move {
        while !sender.is_closed() {
            match follow_once(&store, &sender).await {
                Err(Error::Stopped) => return,
                Err(error) => tracing::debug!(%error, "the masters' signs are read anew"),
                Ok(()) => return,
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    living
}

/// Whose key is there, and who of them did not answer.
#[derive(Default)]
struct Signs {
    masters: BTreeMap<String, SocketAddr>,
    silent: BTreeSet<String>,
}

impl Signs {
    fn put(&mut self, key: &[u8], value: &[u8]) {
        let name = name(key);
        // One that has just been made is a sign in itself.
        self.silent.remove(&name);
        let address = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        if let Some(address) = address {
            self.masters.insert(name, address);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        let name = name(key);
        self.masters.remove(&name);
        self.silent.remove(&name);
    }

    fn living(&self) -> BTreeMap<String, SocketAddr> {
        let mut living = self.masters.clone();
        living.retain(|name, _| !self.silent.contains(name));
        living
    }

    /// Asks those masters and notes who does not answer.
    async fn ask(&mut self, names: Vec<String>) {
        let asked = names.into_iter().filter_map(|name| {
            let address = *self.masters.get(&name)?;
            Some(async move {
                let answers = tokio::time::timeout(ANSWER_LIMIT, answers(address)).await;
                (name, matches!(answers, Ok(Ok(()))))
            })
        });
        for (name, answers) in join_all(asked).await {
            match answers {
                true => self.silent.remove(&name),
                false => self.silent.insert(name),
            };
        }
    }
}

/// Waits for a sign of the process there. The kernel takes connections for one that hangs, too, so it is told something that
/// is no TLS: whoever lives refuses it.
async fn answers(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(NO_TLS).await?;
    match stream.read(&mut [0]).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

/// Whose key it is.
fn name(key: &[u8]) -> String {
    let name = key.strip_prefix(PREFIX.as_bytes()).unwrap_or(key);
    String::from_utf8_lossy(name).into_owned()
}

async fn follow_once(
    store: &Store,
    living: &watch::Sender<BTreeMap<String, SocketAddr>>,
) -> Result<(), Error> {
    let range = KeyRange::prefix(PREFIX);
    let request = RangeRequest {
        range: range.clone(),
        ..RangeRequest::default()
    };
    let answer = store.range(request).await?;
    let mut signs = Signs::default();
    for kv in &answer.kvs {
        signs.put(&kv.key, &kv.value);
    }
    let mut watcher = store.watch(WatchRequest {
        range,
        start_revision: answer.revision + 1,
        ..WatchRequest::default()
    })?;
    let mut leadership = store.leadership();
    let mut led = false;
    loop {
        let leads = leadership.borrow_and_update().is_leader;
        if leads && !led {
            signs.ask(signs.masters.keys().cloned().collect()).await;
        }
        led = leads;
        let now = signs.living();
        living.send_if_modified(|known| {
            let differs = *known != now;
            known.clone_from(&now);
            differs
        });
        tokio::select! {
            taken = take_in(&mut watcher, &mut signs) => taken?,
            changed = leadership.changed() => changed.map_err(|_| Error::Stopped)?,
            () = tokio::time::sleep(RETRY), if leads && !signs.silent.is_empty() => {
                signs.ask(signs.silent.iter().cloned().collect()).await;
            }
        }
    }
}

async fn take_in(watcher: &mut Watcher, signs: &mut Signs) -> Result<(), Error> {
    let batch = watcher.next().await.map_err(|_| Error::NoLeader)?;
    for event in &batch.events {
        match event.kind {
            EventKind::Put => signs.put(&event.kv.key, &event.kv.value),
            EventKind::Delete => signs.remove(&event.kv.key),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_answer_is_not_counted_until_it_does() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let hangs = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hanging = hangs.local_addr().unwrap();
        // Closed at once, as a server does that is spoken to in no TLS.
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let gone = {
            let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            other.local_addr().unwrap()
        };
        let mut signs = Signs::default();
        signs.put(b"/xebec/masters/a", here.to_string().as_bytes());
        signs.put(b"/xebec/masters/b", gone.to_string().as_bytes());
        let names = |signs: &Signs| signs.living().into_keys().collect::<String>();
        assert_eq!(names(&signs), "ab");
        signs.ask(vec!["a".to_owned(), "b".to_owned()]).await;
        assert_eq!(names(&signs), "a");
        signs.put(b"/xebec/masters/b", gone.to_string().as_bytes());
        assert_eq!(names(&signs), "ab", "it gave a sign");
        signs.put(b"/xebec/masters/c", hanging.to_string().as_bytes());
        signs.ask(vec!["c".to_owned()]).await;
        assert_eq!(
            names(&signs),
            "ab",
            "the kernel takes the connection, nobody answers"
        );
        signs.remove(b"/xebec/masters/a");
        assert_eq!(names(&signs), "b");
    }
}
