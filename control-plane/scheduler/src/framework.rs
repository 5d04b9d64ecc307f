//! The decision: filters rule nodes out, scores rank the rest, the best wins. Pure.
//!
//! A filter or score prepares itself once per pod (and may find that it has nothing to say about it), then looks at
//! nodes one by one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::cache::Cluster;
use crate::node_info::NodeInfo;
use crate::plugins::{FILTERS, SCORES};
use crate::pod_info::PodInfo;

/// Clusters up to this size are looked at whole.
const MIN_FEASIBLE_NODES: usize = 100;
/// The highest score that a plugin gives a node before weighting.
pub const MAX_SCORE: i64 = 100;

/// What may make a pod schedulable that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wakes(u8);

impl Wakes {
    /// A node appeared, or its labels, taints, allocatable or `unschedulable` changed.
    pub const NODE: Self = Self(1);
    /// A pod left a node.
    pub const POD_GONE: Self = Self(2);
    /// A pod came to a node, or its labels changed.
    pub const POD_PLACED: Self = Self(4);

    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// Why a node cannot take a pod, in the words that users see counted.
pub type Reason = Cow<'static, str>;

/// Looks at one node.
pub type NodeFilter<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Reason> + 'a>;
/// Gives one node a raw score.
pub type NodeScore<'a> = Box<dyn Fn(&NodeInfo) -> i64 + 'a>;

/// One row of the table of filters.
pub struct Filter {
    pub name: &'static str,
    /// What may change this filter's mind.
    pub wakes: Wakes,
    /// None where the filter does not concern the pod.
    pub prepare: for<'a> fn(&'a PodInfo, &'a Cluster) -> Option<NodeFilter<'a>>,
}

/// How raw scores become 0 to [`MAX_SCORE`].
pub enum Normalize {
    /// They are already.
    AsIs,
    /// The highest becomes the maximum.
    HighestIsBest,
    /// The lowest (0) becomes the maximum.
    LowestIsBest,
    /// Lowest to highest is spread over the whole scale.
    Spread,
}

/// One row of the table of scores.
pub struct Score {
    pub weight: i64,
    pub normalize: Normalize,
    pub prepare: for<'a> fn(&'a PodInfo, &'a Cluster) -> Option<NodeScore<'a>>,
}

/// Why no node was found.
#[derive(Debug, PartialEq, Eq)]
pub struct FitError {
    pub nodes: usize,
    /// How many nodes gave each reason.
    pub reasons: BTreeMap<Reason, usize>,
    /// The filters that gave them.
    pub refused_by: BTreeSet<&'static str>,
    /// What may help.
    pub wakes: Wakes,
}

impl std::fmt::Display for FitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.sort();
        if !reasons.is_empty() {
            write!(f, ": {}", reasons.join(", "))?;
        }
        f.write_str(".")
    }
}

/// Finds the best node for the pod. `start` rotates the order in which nodes are looked at, so that in a large cluster,
/// where not every node is looked at for every pod, all of them get their turn; answers the next start with the node.
pub fn schedule(
    pod: &PodInfo,
    cluster: &Cluster,
    start: usize,
) -> Result<(String, usize), FitError> {
    let (feasible, examined) = filter(pod, cluster, start)?;
    let best = pick(pod, cluster, &feasible, start);
    Ok((best.name.clone(), start.wrapping_add(examined)))
}

/// How many feasible nodes are enough: all of a small cluster, 5 to 50 percent of a large one.
fn enough_nodes(total: usize) -> usize {
    if total <= MIN_FEASIBLE_NODES {
        return total;
    }
    let percent = 50usize.saturating_sub(total / 125).max(5);
    (total * percent / 100).max(MIN_FEASIBLE_NODES)
}

fn filter<'a>(
    pod: &PodInfo,
    cluster: &'a Cluster,
    start: usize,
) -> Result<(Vec<&'a NodeInfo>, usize), FitError> {
    let filters: Vec<_> = FILTERS
        .iter()
        .filter_map(|row| Some((row, (row.prepare)(pod, cluster)?)))
        .collect();
    let total = cluster.nodes().len();
    let enough = enough_nodes(total);
    let mut error = FitError {
        nodes: 0,
        reasons: BTreeMap::new(),
        refused_by: BTreeSet::new(),
        wakes: Wakes::NODE,
    };
    let mut feasible = Vec::new();
    let mut examined = 0;
    let order = cluster
        .nodes()
        .skip(start % total.max(1))
        .chain(cluster.nodes().take(start % total.max(1)));
    for node in order {
        examined += 1;
        if node.node.is_none() {
            continue;
        }
        error.nodes += 1;
        let refusal = filters
            .iter()
            .find_map(|(row, check)| check(node).err().map(|reason| (row, reason)));
        match refusal {
            None => feasible.push(node),
            Some((row, reason)) => {
                error.wakes = error.wakes.or(row.wakes);
                error.refused_by.insert(row.name);
                *error.reasons.entry(reason).or_default() += 1;
            }
        }
        if feasible.len() >= enough {
            break;
        }
    }
    if feasible.is_empty() {
        Err(error)
    } else {
        Ok((feasible, examined))
    }
}

fn pick<'a>(
    pod: &PodInfo,
    cluster: &Cluster,
    feasible: &[&'a NodeInfo],
    start: usize,
) -> &'a NodeInfo {
    if let [only] = feasible {
        return only;
    }
    let mut totals = vec![0i64; feasible.len()];
    for row in SCORES {
        let Some(score) = (row.prepare)(pod, cluster) else {
            continue;
        };
        let mut scores: Vec<i64> = feasible.iter().map(|node| score(node)).collect();
        normalize(&row.normalize, &mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += score * row.weight;
        }
    }
    let best = totals.iter().copied().max().unwrap_or(0);
    let tied: Vec<usize> = (0..feasible.len())
        .filter(|at| totals[*at] == best)
        .collect();
    feasible[tied[start % tied.len()]]
}

fn normalize(how: &Normalize, scores: &mut [i64]) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    let lowest = scores.iter().copied().min().unwrap_or(0);
    for score in scores {
        *score = match how {
            Normalize::AsIs => *score,
            Normalize::HighestIsBest if highest == 0 => 0,
            Normalize::HighestIsBest => *score * MAX_SCORE / highest,
            Normalize::LowestIsBest if highest == 0 => MAX_SCORE,
            Normalize::LowestIsBest => MAX_SCORE - *score * MAX_SCORE / highest,
            Normalize::Spread if highest == lowest => 0,
            Normalize::Spread => (*score - lowest) * MAX_SCORE / (highest - lowest),
        };
    }
}
