//! Members in one process over loopback, and a switch that cuts the connections of some.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use raft_store::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

pub const LIMIT: Duration = Duration::from_secs(60);

/// Cuts members off, and counts what is sent to them.
#[derive(Clone)]
pub struct Switch(Arc<watch::Sender<Wires>>);

#[derive(Default)]
struct Wires {
    /// URLs of members that nobody reaches and who reach nobody.
    cut: BTreeSet<String>,
    /// Bytes written on connections that others made to a URL.
    sent: BTreeMap<String, u64>,
    /// What is sent to a URL at which it is cut off by itself.
    limits: BTreeMap<String, u64>,
}

impl Default for Switch {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Wires::default())))
    }
}

impl Switch {
    pub fn cut(&self, url: &str) {
        self.0.send_modify(|wires| {
            wires.cut.insert(url.to_owned());
        });
    }

    pub fn mend(&self, url: &str) {
        self.0.send_modify(|wires| {
            wires.cut.remove(url);
        });
    }

    /// Cuts the member off once so many more bytes were sent to it.
    pub fn cut_after(&self, url: &str, bytes: u64) {
        let limit = self.sent(url) + bytes;
        self.0.send_modify(|wires| {
            wires.limits.insert(url.to_owned(), limit);
        });
    }

    /// Waits until the member is cut off.
    pub async fn until_cut(&self, url: &str) {
        let mut wires = self.0.subscribe();
        within(wires.wait_for(|wires| wires.cut.contains(url)))
            .await
            .unwrap();
    }

    /// Bytes sent to the member so far.
    pub fn sent(&self, url: &str) -> u64 {
        self.0.borrow().sent.get(url).copied().unwrap_or(0)
    }

    fn count(&self, url: &str, bytes: usize) {
        self.0.send_modify(|wires| {
            let sent = wires.sent.entry(url.to_owned()).or_default();
            *sent += bytes as u64;
            if wires.limits.get(url).is_some_and(|limit| *sent >= *limit) {
                wires.limits.remove(url);
                wires.cut.insert(url.to_owned());
            }
        });
    }

    fn is_cut(&self, urls: &[String; 2]) -> bool {
        let wires = self.0.borrow();
        urls.iter().any(|url| wires.cut.contains(url))
    }
}

/// TCP as one member sees it, through the switch.
struct Switched {
    tcp: Tcp,
    own: String,
    switch: Switch,
}

#[async_trait::async_trait]
impl PeerNetwork for Switched {
    async fn dial(&self, url: &str) -> io::Result<Box<dyn PeerStream>> {
        let ends = [self.own.clone(), url.to_owned()];
        if self.switch.is_cut(&ends) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let stream = self.tcp.dial(url).await?;
        let switch = self.switch.clone();
        Ok(Box::new(Stream {
            stream,
            ends,
            switch,
        }))
    }

    async fn listen(&self, url: &str) -> io::Result<Box<dyn PeerListener>> {
        self.tcp.listen(url).await
    }
}

struct Stream {
    stream: Box<dyn PeerStream>,
    ends: [String; 2],
    switch: Switch,
}

impl Stream {
    fn check(&self) -> io::Result<()> {
        if self.switch.is_cut(&self.ends) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let [_, to] = &self.ends;
        self.switch.count(to, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Some members of one cluster; each may be down.
pub struct Cluster {
    _dir: tempfile::TempDir,
    pub configs: Vec<Config>,
    pub members: Vec<Option<Store>>,
    pub switch: Switch,
}

pub fn free_url() -> String {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", socket.local_addr().unwrap())
}

impl Cluster {
    /// Founds a cluster of `size` members and waits until all know each other.
    pub async fn found(size: usize) -> Self {
        Self::found_with(size, |_| {}).await
    }

    /// The same with what `tune` does to their configuration.
    pub async fn found_with(size: usize, tune: impl Fn(&mut Config)) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Only the first test of a process sets it.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).try_init();
        let dir = tempfile::tempdir().unwrap();
        let named = |at: usize| (format!("m{at}"), free_url());
        let list: Vec<(String, String)> = (0..size).map(named).collect();
        let mut cluster = Self {
            configs: Vec::new(),
            members: Vec::new(),
            switch: Switch::default(),
            _dir: dir,
        };
        for (name, url) in &list {
            let bootstrap = Bootstrap::Static {
                members: list.clone(),
                token: "test".to_owned(),
            };
            let at = cluster.add_config(name, url, bootstrap);
            tune(&mut cluster.configs[at]);
        }
        for at in 0..size {
            cluster.start(at).await;
        }
        for member in cluster.members.iter().flatten() {
            within(member.ready()).await.unwrap();
        }
        cluster
    }

    pub fn add_config(&mut self, name: &str, url: &str, bootstrap: Bootstrap) -> usize {
        let mut config = Config::new(self.dir(name));
        config.name = name.to_owned();
        config.peer_urls = vec![url.to_owned()];
        config.listen_peer_urls = vec![url.to_owned()];
        config.client_urls = vec![format!("http://{name}:2379")];
        config.bootstrap = bootstrap;
        config.peer_network = Some(Arc::new(Switched {
            tcp: Tcp::default(),
            own: url.to_owned(),
            switch: self.switch.clone(),
        }));
        self.configs.push(config);
        self.members.push(None);
        self.configs.len() - 1
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self._dir.path().join(name)
    }

    pub fn url(&self, at: usize) -> String {
        self.configs[at].peer_urls[0].clone()
    }

    pub async fn start(&mut self, at: usize) {
        self.members[at] = Some(open(&self.configs[at]).await);
    }

    /// The member stops at once, as if it were killed.
    pub async fn abort(&mut self, at: usize) {
        let store = self.members[at].take().expect("it runs");
        drop(store);
        self.await_closed(at).await;
    }

    /// Ends all members, so that none is at work when the process ends.
    pub async fn close(mut self) {
        for store in self.members.drain(..).flatten() {
            within(store.shutdown()).await;
        }
    }

    pub async fn shutdown(&mut self, at: usize) {
        let store = self.members[at].take().expect("it runs");
        within(store.shutdown()).await;
        drop(store);
        self.await_closed(at).await;
    }

    /// Until the directory's lock is free.
    async fn await_closed(&self, at: usize) {
        let lock = self.configs[at].data_dir.join("LOCK");
        let file = std::fs::File::open(lock).unwrap();
        let closed = tokio::task::spawn_blocking(move || file.lock());
        within(closed).await.unwrap().unwrap();
    }

    pub fn member(&self, at: usize) -> &Store {
        self.members[at].as_ref().expect("it runs")
    }

    pub fn running(&self) -> Vec<usize> {
        let running = |at: &usize| self.members[*at].is_some();
        (0..self.members.len()).filter(running).collect()
    }

    /// Waits until a running member other than `not` leads.
    pub async fn leader(&self, not: Option<usize>) -> usize {
        let led = self.running().into_iter().map(|at| {
            let mut leadership = self.member(at).leadership();
            Box::pin(async move {
                match leadership.wait_for(|now| now.is_leader).await {
                    Ok(_) => at,
                    Err(_) => std::future::pending().await,
                }
            })
        });
        let candidates: Vec<_> = led
            .zip(self.running())
            .filter(|(_, at)| Some(*at) != not)
            .map(|(leads, _)| leads)
            .collect();
        within(futures::future::select_all(candidates)).await.0
    }

    /// Waits until all running members have applied what the newest has, and compares their hashes.
    pub async fn check_equal(&self) {
        let running = self.running();
        let newest = running.iter().map(|at| self.member(*at).revision()).max();
        let newest = newest.unwrap();
        let mut hashes = BTreeSet::new();
        for at in running {
            let mut applied = self.member(at).applied();
            within(applied.wait_for(|revision| *revision >= newest))
                .await
                .unwrap();
            let hash = self.member(at).hash_kv(newest).await.unwrap();
            hashes.insert((hash.hash, hash.compact_revision));
        }
        assert_eq!(hashes.len(), 1, "the members differ");
    }
}

/// Opens a member; one of the same directory may still be closing in this process.
pub async fn open(config: &Config) -> Store {
    let opened = async {
        loop {
            match Store::open(config.clone()).await {
                Ok(store) => return store,
                Err(OpenError::State(error)) if error.contains("lock hold") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("the member does not open: {error}"),
            }
        }
    };
    within(opened).await
}

pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work)
        .await
        .expect("it takes less time")
}

pub async fn try_put(store: &Store, key: &str, value: &str) -> Result<i64, Error> {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value: Bytes::from(value.to_owned()),
        ..Default::default()
    };
    store.put(request).await.map(|answer| answer.revision)
}

pub async fn put(store: &Store, key: &str, value: &str) -> i64 {
    within(try_put(store, key, value))
        .await
        .expect("the put succeeds")
}

pub async fn get(store: &Store, key: &str) -> Option<(String, i64)> {
    let request = RangeRequest {
        range: KeyRange::single(Bytes::from(key.to_owned())),
        ..Default::default()
    };
    let answer = within(store.range(request))
        .await
        .expect("the range succeeds");
    let kv = answer.kvs.into_iter().next()?;
    Some((String::from_utf8(kv.value.to_vec()).unwrap(), kv.version))
}
