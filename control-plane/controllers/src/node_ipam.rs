//! Node IPAM: cuts a block of pod addresses out of the cluster's for every node that has none.
//!
//! A block is taken while any node names it. Blocks given out but not yet seen on their node are remembered, so that a
//! lagging informer never leads to the same block twice.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use api_client::{Change, EventType, Informer, ObjectKey, Patch, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;

use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::{Error, Outcome};
use crate::options::AddressBlock;
use crate::support::Meta;

pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let nodes = context.informer::<Node>();
    let pending = Arc::new(Mutex::new(HashMap::new()));
    enqueue_on_change(&nodes, queue);
    let seen = pending.clone();
    nodes.on_change(move |change| {
        let node = change.object();
        if matches!(change, Change::Deleted(_)) || !blocks_of(node).is_empty() {
            seen.lock().remove(node.name());
        }
    });
    Arc::new(NodeIpam {
        context: context.clone(),
        nodes,
        pending,
    })
}

struct NodeIpam {
    context: Context,
    nodes: Informer<Node>,
    /// Blocks by node that are given out but not yet seen.
    pending: Arc<Mutex<HashMap<String, Vec<String>>>>,
}

#[async_trait]
impl Controller for NodeIpam {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(node) = self.nodes.get(key) else {
            return Ok(());
        };
        if node.is_deleting()
            || !blocks_of(&node).is_empty()
            || self.context.options.cluster_cidrs.is_empty()
        {
            return Ok(());
        }
        let Some(blocks) = self.reserve(node.name()) else {
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
            self.context
                .recorder
                .record(&node, EventType::Normal, "CIDRNotAvailable", message);
            return Err(Error::NotReady(format!(
                "failed to allocate cidr for node {}: no free block",
                node.name()
            )));
        };
        let spec = json!({"podCIDR": blocks[0], "podCIDRs": blocks});
        let patch = Patch::Strategic(json!({"metadata": {"uid": node.uid()}, "spec": spec}));
        match self
            .context
            .client
            .patch::<Node>(None, node.name(), "", &patch)
            .await
        {
            Ok(_) => Ok(()),
            Err(status) => {
                self.pending.lock().remove(node.name());
                if is_not_found(&status) {
                    Ok(())
                } else {
                    Err(status.into())
                }
            }
        }
    }
}

impl NodeIpam {
    /// One free block per address family, remembered under the node's name; none if one family has run out.
    fn reserve(&self, node: &str) -> Option<Vec<String>> {
        let mut pending = self.pending.lock();
        if let Some(blocks) = pending.get(node) {
            return Some(blocks.clone());
        }
        let nodes = self.nodes.list();
        let taken: BTreeSet<&str> = nodes
            .iter()
            .flat_map(|n| blocks_of(n))
            .chain(pending.values().flatten().map(String::as_str))
            .collect();
        let options = &self.context.options;
        let blocks: Option<Vec<String>> = options
            .cluster_cidrs
            .iter()
            .map(|cluster| {
                let v4 = cluster.address.is_ipv4();
                first_free(
                    *cluster,
                    if v4 {
                        options.node_cidr_mask_ipv4
                    } else {
                        options.node_cidr_mask_ipv6
                    },
                    &taken,
                )
            })
            .collect();
        pending.insert(node.to_owned(), blocks.clone()?);
        blocks
    }
}

fn blocks_of(node: &Node) -> Vec<&str> {
    let Some(spec) = &node.spec else {
        return Vec::new();
    };
    match &spec.pod_cidrs {
        Some(all) if !all.is_empty() => all.iter().map(String::as_str).collect(),
        _ => spec
            .pod_cidr
            .iter()
            .map(String::as_str)
            .filter(|block| !block.is_empty())
            .collect(),
    }
}

/// The first block of `prefix` bits in the cluster's that is not taken.
fn first_free(cluster: AddressBlock, prefix: u8, taken: &BTreeSet<&str>) -> Option<String> {
    let bits: u32 = if cluster.address.is_ipv4() { 32 } else { 128 };
    let free_bits = u32::from(prefix.checked_sub(cluster.prefix)?);
    let base = match cluster.address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let host_bits = bits - u32::from(prefix);
    let network = if cluster.prefix == 0 {
        0
    } else {
        base >> (bits - u32::from(cluster.prefix)) << (bits - u32::from(cluster.prefix))
    };
    // More blocks than this can never be taken at once, so one within it is free.
    let tries = u128::try_from(taken.len())
        .unwrap_or(u128::MAX)
        .saturating_add(1);
    let count = 1u128
        .checked_shl(free_bits)
        .unwrap_or(u128::MAX)
        .min(tries.saturating_mul(2));
    (0..count)
        .map(|index| block(network + (index << host_bits), bits, prefix))
        .find(|block| !taken.contains(block.as_str()))
}

fn block(network: u128, bits: u32, prefix: u8) -> String {
    if bits == 32 {
        // The value was made from 32 bits.
        format!(
            "{}/{prefix}",
            Ipv4Addr::from(u32::try_from(network).unwrap_or(0))
        )
    } else {
        format!("{}/{prefix}", Ipv6Addr::from(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &str, prefix: u8, taken: &[&str], expect: Option<&str>) {
        let cluster = cluster.parse().expect("a block");
        let free = first_free(cluster, prefix, &taken.iter().copied().collect());
        assert_eq!(free.as_deref(), expect);
    }

    #[test]
    fn the_first_free_block_is_given() {
        check("10.42.0.0/16", 24, &[], Some("10.42.0.0/24"));
        check(
            "10.42.0.0/16",
            24,
            &["10.42.0.0/24", "10.42.2.0/24"],
            Some("10.42.1.0/24"),
        );
        check("10.42.7.9/16", 24, &["10.42.0.0/24"], Some("10.42.1.0/24"));
        check("10.0.0.0/30", 31, &["10.0.0.0/31", "10.0.0.2/31"], None);
        check("fd00:1::/48", 64, &["fd00:1::/64"], Some("fd00:1:0:1::/64"));
        check("10.0.0.0/24", 16, &[], None);
    }
}
