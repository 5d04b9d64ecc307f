//! What clients see of a connection, whichever way a call goes inside: through gRPC's own client, over a real socket.

use bytes::Bytes;
use etcd_api::{Front, Options};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use xebec_proto::etcdserverpb as pb;
use xebec_proto::etcdserverpb::kv_client::KvClient;
use xebec_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use xebec_proto::etcdserverpb::watch_client::WatchClient;
use xebec_proto::etcdserverpb::watch_request::RequestUnion;

struct Server {
    store: raft_store::Store,
    channel: Channel,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Server {
    /// Ends once no thread of the server's is left: they must not outlive the test's process.
    async fn end(self) {
        self.stop.cancel();
        drop(self.channel);
        self.served.await.expect("serving does not panic");
        self.store.shutdown().await;
    }
}

const MAX_REQUEST_BYTES: usize = 1024 * 1024;

async fn server() -> Server {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = raft_store::Config::new(dir.path().join("data"));
    config.max_request_bytes = MAX_REQUEST_BYTES;
    let store = raft_store::Store::open(config).await.expect("a new store");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let stop = CancellationToken::new();
    let options = Options {
        max_request_bytes: MAX_REQUEST_BYTES,
        ..Options::default()
    };
    let front = Front::new(store.clone(), options, stop.clone());
    let served =
        tokio::spawn(async move { front.serve(listener, None).await.expect("it listens") });
    let channel = Channel::from_shared(url)
        .expect("a URL")
        .connect()
        .await
        .expect("it listens");
    Server {
        store,
        channel,
        stop,
        served,
        _dir: dir,
    }
}

fn put(key: &str, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    }
}

fn prefix(key: &str, end: &str, limit: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        limit,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_size_come_back() {
    let server = server().await;
    let mut kv = KvClient::new(server.channel.clone()).max_decoding_message_size(usize::MAX);
    for size in [0, 1, 255, 1024, 16_384, 65_536, 1_000_000] {
        let value = Bytes::from(vec![b'v'; size]);
        kv.put(put(&format!("size/{size:08}"), value.clone()))
            .await
            .unwrap();
        let found = kv
            .range(prefix(&format!("size/{size:08}"), "", 0))
            .await
            .unwrap();
        assert!(found.into_inner().kvs[0].value == value, "{size}");
    }
    // In a task of its own, and in the connection's.
    for limit in [0, 7] {
        let all = kv.range(prefix("size/", "size0", limit)).await.unwrap();
        assert_eq!(all.into_inner().kvs.len(), 7);
    }
    drop(kv);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_code_and_text() {
    let server = server().await;
    let mut kv = KvClient::new(server.channel.clone());
    let refused = kv.put(put("", "v")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "etcdserver: key is not provided");
    // Larger than a request may be, but not than a message: the store refuses it; and larger than both.
    let large = kv
        .put(put("large", vec![0; MAX_REQUEST_BYTES * 2]))
        .await
        .unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted, "{large}");
    assert!(
        large
            .message()
            .starts_with("grpc: received message larger than max"),
        "{large}"
    );
    // The connection is none the worse.
    kv.put(put("a", "v")).await.unwrap();
    drop(kv);
    server.end().await;
}

/// A request counts as the message that etcd would log for it: 26 bytes around the value of a put with a key of two.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_be_as_large_as_the_limit_to_the_byte() {
    const AROUND: usize = 26;
    let server = server().await;
    let mut kv = KvClient::new(server.channel.clone());
    let largest = MAX_REQUEST_BYTES - AROUND;
    kv.put(put("at", vec![0; largest])).await.unwrap();
    let refused = kv.put(put("at", vec![0; largest + 1])).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: request is too large")
    );
    drop(kv);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_does_not_take_a_part_of_a_snapshot_for_the_whole() {
    let server = server().await;
    let mut kv = KvClient::new(server.channel.clone());
    // More than is on the way at once.
    for number in 0..24 {
        let value = vec![number; 900_000];
        kv.put(put(&format!("{number}"), value)).await.unwrap();
    }
    let mut maintenance = MaintenanceClient::new(server.channel.clone());
    let snapshot = maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap();
    let mut snapshot = snapshot.into_inner();
    assert!(snapshot.message().await.unwrap().is_some());
    server.stop.cancel();
    let end = loop {
        match snapshot.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end}");
    drop((kv, maintenance, snapshot));
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_share_a_connection() {
    let server = server().await;
    let calls = (0..2000).map(|number| {
        let mut kv = KvClient::new(server.channel.clone());
        async move {
            let key = format!("many/{:03}", number % 100);
            kv.put(put(&key, format!("{number}"))).await.unwrap();
            let read = kv.range(prefix(&key, "", 0)).await.unwrap();
            assert_eq!(read.into_inner().kvs.len(), 1);
        }
    });
    futures::future::join_all(calls).await;
    let mut kv = KvClient::new(server.channel.clone());
    let count = kv.range(prefix("many/", "many0", 0)).await.unwrap();
    assert_eq!(count.into_inner().count, 100);
    drop(kv);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_beside_calls_and_end_with_the_server() {
    let server = server().await;
    let create = pb::WatchCreateRequest {
        key: "w/".into(),
        range_end: "w0".into(),
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let requests = futures::stream::iter([request]).chain(futures::stream::pending());
    let mut watch = WatchClient::new(server.channel.clone());
    let mut events = watch.watch(requests).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().unwrap().created);
    let mut kv = KvClient::new(server.channel.clone());
    for number in 0..50 {
        let value = vec![b'x'; 100_000];
        kv.put(put(&format!("w/{number:02}"), value)).await.unwrap();
    }
    let mut seen = 0;
    while seen < 50 {
        seen += events.message().await.unwrap().unwrap().events.len();
    }
    server.stop.cancel();
    assert_eq!(
        events.message().await.unwrap_err().code(),
        Code::Unavailable
    );
    drop((watch, kv));
    server.end().await;
}
