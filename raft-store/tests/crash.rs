//! Power loss, failing disks and damaged files: nothing acknowledged is lost, nothing damaged is served.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use raft_store::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const CHILD: &str = "RAFT_STORE_CRASH_CHILD";
const SEGMENT: &str = "log/0000000000000001.log";

async fn open(dir: &Path) -> Store {
    let opened = Store::open(Config::new(dir)).await;
    opened.expect("the store opens")
}

async fn put(store: &Store, key: &str, value: Vec<u8>) -> i64 {
    let request = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..Default::default()
    };
    store.put(request).await.expect("the put succeeds").revision
}

async fn all(store: &Store) -> Result<RangeResponse, Error> {
    let request = RangeRequest {
        range: KeyRange::all(),
        ..Default::default()
    };
    store.range(request).await
}

/// Key → revision of its newest acknowledged write.
type Acknowledged = BTreeMap<String, i64>;

async fn check(dir: &Path, acknowledged: &Acknowledged, what: &str) {
    let store = open(dir).await;
    let answer = all(&store).await.expect("the range succeeds");
    for (key, revision) in acknowledged {
        let kv = answer.kvs.iter().find(|kv| kv.key == key.as_bytes());
        let found = kv.map_or(0, |kv| kv.mod_revision);
        assert!(
            found >= *revision,
            "{what}: {key} was acknowledged at {revision}, found {found}"
        );
    }
    store.hash_kv(0).await.expect("the history is whole");
    let next = put(&store, "after", b"x".to_vec()).await;
    assert_eq!(next, answer.revision + 1, "{what}");
    store.shutdown().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory is made");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file is copied");
        }
    }
}

/// Where the records of a log segment end that was never used before.
fn end_of_log(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0).expect("a record");
    (last + 1).next_multiple_of(8)
}

/// A member whose state was flushed once, and the log as it was after each acknowledged write since.
struct Recorded {
    base: PathBuf,
    log: Vec<u8>,
    /// End of the durable log, and what is acknowledged by then.
    acknowledged: Vec<(usize, Acknowledged)>,
}

async fn record(dir: &Path) -> Recorded {
    let (live, base) = (dir.join("live"), dir.join("base"));
    let store = open(&live).await;
    for n in 0..10 {
        put(&store, &format!("early{n}"), vec![b'v'; 100]).await;
    }
    store.shutdown().await;
    drop(store);
    // What a power loss leaves of the state: what was flushed. The rest is in the log.
    copy(&live, &base);
    let store = open(&live).await;
    let mut known = Acknowledged::new();
    let mut acknowledged = Vec::new();
    let mut random = StdRng::seed_from_u64(5);
    for n in 0..24 {
        let key = format!("k{}", n % 7);
        let bytes = random.random_range(0..3000);
        let revision = put(&store, &key, vec![b'v'; bytes]).await;
        known.insert(key, revision);
        let log = fs::read(live.join(SEGMENT)).expect("the log is there");
        acknowledged.push((end_of_log(&log), known.clone()));
    }
    let log = fs::read(live.join(SEGMENT)).expect("the log is there");
    store.shutdown().await;
    Recorded {
        base,
        log,
        acknowledged,
    }
}

impl Recorded {
    /// A copy of the member as of the flush, with this log.
    fn with_log(&self, to: &Path, log: &[u8]) {
        let _ = fs::remove_dir_all(to);
        copy(&self.base, to);
        let mut padded = log.to_vec();
        padded.resize(self.log.len(), 0);
        fs::write(to.join(SEGMENT), padded).expect("the log is written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_loss_at_any_byte_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = record(dir.path()).await;
    let to = dir.path().join("after");
    let mut random = StdRng::seed_from_u64(11);
    for round in 0..24 {
        let at = random.random_range(1..recorded.acknowledged.len());
        let (synced, known) = &recorded.acknowledged[at - 1];
        let end = recorded.acknowledged[at].0;
        // What was written behind the last sync is there up to some byte, or only some of its sectors are.
        let mut log = recorded.log[..end].to_vec();
        let what = if round % 2 == 0 {
            let cut = random.random_range(*synced..end);
            log.truncate(cut);
            format!("cut at {cut}, synced to {synced}")
        } else {
            for sector in log[*synced..].chunks_mut(512) {
                if random.random() {
                    sector.fill(if random.random() { 0 } else { 0xa5 });
                }
            }
            format!("torn between {synced} and {end}")
        };
        recorded.with_log(&to, &log);
        check(&to, known, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_named_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let recorded = record(dir.path()).await;
    let to = dir.path().join("damaged");
    let mut random = StdRng::seed_from_u64(3);
    let last = recorded.acknowledged[recorded.acknowledged.len() - 2].0;
    for _ in 0..8 {
        let at = random.random_range(0..last);
        let mut log = recorded.log.clone();
        log[at] ^= 0x20;
        recorded.with_log(&to, &log);
        match Store::open(Config::new(&to)).await {
            Err(OpenError::LogCorrupt { file, offset, .. }) => {
                assert_eq!(file, to.join(SEGMENT));
                assert!(offset <= at as u64, "byte {at} named as {offset}");
            }
            Err(error) => panic!("byte {at}: {error}"),
            // Padding between records is not summed: then nothing is missing.
            Ok(store) => {
                let (_, known) = recorded.acknowledged.last().unwrap();
                assert!(
                    store.revision() >= *known.values().max().unwrap(),
                    "byte {at}"
                );
                store.shutdown().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_is_named_and_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    let store = open(&live).await;
    for n in 0..400 {
        put(&store, &format!("k{n}"), vec![n as u8; 2000]).await;
    }
    let expected = all(&store).await.unwrap().kvs;
    store.shutdown().await;
    drop(store);
    let to = dir.path().join("damaged");
    let mut named = 0;
    for table in fs::read_dir(live.join("state")).unwrap() {
        let name = table.unwrap().file_name();
        if !name.to_string_lossy().ends_with(".sst") {
            continue;
        }
        let _ = fs::remove_dir_all(&to);
        copy(&live, &to);
        let path = to.join("state").join(&name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 3;
        bytes[middle] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        let error = match Store::open(Config::new(&to)).await {
            Err(error) => error.to_string(),
            Ok(store) => {
                let answer = all(&store).await;
                store.shutdown().await;
                match answer {
                    // The damage is in another family: what is served is right.
                    Ok(answer) => {
                        assert_eq!(answer.kvs, expected);
                        continue;
                    }
                    Err(error) => {
                        assert_eq!(error.code(), Code::DataLoss);
                        error.to_string()
                    }
                }
            }
        };
        assert!(error.contains(&*name.to_string_lossy()), "{error}");
        named += 1;
    }
    assert!(named > 0, "no damage was met");
}

/// In the child: puts and prints what is acknowledged, until the process ends.
async fn child(spec: &str) {
    let (kind, dir) = spec.split_once(':').expect("KIND:DIR");
    let mut config = Config::new(dir);
    config.disk_reserve_bytes = 0;
    let store = Store::open(config).await.expect("the store opens");
    match kind {
        "sync" => fault::fail_log_sync_after(30),
        "clean" => fault::fail_cleaning(),
        _ => {}
    }
    for n in 0..100_000 {
        let key = format!("k{}", n % 50);
        let value = (0..20_000).map(|_| rand::random()).collect();
        let request = PutRequest {
            key: key.clone().into(),
            value,
            ..Default::default()
        };
        let Ok(answer) = store.put(request).await else {
            // The process is about to end.
            std::future::pending::<()>().await;
            unreachable!()
        };
        let line = format!("acked {} {key}\n", answer.revision);
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).expect("the parent listens");
        drop(out);
        if kind == "clean" && n == 30 {
            // Would wait for ever if the process went on.
            let compacted = store.compact(answer.revision, true).await;
            unreachable!("nothing was cleaned: {compacted:?}");
        }
    }
}

/// Runs the child until it ends by itself; what it acknowledged, and what it said.
fn run_child(test: &str, spec: &str) -> (Acknowledged, String) {
    let program = std::env::current_exe().expect("this test is a program");
    let mut command = Command::new(program);
    command.args(["--exact", "--nocapture", test]);
    command
        .env(CHILD, spec)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process: Child = command.spawn().expect("the child starts");
    let mut errors = process.stderr.take().expect("it is piped");
    let said = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut acknowledged = Acknowledged::new();
    let out = BufReader::new(process.stdout.take().expect("it is piped"));
    for line in out.lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["acked", revision, key] = words[..] {
            let revision = revision.parse().expect("a revision");
            acknowledged.insert(key.to_owned(), revision);
        }
    }
    let status = process.wait().expect("the child ends");
    let said = said.join().expect("no panic").expect("it is read");
    assert_eq!(status.code(), Some(1), "{said}");
    (acknowledged, said)
}

#[test]
fn a_failed_sync_ends_the_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(spec) = std::env::var(CHILD) {
        return runtime.block_on(child(&spec));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let spec = format!("sync:{}", path.display());
    let (acknowledged, said) = run_child("a_failed_sync_ends_the_process", &spec);
    let expect = "writing the Raft log failed: Input/output error (os error 5); ending";
    assert!(said.contains(expect), "{said}");
    assert!(acknowledged.len() > 10);
    runtime.block_on(check(&path, &acknowledged, "after a failed sync"));
}

#[test]
fn a_failed_cleaning_ends_the_process() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(spec) = std::env::var(CHILD) {
        return runtime.block_on(child(&spec));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let spec = format!("clean:{}", path.display());
    let (acknowledged, said) = run_child("a_failed_cleaning_ends_the_process", &spec);
    let expect = "cleaning up after a compaction failed: Input/output error (os error 5); ending";
    assert!(said.contains(expect), "{said}");
    assert_eq!(acknowledged.len(), 31);
    // The next run cleans up.
    runtime.block_on(check(&path, &acknowledged, "after a failed cleaning"));
}

#[test]
fn a_disk_full_to_the_brim_ends_the_process_with_advice() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(spec) = std::env::var(CHILD) {
        return runtime.block_on(child(&spec));
    }
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=60m", "tmpfs"])
        .arg(dir.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("not allowed to mount a small disk: nothing was tested");
        return;
    }
    let path = dir.path().join("data");
    let spec = format!("full:{}", path.display());
    let test = "a_disk_full_to_the_brim_ends_the_process_with_advice";
    let (acknowledged, said) = run_child(test, &spec);
    assert!(
        said.contains("the disk is full: make room and start again"),
        "{said}"
    );
    let remounted = Command::new("mount")
        .args(["-o", "remount,size=300m"])
        .arg(dir.path())
        .status();
    assert!(remounted.unwrap().success());
    runtime.block_on(check(&path, &acknowledged, "after a full disk"));
    let _ = Command::new("umount").arg("-l").arg(dir.path()).status();
}
