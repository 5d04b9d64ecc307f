//! Network namespaces for tests: each is a thread of its own, and vanishes with it.
//!
//! It must not know what is tested.

use std::process::Command;
use std::sync::mpsc;
use std::thread;

type Job = Box<dyn FnOnce() + Send>;

/// Says why a test that needs the kernel cannot run here.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it must run as root".to_owned());
    }
    programs
        .iter()
        .find(|program| crate::containerd::find_program(program).is_none())
        .map(|program| format!("{program} is not installed"))
}

/// A thread in a network namespace of its own.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread_id: i32,
}

impl Namespace {
    pub(crate) fn new() -> Namespace {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready
                .send(nix::unistd::gettid().as_raw())
                .expect("the creator waits");
            while let Ok(job) = queue.recv() {
                job();
            }
        });
        let namespace = Namespace {
            jobs,
            thread_id: is_ready.recv().expect("the thread lives"),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs something inside.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (result, received) = mpsc::channel();
        let job = Box::new(move || {
            let _ = result.send(job());
        });
        self.jobs.send(job).expect("the thread lives");
        received.recv().expect("the job did not panic")
    }

    /// Runs async code inside, on a runtime that stays on this thread.
    pub(crate) fn block_on<F>(&self, make: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future,
        F::Output: Send + 'static,
    {
        self.run(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(make())
        })
    }

    /// Runs `ip` with arguments separated by spaces.
    pub(crate) fn ip(&self, arguments: &str) {
        let arguments = arguments.to_owned();
        self.run(move || {
            let program = crate::containerd::find_program("ip").expect("checked before");
            let output = Command::new(program)
                .args(arguments.split(' '))
                .output()
                .expect("ip runs");
            assert!(
                output.status.success(),
                "ip {arguments}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        });
    }

    /// Connects two namespaces by a pair of devices; `other` gets `eth0`.
    pub(crate) fn plug(&self, device: &str, other: &Namespace) {
        self.ip(&format!(
            "link add {device} type veth peer name eth0 netns {}",
            other.thread_id
        ));
        self.ip(&format!("link set {device} up"));
        other.ip("link set eth0 up");
    }
}
