//! Where work runs that must not hold up others: on threads of its own. A simulation has but one thread, and does
//! there in virtual time what elsewhere is done beside it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use rand::Rng;
use tokio::task::JoinHandle;

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
    static SLOWNESS: Cell<u32> = const { Cell::new(1) };
}

/// Lets members that are opened on this thread from now on use no other.
pub fn simulate() {
    SIMULATED.set(true);
}

/// Whether members on this thread are simulated.
pub fn simulated() -> bool {
    SIMULATED.get()
}

/// Makes the simulated disk of what runs next slower, by that factor.
pub fn slow_disk(factor: u32) {
    SLOWNESS.set(factor);
}

/// A time that a simulated disk may take for something: mostly short.
pub fn disk_time() -> Duration {
    let mut random = rand::rng();
    let most = if random.random_ratio(1, 20) {
        50_000
    } else {
        4_000
    };
    SLOWNESS.get() * Duration::from_micros(random.random_range(100..most))
}

/// Does work that blocks, elsewhere.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    if !simulated() {
        return tokio::task::spawn_blocking(work);
    }
    tokio::spawn(async {
        tokio::time::sleep(disk_time()).await;
        work()
    })
}

/// A future that runs beside everything else: on a thread and a runtime of its own.
pub enum Beside {
    Thread(std::thread::JoinHandle<()>),
    Task(JoinHandle<()>),
}

impl Beside {
    /// Starts it on a thread of that name.
    pub fn start<F>(name: &str, make: impl FnOnce() -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if simulated() {
            return Ok(Self::Task(tokio::spawn(make())));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new().name(name.to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(make());
            // What still blocks on the disk is not waited for.
            runtime.shutdown_background();
        });
        Ok(Self::Thread(thread?))
    }

    /// Waits until it has ended; whether it did so without a panic.
    pub async fn ended(self) -> bool {
        match self {
            Self::Thread(thread) => {
                let joined = spawn_blocking(move || thread.join()).await;
                matches!(joined, Ok(Ok(())))
            }
            Self::Task(task) => task.await.is_ok(),
        }
    }
}
