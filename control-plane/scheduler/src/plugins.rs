//! The table of plugins. To add one: write one file in `plugins/`, and its row here.

mod balanced_allocation;
mod inter_pod_affinity;
mod least_allocated;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod pod_topology_spread;
mod taint_toleration;

use crate::framework::{Filter, Normalize, Score, Wakes};

/// Filters, cheapest first: the first that refuses a node names the reason.
pub static FILTERS: &[Filter] = &[
    Filter {
        name: "NodeUnschedulable",
        wakes: Wakes::NODE,
        prepare: node_unschedulable::filter,
    },
    Filter {
        name: "NodeName",
        wakes: Wakes::NODE,
        prepare: node_name::filter,
    },
    Filter {
        name: "TaintToleration",
        wakes: Wakes::NODE,
        prepare: taint_toleration::filter,
    },
    Filter {
        name: "NodeAffinity",
        wakes: Wakes::NODE,
        prepare: node_affinity::filter,
    },
    Filter {
        name: "NodePorts",
        wakes: Wakes::NODE.or(Wakes::POD_GONE),
        prepare: node_ports::filter,
    },
    Filter {
        name: "NodeResourcesFit",
        wakes: Wakes::NODE.or(Wakes::POD_GONE),
        prepare: node_resources::filter,
    },
    Filter {
        name: "PodTopologySpread",
        wakes: Wakes::NODE.or(Wakes::POD_GONE).or(Wakes::POD_PLACED),
        prepare: pod_topology_spread::filter,
    },
    Filter {
        name: "InterPodAffinity",
        wakes: Wakes::NODE.or(Wakes::POD_GONE).or(Wakes::POD_PLACED),
        prepare: inter_pod_affinity::filter,
    },
];

/// Scores with upstream's default weights.
pub static SCORES: &[Score] = &[
    Score {
        weight: 3,
        normalize: Normalize::LowestIsBest,
        prepare: taint_toleration::score,
    },
    Score {
        weight: 2,
        normalize: Normalize::HighestIsBest,
        prepare: node_affinity::score,
    },
    Score {
        weight: 2,
        normalize: Normalize::LowestIsBest,
        prepare: pod_topology_spread::score,
    },
    Score {
        weight: 2,
        normalize: Normalize::Spread,
        prepare: inter_pod_affinity::score,
    },
    Score {
        weight: 1,
        normalize: Normalize::AsIs,
        prepare: least_allocated::score,
    },
    Score {
        weight: 1,
        normalize: Normalize::AsIs,
        prepare: balanced_allocation::score,
    },
];
