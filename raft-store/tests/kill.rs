//! kill -9 at any moment loses no acknowledged write: this test runs itself as a child, kills it, and looks.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use raft_store::*;

const CHILD: &str = "RAFT_STORE_KILL_CHILD";

/// In the child: writes as fast as it can from several tasks, and prints each acknowledged write.
async fn child(dir: &str) {
    let store = Store::open(Config::new(dir))
        .await
        .expect("the store opens");
    let tasks: Vec<_> = (0..8)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0u64.. {
                    let key = Bytes::from(format!("{client}/{}", n % 50));
                    let request = PutRequest {
                        key: key.clone(),
                        value: vec![b'v'; 300].into(),
                        ..Default::default()
                    };
                    let revision = store.put(request).await.expect("the put succeeds").revision;
                    let line = format!("acked {revision} {}\n", String::from_utf8_lossy(&key));
                    std::io::stdout()
                        .lock()
                        .write_all(line.as_bytes())
                        .expect("the parent listens");
                    if client == 0 && n % 40 == 39 {
                        // Compaction and its cleaning are under way when the process dies, too.
                        let _ = store.compact(revision - 20, false).await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await
            .expect("the task runs until the process is killed");
    }
}

fn spawn(dir: &std::path::Path) -> Child {
    let program = std::env::current_exe().expect("this test is a program");
    let mut command = Command::new(program);
    command.args(["--exact", "--nocapture", "no_acknowledged_write_is_lost"]);
    command
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command.spawn().expect("the child starts")
}

#[test]
fn no_acknowledged_write_is_lost() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(dir) = std::env::var(CHILD) {
        return runtime.block_on(child(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::BTreeMap::<String, i64>::new();
    for round in 0..6 {
        let mut process = spawn(dir.path());
        let mut lines = BufReader::new(process.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut note = |line: String| {
            if let Some((revision, key)) = line
                .strip_prefix("acked ")
                .and_then(|rest| rest.split_once(' '))
                && let Ok(revision) = revision.parse()
            {
                acknowledged.insert(key.to_owned(), revision);
                return true;
            }
            false
        };
        let mut wanted = 150 + round * 97;
        while wanted > 0 {
            let line = lines.next().expect("the child goes on writing");
            wanted -= usize::from(note(line));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        // What it had printed before it died counts; its last line may be cut.
        let mut rest: Vec<_> = lines.collect();
        rest.pop();
        for line in rest {
            note(line);
        }
        runtime.block_on(check(dir.path(), &acknowledged));
    }
}

async fn check(dir: &std::path::Path, acknowledged: &std::collections::BTreeMap<String, i64>) {
    let store = Store::open(Config::new(dir))
        .await
        .expect("the store opens after a kill");
    let request = RangeRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    let answer = store.range(request).await.expect("the range succeeds");
    for (key, revision) in acknowledged {
        let kv = answer
            .kvs
            .iter()
            .find(|kv| kv.key == key.as_bytes())
            .expect("an acknowledged key is there");
        assert!(
            kv.mod_revision >= *revision,
            "{key} was acknowledged at {revision}, found {}",
            kv.mod_revision
        );
    }
    assert!(answer.revision >= acknowledged.values().copied().max().unwrap_or(0));
    store.hash_kv(0).await.expect("the history is whole");
    store.shutdown().await;
}
