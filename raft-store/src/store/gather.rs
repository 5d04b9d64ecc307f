//! When to wait a moment for the next commands, so that they share one entry.
//!
//! Clients that write as soon as they are answered come back together when they were answered together, but not in the same
//! instant. The only voter would begin an entry with the first of them and let all others wait for the disk; and it spends
//! more on an entry than on a command. So it lets those who were just answered come back first. It tries less and less often
//! where they do not.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::net::unix::pipe::Receiver;

use crate::limits;

/// What is hoped for, and how often that was in vain.
#[derive(Debug, Default)]
struct Gather {
    hope: Option<Hope>,
    /// Occasions to let pass before the next try.
    pass: u32,
    /// Tries in a row in which too few came.
    vain: u32,
}

/// That those who were answered come back.
#[derive(Clone, Copy, Debug)]
struct Hope {
    /// Commands with which all are there.
    all: usize,
    /// When they were answered.
    since: Instant,
    /// Commands that were there when the wait began.
    had: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Take,
    BeginToWait,
    WaitOn,
}

impl Gather {
    /// Commands were answered together while others wait.
    fn answered(&mut self, answered: usize, waiting: usize, now: Instant) {
        let all = answered + waiting;
        self.hope = None;
        if all > limits::GATHERED_COMMANDS {
            // Many clients: a small batch among large ones is no sign of few.
            self.pass = 1 << limits::GATHERING_PAUSE_LOG2;
            return;
        }
        self.hope = Some(Hope {
            all,
            since: now,
            had: None,
        });
    }

    /// What to do with so many commands that wait.
    fn decide(&mut self, waiting: usize, now: Instant) -> Decision {
        let Some(hope) = &mut self.hope else {
            return Decision::Take;
        };
        if waiting == 0 {
            return Decision::Take;
        }
        if waiting >= hope.all {
            (self.hope, self.vain) = (None, 0);
            return Decision::Take;
        }
        if hope.had.is_some() {
            return Decision::WaitOn;
        }
        hope.had = Some(waiting);
        if now.duration_since(hope.since) > limits::GATHERED_WITHIN {
            self.hope = None;
            return Decision::Take;
        }
        if self.pass > 0 {
            self.pass -= 1;
            self.hope = None;
            return Decision::Take;
        }
        Decision::BeginToWait
    }

    /// The time to wait is over.
    fn is_over(&mut self, waiting: usize) {
        let Some(hope) = self.hope.take() else {
            return;
        };
        let had = hope.had.unwrap_or(waiting);
        let (came, hoped) = (waiting.saturating_sub(had), hope.all.saturating_sub(had));
        if 2 * came >= hoped {
            self.vain = 0;
        } else {
            self.vain = (self.vain + 1).min(limits::GATHERING_PAUSE_LOG2);
            self.pass = 1 << self.vain;
        }
    }
}

/// Decides, and keeps the time.
pub struct Gathering {
    gather: Gather,
    timer: Timer,
}

impl Gathering {
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            gather: Gather::default(),
            timer: Timer::new()?,
        })
    }

    /// Commands were answered together while others wait.
    pub fn answered(&mut self, answered: usize, waiting: usize) {
        self.gather.answered(answered, waiting, Instant::now());
    }

    /// Whether more are worth waiting for than so many.
    pub fn waits(&mut self, waiting: usize) -> bool {
        match self.gather.decide(waiting, Instant::now()) {
            Decision::Take => false,
            Decision::WaitOn => true,
            Decision::BeginToWait => match self.timer.set(limits::GATHERING_TIME) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "the timer for gathering commands was not set");
                    self.gather.hope = None;
                    false
                }
            },
        }
    }

    /// Waits until the time to wait is over.
    pub async fn time(&self) {
        if let Err(error) = self.timer.rings().await {
            tracing::warn!(%error, "the timer for gathering commands failed");
        }
    }

    /// It is.
    pub fn is_over(&mut self, waiting: usize) {
        self.gather.is_over(waiting);
    }
}

/// Rings once after less than a millisecond, which tokio's own clock cannot.
struct Timer {
    timer: TimerFd,
    /// The same timer: tokio waits for it as it does for the end of a pipe.
    rung: Receiver,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let same = timer.as_fd().try_clone_to_owned()?;
        let rung = Receiver::from_owned_fd_unchecked(same)?;
        Ok(Self { timer, rung })
    }

    /// Sets when it rings next, in place of what was set before.
    fn set(&self, after: Duration) -> io::Result<()> {
        let expiration = Expiration::OneShot(TimeSpec::from_duration(after));
        Ok(self.timer.set(expiration, TimerSetTimeFlags::empty())?)
    }

    /// Waits until it rings.
    async fn rings(&self) -> io::Result<()> {
        let mut times = [0; 8];
        loop {
            self.rung.readable().await?;
            match self.rung.try_read(&mut times) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_answered_together_is_taken_together() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        assert_eq!(gather.decide(1, now), Decision::Take, "nobody was answered");
        gather.answered(10, 0, now);
        assert_eq!(gather.decide(0, now), Decision::Take);
        assert_eq!(gather.decide(1, now), Decision::BeginToWait);
        assert_eq!(gather.decide(9, now), Decision::WaitOn);
        assert_eq!(gather.decide(10, now), Decision::Take);
        assert_eq!(gather.decide(11, now), Decision::Take, "it is over");
        gather.answered(5, 5, now);
        assert_eq!(gather.decide(5, now), Decision::BeginToWait);
    }

    #[test]
    fn nobody_waits_for_what_will_not_come() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        gather.answered(1, 0, now);
        assert_eq!(gather.decide(1, now), Decision::Take, "a lone client");
        gather.answered(10, 0, now);
        let late = now + 2 * limits::GATHERED_WITHIN;
        assert_eq!(gather.decide(1, late), Decision::Take, "long ago");
        gather.answered(limits::GATHERED_COMMANDS, 1, now);
        assert_eq!(gather.decide(1, now), Decision::Take, "enough");
        gather.answered(10, 0, now);
        assert_eq!(gather.decide(1, now), Decision::Take, "few of many");
    }

    #[test]
    fn it_is_tried_less_often_where_they_do_not_come() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        let mut tries = |came: usize| {
            let mut tried = 0;
            for _ in 0..100 {
                gather.answered(10, 0, now);
                if gather.decide(1, now) == Decision::BeginToWait {
                    tried += 1;
                    gather.is_over(1 + came);
                }
            }
            tried
        };
        assert_eq!(tries(1), 6, "after 2, 4, 8, … occasions");
        assert!(tries(8) > 30, "most come: it pays");
    }

    #[tokio::test]
    async fn the_timer_rings_once_it_is_set() {
        let timer = Timer::new().unwrap();
        timer.set(Duration::from_secs(1000)).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(5), timer.rings()).await;
        assert!(early.is_err());
        timer.set(Duration::from_micros(50)).unwrap();
        timer.rings().await.unwrap();
    }
}
