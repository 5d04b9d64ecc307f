//! From a seed to a schedule: which faults, on whom, when and for how long. Pure: the same seed, the same schedule.

use std::time::Duration;

use super::{Kind, Target};
use crate::random::Random;

/// Faults that begin together, and when all is well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub lasts: Duration,
    pub strikes: Vec<Strike>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    pub kind: Kind,
    pub target: Target,
    /// Decides what is still open when it strikes.
    pub random: u64,
}

/// Milliseconds of a fault, and of the calm after it.
const FAULT_MS: (u64, u64) = (1500, 8000);
const CALM_MS: (u64, u64) = (1500, 6000);
/// Before the first fault, and after the last.
const QUIET: Duration = Duration::from_secs(3);
/// How often a second fault comes with the first.
const SECOND_PERCENT: u64 = 20;

const TARGETS: [Target; 4] = [
    Target::Leader,
    Target::Follower,
    Target::Random,
    Target::Majority,
];

/// Every one of the faults comes once, in some order, before any comes again.
pub fn schedule(seed: u64, length: Duration, kinds: &[Kind]) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut steps = Vec::new();
    let mut round: Vec<Kind> = Vec::new();
    let mut at = QUIET;
    while !kinds.is_empty() {
        if round.is_empty() {
            round = kinds.to_vec();
            random.shuffle(&mut round);
        }
        let first = round.pop().expect("filled above");
        let mut strikes = vec![strike(first, &mut random)];
        if random.percent(SECOND_PERCENT) && !changes_processes(first) {
            let second = *random.pick(kinds);
            if second != first && !changes_processes(second) {
                strikes.push(strike(second, &mut random));
            }
        }
        let lasts = Duration::from_millis(random.between(FAULT_MS.0, FAULT_MS.1));
        let calm = Duration::from_millis(random.between(CALM_MS.0, CALM_MS.1));
        if at + lasts + QUIET > length {
            break;
        }
        steps.push(Step { at, lasts, strikes });
        at += lasts + calm;
    }
    steps
}

/// These need the other members; what else happened to them meanwhile would only make them fail.
fn changes_processes(kind: Kind) -> bool {
    matches!(kind, Kind::Members | Kind::RollingRestart | Kind::All)
}

fn strike(kind: Kind, random: &mut Random) -> Strike {
    Strike {
        kind,
        target: *random.pick(&TARGETS),
        random: random.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_schedule_in_which_every_fault_comes() {
        let kinds: Vec<Kind> = Kind::all().collect();
        let length = Duration::from_secs(600);
        let steps = schedule(7, length, &kinds);
        assert_eq!(steps, schedule(7, length, &kinds));
        assert_ne!(steps, schedule(8, length, &kinds));
        for kind in kinds {
            assert!(
                steps
                    .iter()
                    .flat_map(|step| &step.strikes)
                    .any(|strike| strike.kind == kind),
                "{kind}"
            );
        }
        for (step, next) in steps.iter().zip(&steps[1..]) {
            assert!(step.at + step.lasts < next.at);
        }
        assert!(schedule(7, length, &[]).is_empty());
    }
}
