//! Who watches a key: a table for single keys, an interval tree for ranges.
//!
//! Watchers of one and the same range form a group; the tree over the groups is rebuilt when groups came or went.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::queue::Queue;
use crate::{KeyRange, RangeEnd};

/// The watchers of one range.
pub type Group = Vec<Arc<Queue>>;

/// All watchers, by what they watch.
#[derive(Default)]
pub struct Index {
    keys: HashMap<Bytes, Group>,
    ranges: HashMap<KeyRange, Group>,
    /// Sorted by start; each with the largest end in its subtree (`None` = no end).
    tree: Vec<Node>,
    stale: bool,
}

struct Node {
    range: KeyRange,
    largest_end: Option<Bytes>,
}

impl Index {
    pub fn insert(&mut self, range: &KeyRange, queue: Arc<Queue>) {
        match range.end {
            RangeEnd::Single => self.keys.entry(range.key.clone()).or_default().push(queue),
            _ => {
                let group = self.ranges.entry(range.clone()).or_default();
                self.stale |= group.is_empty();
                group.push(queue);
            }
        }
    }

    pub fn remove(&mut self, range: &KeyRange, queue: &Arc<Queue>) {
        let drop_from = |group: &mut Group| {
            group.retain(|other| !Arc::ptr_eq(other, queue));
            group.is_empty()
        };
        match range.end {
            RangeEnd::Single => {
                if self.keys.get_mut(&range.key).is_some_and(drop_from) {
                    self.keys.remove(&range.key);
                }
            }
            _ => {
                if self.ranges.get_mut(range).is_some_and(drop_from) {
                    self.ranges.remove(range);
                    self.stale = true;
                }
            }
        }
    }

    /// Calls `visit` for every group that watches `key`; the group's address tells groups apart.
    pub fn matching(&mut self, key: &Bytes, visit: &mut dyn FnMut(&Group)) {
        if let Some(group) = self.keys.get(key) {
            visit(group);
        }
        if self.stale {
            self.rebuild();
        }
        let ranges = &self.ranges;
        stab(&self.tree, key, &mut |range| {
            if let Some(group) = ranges.get(range) {
                visit(group);
            }
        });
    }

    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.keys.values().chain(self.ranges.values())
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.is_empty()
    }

    fn rebuild(&mut self) {
        let mut ranges: Vec<_> = self.ranges.keys().cloned().collect();
        ranges.sort_unstable();
        self.tree = ranges
            .into_iter()
            .map(|range| Node {
                range,
                largest_end: None,
            })
            .collect();
        note_largest_end(&mut self.tree);
        self.stale = false;
    }
}

fn end_of(range: &KeyRange) -> Option<Bytes> {
    match &range.end {
        RangeEnd::Before(end) => Some(end.clone()),
        RangeEnd::Single | RangeEnd::Unbounded => None,
    }
}

/// The tree is the sorted slice: its middle is the root, its halves are the subtrees.
fn note_largest_end(nodes: &mut [Node]) -> Option<Option<Bytes>> {
    if nodes.is_empty() {
        return None;
    }
    let middle = nodes.len() / 2;
    let (left, rest) = nodes.split_at_mut(middle);
    let (root, right) = rest.split_first_mut().expect("the slice has a middle");
    let mut largest = end_of(&root.range);
    for end in [note_largest_end(left), note_largest_end(right)]
        .into_iter()
        .flatten()
    {
        largest = match (largest, end) {
            (Some(a), Some(b)) => Some(a.max(b)),
            _ => None,
        };
    }
    root.largest_end = largest.clone();
    Some(largest)
}

fn stab(nodes: &[Node], key: &[u8], visit: &mut dyn FnMut(&KeyRange)) {
    let Some(root) = nodes.get(nodes.len() / 2) else {
        return;
    };
    if root
        .largest_end
        .as_ref()
        .is_some_and(|end| end.as_ref() <= key)
    {
        return;
    }
    let (left, rest) = nodes.split_at(nodes.len() / 2);
    stab(left, key, visit);
    if root.range.key.as_ref() <= key {
        if root.range.contains(key) {
            visit(&root.range);
        }
        stab(&rest[1..], key, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        (
            proptest::collection::vec(0..4u8, 1..3),
            proptest::option::of(proptest::collection::vec(0..4u8, 1..3)),
        )
            .prop_map(|(start, end)| match end {
                Some(end) => KeyRange::span(start, end),
                None => KeyRange {
                    key: start.into(),
                    end: RangeEnd::Unbounded,
                },
            })
    }

    proptest! {
        #[test]
        fn the_tree_finds_what_a_scan_finds(ranges in proptest::collection::vec(range(), 0..40),
                                            key in proptest::collection::vec(0..4u8, 1..4)) {
            let mut sorted = ranges.clone();
            sorted.sort();
            sorted.dedup();
            let mut nodes: Vec<_> = sorted.iter().cloned()
                .map(|range| Node { range, largest_end: None }).collect();
            note_largest_end(&mut nodes);
            let mut found = Vec::new();
            stab(&nodes, &key, &mut |range| found.push(range.clone()));
            let expected: Vec<_> = sorted.into_iter().filter(|range| range.contains(&key)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
