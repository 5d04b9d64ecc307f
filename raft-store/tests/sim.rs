//! Whole clusters in a simulation: one thread, virtual time, and a seed from which all faults and all chance follow.
//!
//! Each seed runs in a process of its own, so that it finds the same world each time. See docs/adr/0013 for what
//! replays exactly. `SIM_SEEDS=FROM..TO` runs others than the usual ones, `SIM_SECONDS` longer, `SIM_SEED=N` one
//! seed here, saying what happens, with the members' own logs if `SIM_LOG=info`.

#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/history.rs"]
mod history;
#[path = "sim/host.rs"]
mod host;
#[path = "sim/libc_seam.rs"]
mod libc_seam;
#[path = "sim/network.rs"]
mod network;
#[path = "sim/workload.rs"]
mod workload;
#[path = "sim/world.rs"]
mod world;

use std::path::PathBuf;
use std::process::Command;

use world::World;

const TEST: &str = "seeds";
/// Seeds of an ordinary run, and the virtual time with faults of each.
const SEEDS: std::ops::Range<u64> = 1..5;
const SECONDS: u64 = 15;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn seconds() -> u64 {
    variable("SIM_SECONDS").map_or(SECONDS, |text| text.parse().expect("seconds"))
}

/// Runs one seed on this thread and prints what it came to.
fn simulate(seed: u64) -> bool {
    let memory = PathBuf::from("/dev/shm");
    let dir = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let dir = dir.expect("a directory is made");
    if let Some(filter) = variable("SIM_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time();
        log.init();
    }
    let verbose = variable("SIM_QUIET").is_none();
    let mut world = World::new(seed, dir.path().to_owned(), verbose);
    world.run(seconds() * 1_000);
    world.settle();
    let mut history = world.history.lock();
    history.check();
    let (ops, revisions) = (history.ops.len(), history.log.len());
    println!(
        "seed {seed}: {ops} operations, {revisions} revisions, {} hosts, trace {:016x}",
        world.hosts.len(),
        world.net.lock().trace,
    );
    if verbose {
        println!("errors: {:?}", history.errors);
    }
    for violation in history.violations.iter().take(20) {
        println!("seed {seed}: VIOLATION: {violation}");
    }
    history.violations.is_empty()
}

/// Runs a seed in a process of its own; what it printed.
fn child(seed: u64, seconds: u64) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().expect("this test is a program"));
    command.args(["--exact", "--nocapture", TEST]);
    command
        .env("SIM_SEED", seed.to_string())
        .env("SIM_SECONDS", seconds.to_string())
        .env("SIM_QUIET", "1");
    let output = command.output().expect("the child runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said: String = text(&output.stdout)
        .lines()
        .filter(|line| line.starts_with("seed "))
        .map(|line| format!("{line}\n"))
        .collect();
    if !output.status.success() {
        return (false, format!("{said}{}", text(&output.stderr)));
    }
    (true, said)
}

#[test]
fn seeds() {
    if let Some(seed) = variable("SIM_SEED") {
        let seed = seed.parse().expect("a number");
        // A fresh thread: nothing that happened before on this one tells.
        let run = std::thread::spawn(move || simulate(seed));
        assert!(run.join().is_ok_and(|good| good), "seed {seed} failed");
        return;
    }
    let range = variable("SIM_SEEDS").map_or(SEEDS, |text| {
        let (from, to) = text.split_once("..").expect("FROM..TO");
        from.parse().expect("a seed")..to.parse().expect("a seed")
    });
    let mut failed = Vec::new();
    for seed in range {
        let (good, said) = child(seed, seconds());
        print!("{said}");
        if !good {
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "SIM_SEED=N shows what happens; N: {failed:?}"
    );
}

#[test]
fn a_seed_replays() {
    if variable("SIM_SEED").is_some() {
        return;
    }
    let (one, other) = (child(77, 6), child(77, 6));
    assert!(one.0, "{}", one.1);
    assert_eq!(one.1, other.1);
}
