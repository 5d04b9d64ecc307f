//! `--max-concurrent-streams`: a call beyond it waits for one to end, with `xebec store` as with etcd 3.4 (3.5.1 has no such
//! flag).

use anyhow::{Context, Result, ensure};
use tests::{Program, StoreProcess};
use tonic::transport::Channel;
use xebec_proto::etcdserverpb::kv_client::KvClient;

use crate::cases::{get, watch_of};
use crate::session::Session;
use crate::watching::Watching;

/// Calls on another connection, while which a call that need not wait would have been answered.
const CALLS_MEANWHILE: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_connection_are_limited() -> Result<()> {
    for program in [Program::Xebec, Program::Etcd34] {
        let store = StoreProcess::start(program, &["--max-concurrent-streams=2"])?;
        check(store.port()).await.with_context(|| program.name())?;
    }
    Ok(())
}

async fn check(port: u16) -> Result<()> {
    let (one, other) = (Session::at(port).await?, Session::at(port).await?);
    let mut watches = Vec::new();
    for _ in 0..2 {
        let mut watch = Watching::open(&one, watch_of("a", "")).await?;
        watch.response().await?;
        watches.push(watch);
    }
    let mut kv: KvClient<Channel> = one.kv();
    let third = tokio::spawn(async move { kv.range(get("a")).await });
    for _ in 0..CALLS_MEANWHILE {
        other.kv().range(get("a")).await?;
    }
    ensure!(!third.is_finished(), "a third stream was let in");
    watches.pop();
    third.await??;
    Ok(())
}
