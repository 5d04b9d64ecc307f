//! Exponential backoff in the kubelet's terms: doubled at each failure, forgotten after a long quiet time. Pure: the clock is
//! handed in.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::jiff;

/// First delay before a crashed container is started again; also for image pulls.
pub(crate) const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest delay.
pub(crate) const MAX: SignedDuration = SignedDuration::from_secs(300);

/// The backoff of one thing that may fail again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// The backoff after one more start or try at `now`, for an event (a container's end) at `event`.
    pub(crate) fn next(previous: Option<Backoff>, event: Timestamp, now: Timestamp) -> Backoff {
        let delay = match previous {
            Some(b) if !b.expired(event) => (b.delay * 2).min(MAX),
            _ => INITIAL,
        };
        Backoff {
            delay,
            updated: now,
        }
    }

    /// Until when to hold back after an event at `event`; None if it need not be held back.
    pub(crate) fn until(&self, event: Timestamp, now: Timestamp) -> Option<Timestamp> {
        if self.expired(event) {
            return None;
        }
        let until = event + self.delay;
        (until > now).then_some(until)
    }

    /// The present delay.
    pub(crate) fn delay(&self) -> SignedDuration {
        self.delay
    }

    fn expired(&self, event: Timestamp) -> bool {
        event.duration_since(self.updated) > MAX * 2
    }
}

/// A duration as Kubernetes' messages show it: `10s`, `1m20s`, `5m0s`.
pub(crate) fn format_duration(d: SignedDuration) -> String {
    let seconds = d.as_secs();
    match (seconds / 3600, (seconds / 60) % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s}s"),
        (h, m, s) => format!("{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    #[test]
    fn doubles_to_five_minutes_and_is_forgotten_after_ten() {
        let mut backoff = Backoff::next(None, at(0), at(0));
        let mut seen = vec![format_duration(backoff.delay())];
        for i in 1..7 {
            backoff = Backoff::next(Some(backoff), at(i), at(i));
            seen.push(format_duration(backoff.delay()));
        }
        assert_eq!(
            seen,
            ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]
        );
        assert_eq!(Backoff::next(Some(backoff), at(606), at(606)).delay(), MAX);
        assert_eq!(
            Backoff::next(Some(backoff), at(607), at(607)).delay(),
            INITIAL
        );
    }

    #[test]
    fn holds_back_from_the_event_on() {
        let backoff = Backoff::next(None, at(0), at(100));
        assert_eq!(backoff.until(at(105), at(106)), Some(at(115)));
        assert_eq!(backoff.until(at(105), at(115)), None);
    }
}
