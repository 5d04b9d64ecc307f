//! Times as the API writes them, and ages as `kubectl get` shows them.
//!
//! `metav1.Time` has whole seconds, `metav1.MicroTime` six decimals, both in UTC. The clock is always handed in.

pub use jiff::Timestamp;
use jiff::tz::Offset;

/// `metav1.Time`: `2026-11-22T18:27:26Z`.
pub fn format_time(time: Timestamp) -> String {
    Offset::UTC
        .to_datetime(time)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// `metav1.MicroTime`: `2026-11-22T18:27:26.000123Z`.
pub fn format_micro_time(time: Timestamp) -> String {
    let seconds = Offset::UTC
        .to_datetime(time)
        .strftime("%Y-%m-%dT%H:%M:%S")
        .to_string();
    format!("{seconds}.{:06}Z", time.subsec_microsecond())
}

/// The time between two instants as `kubectl` shows ages: `45s`, `5m10s`, `3d4h`, `2y17d`.
///
/// Up to two seconds of a clock that is behind count as now; more is `<invalid>`.
pub fn human_duration(from: Timestamp, to: Timestamp) -> String {
    human_seconds((to.as_millisecond() - from.as_millisecond()).div_euclid(1000))
}

/// As `human_duration`, for a number of seconds.
pub fn human_seconds(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let pair = |high: i64, unit: &str, low: i64, small: &str| match low {
        0 => format!("{high}{unit}"),
        low => format!("{high}{unit}{low}{small}"),
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => pair(hours / 24, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, "y", hours / 24 % 365, "d"),
        () => format!("{}y", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::parse_time;

    #[test]
    fn times_are_written_as_upstream() {
        let time = parse_time("2026-11-22T19:27:26.123456789+01:00").expect("valid");
        assert_eq!(format_time(time), "2026-11-22T18:27:26Z");
        assert_eq!(format_micro_time(time), "2026-11-22T18:27:26.123456Z");
    }

    #[test]
    fn ages_are_kubectls() {
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (310, "5m10s"),
            (3599, "59m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 300, "3h5m"),
            (47 * 3600, "47h"),
            (76 * 3600, "3d4h"),
            (8 * 86400, "8d"),
            (2 * 365 * 86400 + 17 * 86400, "2y17d"),
            (9 * 365 * 86400, "9y"),
        ] {
            assert_eq!(human_seconds(seconds), expected, "{seconds}");
        }
    }
}
