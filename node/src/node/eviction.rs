//! Below how much of what is free a node counts as under pressure: the kubelet's `--eviction-hard`. Pure.
//!
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>. The share of the disk is k3s's
//! default and not the kubelet's (10 %, and 15 % for images): small disks have room for work below a tenth.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use crate::quantity;

/// Thresholds, each `SIGNAL<QUANTITY` or `SIGNAL<PERCENT%`.
#[derive(Debug, Clone, PartialEq)]
pub struct EvictionHard(Vec<Threshold>);

#[derive(Debug, Clone, PartialEq)]
struct Threshold {
    signal: &'static str,
    resource: Resource,
    amount: Amount,
}

/// What a node may run short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    /// Pods, logs and images lie on one filesystem.
    Disk,
    Inodes,
    Processes,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Units(u64),
    Percent(f64),
}

/// How much there is, and how much of it is free.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Supply {
    pub(crate) free: u64,
    pub(crate) all: u64,
}

/// The kubelet's names of signals.
const SIGNALS: [(&str, Resource); 6] = [
    ("memory.available", Resource::Memory),
    ("nodefs.available", Resource::Disk),
    ("nodefs.inodesFree", Resource::Inodes),
    ("imagefs.available", Resource::Disk),
    ("imagefs.inodesFree", Resource::Inodes),
    ("pid.available", Resource::Processes),
];

impl EvictionHard {
    /// What applies unless told otherwise.
    pub const DEFAULT: &'static str =
        "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,pid.available<10%";

    /// How much must stay free of `all`, in its units.
    pub(crate) fn least(&self, resource: Resource, all: u64) -> u64 {
        let of_it = self.0.iter().filter(|t| t.resource == resource);
        of_it.map(|t| t.amount.of(all)).max().unwrap_or(0)
    }

    /// Whether less is free than must be. What cannot be measured is not short.
    pub(crate) fn short(&self, resource: Resource, supply: Supply) -> bool {
        supply.all > 0 && supply.free < self.least(resource, supply.all)
    }
}

impl Default for EvictionHard {
    fn default() -> Self {
        Self::DEFAULT.parse().expect("the default is valid")
    }
}

impl Amount {
    fn of(self, all: u64) -> u64 {
        match self {
            Amount::Units(units) => units,
            // A share of what a machine has; the last byte does not matter.
            Amount::Percent(percent) => (all as f64 * percent / 100.0) as u64,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let Some(percent) = text.strip_suffix('%') else {
            let units = u64::try_from(quantity::parse(text, 1)?).ok()?;
            return (units > 0).then_some(Amount::Units(units));
        };
        let percent: f64 = percent.parse().ok()?;
        (0.0..=100.0)
            .contains(&percent)
            .then_some(Amount::Percent(percent))
    }
}

impl FromStr for EvictionHard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let thresholds: Vec<Threshold> = parts.map(threshold).collect::<Result<_, _>>()?;
        for (index, one) in thresholds.iter().enumerate() {
            if thresholds[..index].iter().any(|t| t.signal == one.signal) {
                return Err(format!(
                    "duplicate eviction threshold for signal {}",
                    one.signal
                ));
            }
        }
        Ok(Self(thresholds))
    }
}

fn threshold(text: &str) -> Result<Threshold, String> {
    let (signal, amount) = text.split_once('<').ok_or_else(|| {
        format!("invalid eviction threshold {text:?}, expected SIGNAL<QUANTITY or SIGNAL<PERCENT%")
    })?;
    let known = SIGNALS.iter().find(|(name, _)| *name == signal.trim());
    let (signal, resource) = known.ok_or_else(|| {
        let names = SIGNALS.map(|(name, _)| name).join(", ");
        format!(
            "unsupported eviction signal {:?}: one of {names}",
            signal.trim()
        )
    })?;
    let amount = Amount::parse(amount.trim()).ok_or_else(|| {
        format!(
            "eviction threshold {signal}: {:?} is neither a positive quantity like 100Mi nor a share like 5%",
            amount.trim()
        )
    })?;
    Ok(Threshold {
        signal,
        resource: *resource,
        amount,
    })
}

impl Display for EvictionHard {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, threshold) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match threshold.amount {
                Amount::Units(units) => write!(f, "{comma}{}<{units}", threshold.signal)?,
                Amount::Percent(percent) => write!(f, "{comma}{}<{percent}%", threshold.signal)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<EvictionHard>().expect_err(text)
    }

    #[test]
    fn the_strictest_threshold_of_a_resource_counts() {
        let hard: EvictionHard = "nodefs.available<10%, imagefs.available<1Gi"
            .parse()
            .expect("valid");
        assert_eq!(hard.least(Resource::Disk, 100 << 30), 10 << 30);
        assert_eq!(hard.least(Resource::Disk, 5 << 30), 1 << 30);
        assert_eq!(hard.least(Resource::Memory, 1 << 30), 0);
        let short = |free| {
            hard.short(
                Resource::Disk,
                Supply {
                    free,
                    all: 20 << 30,
                },
            )
        };
        assert!(short((2 << 30) - 1) && !short(2 << 30));
        assert!(!hard.short(Resource::Disk, Supply::default()));
    }

    #[test]
    fn an_empty_list_turns_all_off() {
        let hard: EvictionHard = "".parse().expect("valid");
        assert_eq!(hard.least(Resource::Disk, 1 << 40), 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refused("nodefs.available").contains("expected SIGNAL<QUANTITY"));
        assert!(
            refused("nodefs.free<5%").starts_with("unsupported eviction signal \"nodefs.free\"")
        );
        for amount in ["-5%", "101%", "0", "much", ""] {
            assert!(
                refused(&format!("memory.available<{amount}")).contains("neither"),
                "{amount}"
            );
        }
        assert_eq!(
            refused("pid.available<5%,pid.available<6%"),
            "duplicate eviction threshold for signal pid.available"
        );
    }

    #[test]
    fn what_is_printed_is_read_again() {
        let hard = EvictionHard::default();
        assert_eq!(hard.to_string().parse(), Ok(hard));
    }
}
