//! When Raft's own clock runs, and a leader's heartbeats.
//!
//! The clock ticks 13/64 of the heartbeat's interval apart, 49 times a second at default timings, and decides two things: that
//! a follower stands for election, and that a leader sends a heartbeat. So it runs only while a member hears of no leader; the
//! heartbeats are sent from here. What an idle member costs is mostly this.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::state_machine::StateMachine;
use super::types::TypeConfig;

type Raft = openraft::Raft<TypeConfig, StateMachine>;
type ServerMetrics = openraft::metrics::RaftServerMetrics<TypeConfig>;

/// Heartbeats that a leader may be late before its followers' clocks run: well before the shortest election timeout, for the
/// clock decides whether it has passed.
const LATE_HEARTBEATS: u32 = 3;

/// What a member has to do with time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// To lead nobody else: nothing happens by itself.
    Alone,
    /// To send heartbeats.
    Lead,
    /// To listen until then.
    Listen(Instant),
    /// To find a leader: Raft's clock runs.
    Seek,
}

impl Duty {
    fn of(metrics: &ServerMetrics, heard: Instant, heartbeat: Duration) -> Self {
        let listens_until = heard + LATE_HEARTBEATS * heartbeat;
        if metrics.state == ServerState::Leader {
            match metrics.membership_config.membership().nodes().count() {
                1 => Duty::Alone,
                _ => Duty::Lead,
            }
        } else if metrics.current_leader.is_some() && listens_until > Instant::now() {
            Duty::Listen(listens_until)
        } else {
            Duty::Seek
        }
    }
}

/// Starts and stops Raft's clock, and sends heartbeats while this member leads others. `heard` tells when the leader was heard
/// of. Ends with Raft.
pub async fn keep_time(raft: &Raft, mut heard: watch::Receiver<Instant>, heartbeat: Duration) {
    let mut metrics = raft.server_metrics();
    let mut beats = interval(heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = true;
    loop {
        let duty = {
            let heard = *heard.borrow_and_update();
            Duty::of(&metrics.borrow_watched(), heard, heartbeat)
        };
        if ticks != (duty == Duty::Seek) {
            ticks = !ticks;
            raft.runtime_config().tick(ticks);
        }
        let silent = match duty {
            Duty::Listen(until) => Some(until),
            _ => None,
        };
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            _ = beats.tick(), if duty == Duty::Lead => {
                if raft.trigger().heartbeat().await.is_err() {
                    return;
                }
            }
            () = sleep_until(silent.unwrap_or_else(Instant::now)), if silent.is_some() => {}
            // A member that listens to nobody hears of none.
            Ok(()) = heard.changed(), if duty == Duty::Seek => {}
        }
    }
}
