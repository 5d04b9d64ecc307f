//! Spreads endpoints over slices with as few writes as possible. Pure.
//!
//! What is in a slice stays there while it is wanted; what is new goes into slices that are written anyway, then into one
//! with room, and only then into new slices.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

/// Endpoints per slice.
const MAX_ENDPOINTS: usize = 100;

/// An endpoint that has to be in some slice of its address family and ports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desired {
    pub(super) address_type: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoint: Endpoint,
}

/// What has to be written.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Actions {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<EndpointSlice>,
}

struct Group {
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
    slices: Vec<EndpointSlice>,
}

/// `template` is a slice of the service without endpoints; its metadata is what every slice's must agree with.
pub(super) fn allocate(
    template: &EndpointSlice,
    address_types: &[String],
    desired: Vec<Desired>,
    mut existing: Vec<EndpointSlice>,
) -> Actions {
    let mut actions = Actions::default();
    for address_type in address_types {
        let template = EndpointSlice {
            address_type: address_type.clone(),
            ..template.clone()
        };
        let (own, rest) = existing
            .into_iter()
            .partition(|slice| slice.address_type == *address_type);
        existing = rest;
        let wanted: Vec<Desired> = desired
            .iter()
            .filter(|d| d.address_type == *address_type)
            .cloned()
            .collect();
        allocate_family(&template, wanted, own, &mut actions);
    }
    // Slices of a family that the service no longer has.
    actions.delete.extend(existing);
    actions
}

fn allocate_family(
    template: &EndpointSlice,
    desired: Vec<Desired>,
    own: Vec<EndpointSlice>,
    actions: &mut Actions,
) {
    let mut groups: Vec<Group> = Vec::new();
    for wanted in desired {
        let ports = sorted(wanted.ports);
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.endpoints.push(wanted.endpoint),
            None => groups.push(Group {
                ports,
                endpoints: vec![wanted.endpoint],
                slices: Vec::new(),
            }),
        }
    }
    let mut unused = Vec::new();
    for slice in own {
        let ports = sorted(slice.ports.clone().unwrap_or_default());
        match groups.iter_mut().find(|group| group.ports == ports) {
            Some(group) => group.slices.push(slice),
            None => unused.push(slice),
        }
    }
    if groups.is_empty() {
        return keep_placeholder(template, unused, actions);
    }
    for group in groups {
        allocate_group(template, group, actions);
    }
    actions.delete.extend(unused);
}

/// A service without endpoints keeps one empty slice, which says that it has none.
fn keep_placeholder(template: &EndpointSlice, slices: Vec<EndpointSlice>, actions: &mut Actions) {
    let is_empty = |slice: &EndpointSlice| {
        slice.endpoints.as_ref().is_none_or(Vec::is_empty)
            && slice.ports.as_ref().is_none_or(Vec::is_empty)
    };
    let mut kept = false;
    for slice in slices {
        if kept || !is_empty(&slice) {
            actions.delete.push(slice);
        } else {
            kept = true;
            actions.update.extend(corrected(template, &slice));
        }
    }
    if !kept {
        actions.create.push(template.clone());
    }
}

fn allocate_group(template: &EndpointSlice, group: Group, actions: &mut Actions) {
    let mut left = group.endpoints;
    let mut untouched = Vec::new();
    let mut changed = Vec::new();
    for slice in group.slices {
        let mut kept = Vec::new();
        for endpoint in slice.endpoints.iter().flatten() {
            if let Some(at) = left.iter().position(|wanted| is_same(wanted, endpoint)) {
                kept.push(left.swap_remove(at));
            }
        }
        let new = EndpointSlice {
            endpoints: Some(kept),
            ..corrected(template, &slice).unwrap_or_else(|| slice.clone())
        };
        if new == slice {
            untouched.push(slice)
        } else {
            changed.push(new)
        }
    }
    left.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    // The fullest first, so that others may run empty.
    changed.sort_by_key(|slice| std::cmp::Reverse(length(slice)));
    for slice in &mut changed {
        fill(slice, &mut left);
    }
    if !left.is_empty() {
        let rest = left.len() % MAX_ENDPOINTS;
        let fitting = |slice: &EndpointSlice| rest > 0 && length(slice) + rest <= MAX_ENDPOINTS;
        let fullest = untouched
            .iter()
            .enumerate()
            .filter(|(_, slice)| fitting(slice))
            .max_by_key(|(_, s)| length(s));
        if let Some(at) = fullest.map(|(at, _)| at) {
            let mut slice = untouched.swap_remove(at);
            let endpoints: Vec<Endpoint> = left.split_off(left.len() - rest);
            slice.endpoints.get_or_insert_default().extend(endpoints);
            changed.push(slice);
        }
    }
    while !left.is_empty() {
        let mut slice = EndpointSlice {
            ports: Some(group.ports.clone()),
            ..template.clone()
        };
        fill(&mut slice, &mut left);
        actions.create.push(slice);
    }
    let (empty, filled): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|slice| length(slice) == 0);
    actions.update.extend(filled);
    actions.delete.extend(empty);
}

fn length(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn fill(slice: &mut EndpointSlice, left: &mut Vec<Endpoint>) {
    let room = MAX_ENDPOINTS.saturating_sub(length(slice)).min(left.len());
    slice
        .endpoints
        .get_or_insert_default()
        .extend(left.drain(..room));
}

/// The same pod at the same addresses, whatever its condition.
fn is_same(a: &Endpoint, b: &Endpoint) -> bool {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|r| r.uid.clone());
    uid(a) == uid(b) && a.addresses == b.addresses
}

/// The slice with the template's labels and owner; none if it has them.
fn corrected(template: &EndpointSlice, slice: &EndpointSlice) -> Option<EndpointSlice> {
    let (wanted, actual) = (&template.metadata, &slice.metadata);
    if wanted.labels == actual.labels && wanted.owner_references == actual.owner_references {
        return None;
    }
    let mut slice = slice.clone();
    slice.metadata.labels = wanted.labels.clone();
    slice.metadata.owner_references = wanted.owner_references.clone();
    Some(slice)
}

fn sorted(mut ports: Vec<EndpointPort>) -> Vec<EndpointPort> {
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template() -> EndpointSlice {
        let value = json!({"metadata": {"labels": {"a": "b"}}, "addressType": "", "endpoints": []});
        serde_json::from_value(value).expect("a slice")
    }

    fn endpoint(number: usize, ready: bool) -> Endpoint {
        let value = json!({"addresses": [format!("10.0.{}.{}", number / 250, number % 250)],
            "conditions": {"ready": ready}, "targetRef": {"uid": number.to_string()}});
        serde_json::from_value(value).expect("an endpoint")
    }

    fn port(number: i32) -> Vec<EndpointPort> {
        vec![EndpointPort {
            port: Some(number),
            ..EndpointPort::default()
        }]
    }

    fn desired(numbers: std::ops::Range<usize>, ports: i32) -> Vec<Desired> {
        let one = |n| Desired {
            address_type: "IPv4".into(),
            ports: port(ports),
            endpoint: endpoint(n, true),
        };
        numbers.map(one).collect()
    }

    fn slice(name: &str, numbers: std::ops::Range<usize>) -> EndpointSlice {
        let mut slice = template();
        slice.metadata.name = Some(name.into());
        slice.address_type = "IPv4".into();
        slice.ports = Some(port(80));
        slice.endpoints = Some(numbers.map(|n| endpoint(n, true)).collect());
        slice
    }

    fn text(desired: Vec<Desired>, existing: Vec<EndpointSlice>) -> String {
        let actions = allocate(&template(), &["IPv4".to_owned()], desired, existing);
        let line = |verb: &str, slices: &[EndpointSlice]| -> Vec<String> {
            let name = |s: &EndpointSlice| s.metadata.name.clone().unwrap_or_else(|| "new".into());
            slices
                .iter()
                .map(|s| format!("{verb} {} {}", name(s), length(s)))
                .collect()
        };
        let all = [
            line("create", &actions.create),
            line("update", &actions.update),
            line("delete", &actions.delete),
        ];
        all.concat().join(", ")
    }

    #[test]
    fn slices_are_filled_with_few_writes() {
        assert_eq!(text(vec![], vec![]), "create new 0");
        assert_eq!(text(desired(0..3, 80), vec![]), "create new 3");
        assert_eq!(
            text(desired(0..250, 80), vec![]),
            "create new 100, create new 100, create new 50"
        );
        assert_eq!(text(desired(0..3, 80), vec![slice("a", 0..3)]), "");
        assert_eq!(
            text(desired(0..5, 80), vec![slice("a", 0..3)]),
            "update a 5"
        );
        assert_eq!(
            text(desired(0..2, 80), vec![slice("a", 0..3)]),
            "update a 2"
        );
        assert_eq!(
            text(desired(0..3, 81), vec![slice("a", 0..3)]),
            "create new 3, delete a 3"
        );
        assert_eq!(
            text(vec![], vec![slice("a", 0..3)]),
            "create new 0, delete a 3"
        );
        assert_eq!(
            text(desired(0..101, 80), vec![slice("a", 0..100)]),
            "create new 1"
        );
        assert_eq!(
            text(
                desired(0..160, 80),
                vec![slice("a", 0..100), slice("b", 100..150)]
            ),
            "update b 60"
        );
    }

    #[test]
    fn a_change_of_condition_is_an_update() {
        let mut wanted = desired(0..2, 80);
        wanted[0].endpoint = endpoint(0, false);
        assert_eq!(text(wanted, vec![slice("a", 0..2)]), "update a 2");
    }
}
