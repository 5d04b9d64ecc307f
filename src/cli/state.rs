//! Flags of `xebec store` that concern its state: room, history, a new beginning. Named as etcd's.

use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use raft_store::AutoCompaction;

use super::feature_gates::{self, FeatureGate};

#[derive(Args, Debug, Clone)]
pub struct StateArgs {
    /// Size of the state in bytes above which writes are refused and the NOSPACE alarm is raised; 0 means the default
    /// of 2 GiB, a negative number none.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub quota_backend_bytes: i64,
    /// Whether --auto-compaction-retention is a time or a number of revisions.
    #[arg(long, value_enum, default_value_t = CompactionMode::Periodic)]
    pub auto_compaction_mode: CompactionMode,
    /// History to keep: hours or a time such as 30m; or a number of revisions. 0 turns automatic compaction off.
    #[arg(long, value_name = "RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    /// Time between two comparisons of the members' hashes by the leader, such as 1h; a member that differs raises the
    /// CORRUPT alarm. 0 turns it off.
    #[arg(
        long,
        visible_alias = "experimental-corrupt-check-time",
        value_name = "DURATION",
        default_value = "0s"
    )]
    pub corrupt_check_time: String,
    /// Compare this member's hash with the others' before it serves.
    #[arg(
        long,
        visible_alias = "experimental-initial-corrupt-check",
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = super::boolean,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub initial_corrupt_check: bool,
    /// etcd's feature gates, as NAME=BOOL: InitialCorruptCheck is --initial-corrupt-check, the others change nothing.
    #[arg(long, value_name = "GATES", value_delimiter = ',')]
    pub feature_gates: Vec<FeatureGate>,
    /// Make this member's data a new cluster of one, after a majority was lost for good. Data is kept, ids are new.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = super::boolean,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub force_new_cluster: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CompactionMode {
    Periodic,
    Revision,
}

impl StateArgs {
    /// The quota in the store's terms, where 0 is none.
    pub fn quota(&self) -> u64 {
        match self.quota_backend_bytes {
            0 => raft_store::limits::QUOTA_BACKEND_BYTES,
            bytes => u64::try_from(bytes).unwrap_or(0),
        }
    }

    /// How often the members' hashes are compared, if at all.
    pub fn corrupt_check(&self) -> anyhow::Result<Option<Duration>> {
        let interval = duration("corrupt-check-time", &self.corrupt_check_time)?;
        Ok((!interval.is_zero()).then_some(interval))
    }

    /// Whether this member's hash is compared with the others' before it serves.
    pub fn checks_at_start(&self) -> bool {
        self.initial_corrupt_check || feature_gates::initial_corrupt_check(&self.feature_gates)
    }

    /// What is compacted by itself, if anything.
    pub fn auto_compaction(&self) -> anyhow::Result<Option<AutoCompaction>> {
        let retention = &self.auto_compaction_retention;
        let wrong = || anyhow::anyhow!("--auto-compaction-retention: {retention:?} is not valid");
        Ok(match self.auto_compaction_mode {
            CompactionMode::Revision => {
                let revisions: i64 = retention.parse().map_err(|_| wrong())?;
                anyhow::ensure!(revisions >= 0, wrong());
                (revisions > 0).then_some(AutoCompaction::Revision(revisions))
            }
            CompactionMode::Periodic => {
                let period = match retention.parse::<u64>() {
                    Ok(hours) => Duration::from_secs(hours.saturating_mul(3600)),
                    Err(_) => parse_duration(retention).ok_or_else(wrong)?,
                };
                (!period.is_zero()).then_some(AutoCompaction::Periodic(period))
            }
        })
    }
}

/// The value of a flag that is a time.
pub fn duration(flag: &str, text: &str) -> anyhow::Result<Duration> {
    match text {
        "0" => Some(Duration::ZERO),
        _ => parse_duration(text),
    }
    .ok_or_else(|| anyhow::anyhow!("--{flag}: {text:?} is not a time such as 10m"))
}

/// A time as Go writes it: `1h30m`, `300ms`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_read_as_etcd_reads_it() {
        let check = |mode, retention: &str, expect: Result<Option<AutoCompaction>, ()>| {
            let args = StateArgs {
                quota_backend_bytes: 0,
                auto_compaction_mode: mode,
                auto_compaction_retention: retention.to_owned(),
                corrupt_check_time: "0s".to_owned(),
                initial_corrupt_check: false,
                feature_gates: Vec::new(),
                force_new_cluster: false,
            };
            assert_eq!(args.auto_compaction().map_err(drop), expect, "{retention}");
        };
        let seconds = |seconds| Ok(Some(AutoCompaction::Periodic(Duration::from_secs(seconds))));
        check(CompactionMode::Periodic, "0", Ok(None));
        check(CompactionMode::Periodic, "2", seconds(7200));
        check(CompactionMode::Periodic, "1h30m", seconds(5400));
        check(CompactionMode::Periodic, "90s", seconds(90));
        check(CompactionMode::Periodic, "1.5h", seconds(5400));
        check(CompactionMode::Periodic, "0s", Ok(None));
        check(CompactionMode::Periodic, "-1", Err(()));
        check(CompactionMode::Periodic, "5x", Err(()));
        check(CompactionMode::Periodic, "", Err(()));
        check(CompactionMode::Revision, "0", Ok(None));
        check(
            CompactionMode::Revision,
            "1000",
            Ok(Some(AutoCompaction::Revision(1000))),
        );
        check(CompactionMode::Revision, "1h", Err(()));
        check(CompactionMode::Revision, "-5", Err(()));
    }
}
