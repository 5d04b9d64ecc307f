//! One simulated machine: a member on a runtime and a clock of its own. Its power can fail, it can stand still, its
//! clock runs fast or slow.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use raft_store::{Config, OpenError, Store, fault};
use tokio::runtime::Runtime;

use super::history::Shared;
use super::libc_seam;
use super::network::Net;

/// What the member that runs there has come to.
#[derive(Clone, Default)]
pub enum Life {
    #[default]
    Starting,
    Serving(Store),
    /// It cannot go on, and says why.
    Over(String),
    /// It was stopped, as by a service manager.
    Stopped,
}

pub type Slot = Arc<Mutex<Life>>;

pub struct Host {
    pub config: Config,
    pub slot: Slot,
    pub runtime: Option<Runtime>,
    /// What its clock shows, and shall have shown, nanoseconds.
    now: u64,
    target: u64,
    /// Nanoseconds of its clock in a millisecond.
    rate: u64,
    /// What its clock must show before it does anything by itself.
    idle_until: Cell<u64>,
    /// It stands still until that moment of the world's time.
    pub stands_until: u64,
    /// How much longer its disk takes.
    pub slowness: u32,
    /// It is out of the game for good.
    pub retired: bool,
    /// When it is to be started again.
    pub starts_at: u64,
    /// Its clients were started.
    pub busy: bool,
}

impl Host {
    pub fn new(number: usize, config: Config, rate: u64) -> Self {
        let now = 1_000_000_000_000 * (number as u64 + 1);
        Self {
            config,
            slot: Slot::default(),
            runtime: None,
            now,
            target: now,
            rate,
            idle_until: Cell::new(0),
            stands_until: 0,
            slowness: 1,
            retired: false,
            starts_at: 0,
            busy: false,
        }
    }

    pub fn store(&self) -> Option<Store> {
        match &*self.slot.lock().expect("nobody panicked with it") {
            Life::Serving(store) => Some(store.clone()),
            _ => None,
        }
    }

    pub fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    pub fn start(&mut self, history: &Shared) {
        libc_seam::set_clock(self.now);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime is made");
        self.slot = Slot::default();
        self.busy = false;
        runtime.spawn(live(
            self.config.clone(),
            self.slot.clone(),
            history.clone(),
        ));
        self.runtime = Some(runtime);
        self.poke();
    }

    /// Something may have happened to it from outside.
    pub fn poke(&self) {
        self.idle_until.set(0);
    }

    /// Starts a task there.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.as_ref().expect("it is up");
        runtime.spawn(task);
        self.poke();
    }

    /// Lets a millisecond of the world's time pass.
    pub fn run(&mut self, world: u64) {
        self.target += self.rate;
        let Some(runtime) = &self.runtime else {
            self.now = self.target;
            return;
        };
        if world < self.stands_until || self.now >= self.target {
            return;
        }
        if self.target < self.idle_until.get() {
            return;
        }
        fault::slow_disk(self.slowness);
        // A host that stood still, or had nothing to do, finds that time has passed.
        let now = self.now.max(self.target - self.rate);
        self.idle_until
            .set(libc_seam::run(runtime, now, self.target));
        self.now = libc_seam::clock();
    }

    /// The power fails: what was not synced is lost, in part or whole, and nobody is told.
    pub fn lose_power(&mut self, net: &Net) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        let data = &self.config.data_dir;
        // The state's database writes what it holds when it is closed: what it has written by now is kept aside.
        let kept = Kept::of(data);
        net.lock().silent = true;
        fault::lose_power(true);
        libc_seam::set_clock(self.now);
        self.slot = Slot::default();
        drop(runtime);
        fault::lose_power(false);
        net.lock().silent = false;
        kept.put_back(data);
    }

    /// A process that has ended by itself is cleared away.
    pub fn clear(&mut self) {
        libc_seam::set_clock(self.now);
        self.slot = Slot::default();
        drop(self.runtime.take());
    }
}

async fn live(config: Config, slot: Slot, history: Shared) {
    let set = |life| *slot.lock().expect("nobody panicked with it") = life;
    let mut attempts = 0;
    let store = loop {
        match Store::open(config.clone()).await {
            Ok(store) => break store,
            // Those that would tell may be out of reach.
            Err(OpenError::NoCluster { .. } | OpenError::NotAdded { .. }) if attempts < 20 => {
                attempts += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(
                error @ (OpenError::NoCluster { .. }
                | OpenError::NotAdded { .. }
                | OpenError::Removed { .. }),
            ) => return set(Life::Over(error.to_string())),
            Err(error) => {
                history.violation(format!("{} does not open: {error}", config.name));
                return set(Life::Over(error.to_string()));
            }
        }
    };
    set(Life::Serving(store.clone()));
    let why = store.ended().await;
    set(Life::Over(why));
}

type Files = Vec<(PathBuf, Vec<u8>)>;

/// The databases of a state as they lie on disk.
struct Kept(Vec<(PathBuf, Files)>);

impl Kept {
    fn of(data: &Path) -> Self {
        loop {
            // A file that goes while others are read: then once more.
            if let Ok(kept) = Self::read(data) {
                return kept;
            }
        }
    }

    fn read(data: &Path) -> std::io::Result<Self> {
        let mut states = Vec::new();
        // One that was not let in yet has nothing.
        if !data.is_dir() {
            return Ok(Self(states));
        }
        for entry in std::fs::read_dir(data)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("state") {
                continue;
            }
            let mut paths = Vec::new();
            for file in std::fs::read_dir(entry.path())? {
                paths.push(file?.path());
            }
            // What the manifest names is there, for it is read first.
            paths.sort_by_key(|path| {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                (
                    !name.starts_with("CURRENT"),
                    !name.starts_with("MANIFEST"),
                    name,
                )
            });
            let mut files = Vec::new();
            for path in paths {
                let bytes = std::fs::read(&path)?;
                files.push((path, bytes));
            }
            states.push((entry.path(), files));
        }
        Ok(Self(states))
    }

    fn put_back(self, data: &Path) {
        if !data.is_dir() {
            return;
        }
        let clear = |path: &Path| std::fs::remove_dir_all(path).expect("it can be removed");
        for entry in std::fs::read_dir(data).expect("it is there") {
            let entry = entry.expect("it can be read");
            if entry.file_name().to_string_lossy().starts_with("state") {
                clear(&entry.path());
            }
        }
        for (path, files) in self.0 {
            std::fs::create_dir_all(path).expect("it can be made");
            for (path, bytes) in files {
                std::fs::write(path, bytes).expect("it can be written");
            }
        }
    }
}
