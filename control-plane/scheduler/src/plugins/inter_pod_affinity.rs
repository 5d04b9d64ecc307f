//! InterPodAffinity: pods that want to be near others, or far from them, in terms of a topology label of their nodes.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::PodAffinityTerm;

use crate::cache::Cluster;
use crate::framework::{NodeFilter, NodeScore, Reason};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// How many matching pods each (topology key, value) holds.
type Counts<'a> = HashMap<(&'a str, &'a str), i64>;

fn domain<'a>(node: &'a NodeInfo, key: &'a str) -> Option<(&'a str, &'a str)> {
    node.labels().get(key).map(|value| (key, value.as_str()))
}

/// Pods selected by `terms` of `owner`, counted per domain.
fn count_selected<'a>(
    terms: &'a [PodAffinityTerm],
    owner: &PodInfo,
    cluster: &'a Cluster,
) -> Vec<Counts<'a>> {
    let count = |term: &'a PodAffinityTerm| {
        let mut counts = Counts::new();
        for node in cluster.nodes() {
            let Some(domain) = domain(node, &term.topology_key) else {
                continue;
            };
            let selected = node
                .pods
                .values()
                .filter(|p| p.selected_by(term, owner))
                .count() as i64;
            if selected > 0 {
                *counts.entry(domain).or_default() += selected;
            }
        }
        counts
    };
    terms.iter().map(count).collect()
}

/// Domains in which a pod is that does not want `pod` near it.
fn refused_domains<'a>(pod: &PodInfo, cluster: &'a Cluster) -> Counts<'a> {
    let mut refused = Counts::new();
    if !cluster.any_anti_affinity() {
        return refused;
    }
    for node in cluster.nodes() {
        for other in node.with_anti_affinity.values() {
            for term in other
                .required_anti_affinity()
                .iter()
                .filter(|t| pod.selected_by(t, other))
            {
                // The term lives in the pod, which the cluster holds as long as the domains are used.
                let Some((key, value)) = node.labels().get_key_value(&term.topology_key) else {
                    continue;
                };
                *refused.entry((key, value)).or_default() += 1;
            }
        }
    }
    refused
}

pub fn filter<'a>(pod: &'a PodInfo, cluster: &'a Cluster) -> Option<NodeFilter<'a>> {
    let refused = refused_domains(pod, cluster);
    if refused.is_empty()
        && pod.required_affinity().is_empty()
        && pod.required_anti_affinity().is_empty()
    {
        return None;
    }
    let affinity = count_selected(pod.required_affinity(), pod, cluster);
    let anti_affinity = count_selected(pod.required_anti_affinity(), pod, cluster);
    // The first pod of a group that wants to be together may go anywhere.
    let is_first = affinity.iter().all(|counts| counts.is_empty())
        && pod
            .required_affinity()
            .iter()
            .all(|term| pod.selected_by(term, pod));
    Some(Box::new(move |node| {
        let near = pod
            .required_affinity()
            .iter()
            .zip(&affinity)
            .all(|(term, counts)| {
                domain(node, &term.topology_key)
                    .is_some_and(|d| is_first || counts.contains_key(&d))
            });
        if !near {
            return Err(Reason::from("node(s) didn't match pod affinity rules"));
        }
        let far = pod
            .required_anti_affinity()
            .iter()
            .zip(&anti_affinity)
            .all(|(term, counts)| {
                domain(node, &term.topology_key).is_none_or(|d| !counts.contains_key(&d))
            });
        if !far {
            return Err(Reason::from("node(s) didn't match pod anti-affinity rules"));
        }
        let welcome = node
            .labels()
            .iter()
            .all(|(k, v)| !refused.contains_key(&(k.as_str(), v.as_str())));
        if !welcome {
            return Err(Reason::from(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }))
}

/// Preferred terms: weights of matching pods in the node's domains, anti-affinity counting against.
pub fn score<'a>(pod: &'a PodInfo, cluster: &'a Cluster) -> Option<NodeScore<'a>> {
    let near = pod
        .preferred_affinity()
        .iter()
        .map(|t| (t, i64::from(t.weight)));
    let far = pod
        .preferred_anti_affinity()
        .iter()
        .map(|t| (t, -i64::from(t.weight)));
    let terms: Vec<_> = near.chain(far).collect();
    if terms.is_empty() {
        return None;
    }
    let mut weights = Counts::new();
    for (term, weight) in terms {
        let term = &term.pod_affinity_term;
        let counts = count_selected(std::slice::from_ref(term), pod, cluster)
            .pop()
            .unwrap_or_default();
        for (domain, count) in counts {
            *weights.entry(domain).or_default() += count * weight;
        }
    }
    Some(Box::new(move |node| {
        node.labels()
            .iter()
            .filter_map(|(k, v)| weights.get(&(k.as_str(), v.as_str())))
            .sum()
    }))
}
