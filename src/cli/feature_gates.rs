//! etcd's `--feature-gates`: one of them means something here, the others are known by name.

use std::str::FromStr;

/// The gates of etcd 3.6 and 3.7.
const GATES: &[&str] = &[
    ALL_ALPHA,
    "AllBeta",
    "CompactHashCheck",
    "FastLeaseKeepAlive",
    INITIAL_CORRUPT_CHECK,
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "PriorityRequest",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];

const INITIAL_CORRUPT_CHECK: &str = "InitialCorruptCheck";
/// Every gate that is not beta yet, unless it is named itself.
const ALL_ALPHA: &str = "AllAlpha";

/// A gate and whether it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGate {
    name: &'static str,
    on: bool,
}

impl FromStr for FeatureGate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, on) = text
            .split_once('=')
            .ok_or_else(|| format!("missing bool value for {text}"))?;
        let known = GATES.iter().find(|known| **known == name.trim());
        Ok(Self {
            name: known.ok_or_else(|| format!("unrecognized feature gate: {name}"))?,
            on: super::boolean(on.trim())?,
        })
    }
}

/// Whether a member compares itself with the others before it serves.
pub fn initial_corrupt_check(gates: &[FeatureGate]) -> bool {
    let named = |name| {
        let mut named = gates.iter().rev().filter(move |gate| gate.name == name);
        named.next().map(|gate| gate.on)
    };
    named(INITIAL_CORRUPT_CHECK)
        .or_else(|| named(ALL_ALPHA))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read_as_etcd_reads_them() {
        let check = |text: &str, expect: Result<bool, &str>| {
            let gates: Result<Vec<FeatureGate>, String> =
                text.split(',').map(FeatureGate::from_str).collect();
            let found = gates.map(|gates| initial_corrupt_check(&gates));
            assert_eq!(found, expect.map_err(str::to_owned), "{text}");
        };
        check("InitialCorruptCheck=true", Ok(true));
        check("InitialCorruptCheck=false", Ok(false));
        check("LeaseCheckpoint=true,CompactHashCheck=true", Ok(false));
        check("AllAlpha=true", Ok(true));
        check("InitialCorruptCheck=false,AllAlpha=true", Ok(false));
        check("Nothing=true", Err("unrecognized feature gate: Nothing"));
        check("AllBeta", Err("missing bool value for AllBeta"));
        check("AllBeta=maybe", Err("\"maybe\" is neither true nor false"));
    }
}
