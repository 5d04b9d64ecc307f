//! NodeAffinity: `nodeSelector` and node affinity, required and preferred.

use crate::cache::Cluster;
use crate::framework::{NodeFilter, NodeScore};
use crate::pod_info::PodInfo;
use crate::terms::node_term_matches;

pub fn filter<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeFilter<'a>> {
    let spec = pod.spec()?;
    let selector = spec.node_selector.as_ref().filter(|s| !s.is_empty());
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| {
        a.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    if selector.is_none() && required.is_none() {
        return None;
    }
    Some(Box::new(move |node| {
        let labels = node.labels();
        let selected = selector.is_none_or(|s| s.iter().all(|(k, v)| labels.get(k) == Some(v)));
        let terms = required.map(|r| &r.node_selector_terms);
        if selected
            && terms.is_none_or(|terms| {
                terms
                    .iter()
                    .any(|t| node_term_matches(t, &node.name, labels))
            })
        {
            Ok(())
        } else {
            Err("node(s) didn't match Pod's node affinity/selector".into())
        }
    }))
}

/// The sum of the weights of the preferred terms that match.
pub fn score<'a>(pod: &'a PodInfo, _: &'a Cluster) -> Option<NodeScore<'a>> {
    let affinity = pod.spec()?.affinity.as_ref()?.node_affinity.as_ref()?;
    let preferred = affinity
        .preferred_during_scheduling_ignored_during_execution
        .as_ref()?;
    Some(Box::new(move |node| {
        let matching = preferred
            .iter()
            .filter(|p| node_term_matches(&p.preference, &node.name, node.labels()));
        matching.map(|p| i64::from(p.weight)).sum()
    }))
}
