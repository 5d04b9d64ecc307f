//! How long writes stand still when the leader is killed: three members as processes, a writer on each, kill -9 of
//! whoever leads, again and again. Prints the median and the worst. Runs itself as the members.
//!
//! cargo run --release -p raft-store --example failover -- [RUNS]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use raft_store::*;

const MEMBERS: usize = 3;
/// How long the cluster writes before each kill.
const UNDER_LOAD: Duration = Duration::from_secs(3);

enum Event {
    Acknowledged,
    Leads(usize),
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).map(String::as_str) == Some("member") {
        return member(&arguments[2..]);
    }
    let runs = arguments.get(1).and_then(|runs| runs.parse().ok());
    measure(runs.unwrap_or(20));
}

/// A member: its number, its directory, and everyone's port.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn member(arguments: &[String]) {
    let number: usize = arguments[0].parse().expect("a number");
    let url = |port: &String| format!("http://127.0.0.1:{port}");
    let ports = arguments[2..].iter().enumerate();
    let members: Vec<_> = ports
        .map(|(at, port)| (format!("m{at}"), url(port)))
        .collect();
    let mut config = Config::new(&arguments[1]);
    config.name = format!("m{number}");
    config.peer_urls = vec![members[number].1.clone()];
    config.listen_peer_urls = config.peer_urls.clone();
    config.bootstrap = Bootstrap::Static {
        members,
        token: "failover".to_owned(),
    };
    let store = Store::open(config).await.expect("the member opens");
    for writer in 0..4 {
        let store = store.clone();
        tokio::spawn(async move {
            let key = bytes::Bytes::from(format!("{number}/{writer}"));
            loop {
                let request = PutRequest {
                    key: key.clone(),
                    value: vec![b'v'; 256].into(),
                    ..Default::default()
                };
                if store.put(request).await.is_ok() {
                    tell("a");
                }
            }
        });
    }
    let mut leadership = store.leadership();
    loop {
        if leadership.borrow_and_update().is_leader {
            tell("l");
        }
        leadership.changed().await.expect("the member goes on");
    }
}

fn tell(what: &str) {
    let line = format!("{what}\n");
    // The one who listens may have ended.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

fn start(number: usize, dir: &Path, ports: &[String], events: &Sender<Event>) -> Child {
    let program = std::env::current_exe().expect("this is a program");
    let mut child = Command::new(program)
        .args(["member", &number.to_string()])
        .arg(dir.join(format!("m{number}")))
        .args(ports)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a member starts");
    let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let events = events.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let event = match line.as_str() {
                "a" => Event::Acknowledged,
                _ => Event::Leads(number),
            };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    child
}

fn measure(runs: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let port = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        socket.local_addr().expect("an address").port().to_string()
    };
    let ports: Vec<String> = (0..MEMBERS).map(|_| port()).collect();
    let (sender, events) = channel();
    let mut members: Vec<Child> = (0..MEMBERS)
        .map(|number| start(number, dir.path(), &ports, &sender))
        .collect();
    let mut leader = None;
    let mut pauses = Vec::new();
    for run in 0..runs {
        watch(&events, UNDER_LOAD, &mut leader);
        let killed = leader.take().expect("someone leads");
        members[killed].kill().expect("it runs");
        let pause = watch(&events, UNDER_LOAD, &mut leader);
        println!("run {run}: writes stood still for {} ms", pause.as_millis());
        pauses.push(pause);
        members[killed].wait().expect("it has ended");
        members[killed] = start(killed, dir.path(), &ports, &sender);
    }
    for mut member in members {
        // One that has ended already is fine.
        let _ = member.kill();
        let _ = member.wait();
    }
    pauses.sort_unstable();
    println!(
        "median {} ms, worst {} ms of {runs} runs",
        pauses[runs / 2].as_millis(),
        pauses[runs - 1].as_millis()
    );
}

/// Looks on for at least so long, and until someone leads; the longest time without an acknowledged write.
fn watch(events: &Receiver<Event>, least: Duration, leader: &mut Option<usize>) -> Duration {
    let started = Instant::now();
    let (mut last, mut longest) = (started, Duration::ZERO);
    while started.elapsed() < least || leader.is_none() {
        match events.recv_timeout(Duration::from_secs(60)) {
            Ok(Event::Acknowledged) => {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            Ok(Event::Leads(number)) => *leader = Some(number),
            Err(_) => panic!("nothing was written for a minute"),
        }
    }
    longest
}
