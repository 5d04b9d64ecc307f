//! How many replicas each replica set of a deployment gets next. Pure.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED_REPLICAS, MAX_REPLICAS, revision};
use crate::error::Outcome;
use crate::support::{Meta, scaled_value};

/// How a deployment replaces old pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    Recreate,
    RollingUpdate,
}

impl Strategy {
    pub(super) fn of(deployment: &Deployment) -> Self {
        let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
        match strategy.and_then(|s| s.type_.as_deref()) {
            Some("Recreate") => Self::Recreate,
            _ => Self::RollingUpdate,
        }
    }
}

/// Bring the replica set `name` to `to` replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) name: String,
    pub(super) to: i32,
}

pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|s| s.replicas)
        .unwrap_or(1)
}

pub(super) fn is_paused(deployment: &Deployment) -> bool {
    deployment
        .spec
        .as_ref()
        .and_then(|s| s.paused)
        .unwrap_or(false)
}

/// The size that a set is asked to have.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// The number of pods that a set has.
pub(super) fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|s| s.available_replicas)
        .unwrap_or(0)
}

/// maxSurge and maxUnavailable as numbers; never both zero, or nothing could ever move.
fn fence_posts(deployment: &Deployment) -> (i32, i32) {
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|s| s.strategy.as_ref()?.rolling_update.clone());
    let RollingUpdateDeployment {
        max_surge,
        max_unavailable,
    } = rolling.unwrap_or_default();
    let zero = IntOrString::Int(0);
    let wanted = wanted(deployment);
    // Validation has refused what is no number or percentage.
    let surge = scaled_value(max_surge.as_ref().unwrap_or(&zero), wanted, true).unwrap_or(0);
    let unavailable =
        scaled_value(max_unavailable.as_ref().unwrap_or(&zero), wanted, false).unwrap_or(0);
    if surge == 0 && unavailable == 0 {
        (0, 1)
    } else {
        (surge, unavailable)
    }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    match Strategy::of(deployment) {
        Strategy::Recreate => 0,
        Strategy::RollingUpdate => fence_posts(deployment).0,
    }
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    match Strategy::of(deployment) {
        Strategy::RollingUpdate if wanted(deployment) > 0 => {
            fence_posts(deployment).1.min(wanted(deployment))
        }
        _ => 0,
    }
}

/// The size of the new set, given the size of all sets together and its own.
pub(super) fn new_replicas(deployment: &Deployment, total: i32, own: i32) -> Outcome<i32> {
    let wanted = wanted(deployment);
    if Strategy::of(deployment) == Strategy::Recreate {
        return Ok(wanted);
    }
    let limit = wanted + max_surge(deployment);
    if total >= limit {
        return Ok(own);
    }
    Ok(own + (limit - total).min(wanted - own))
}

pub(super) fn scale_to(set: &ReplicaSet, to: i32) -> Vec<Scale> {
    if size(set) == to {
        Vec::new()
    } else {
        vec![Scale {
            name: set.name().into(),
            to,
        }]
    }
}

pub(super) fn scale_all_down(sets: &[ReplicaSet]) -> Vec<Scale> {
    sets.iter().flat_map(|set| scale_to(set, 0)).collect()
}

/// The next step of a rolling update: first up, and only when that is not possible, down.
pub(super) fn rolling(
    deployment: &Deployment,
    new: &ReplicaSet,
    old: &[ReplicaSet],
) -> Outcome<Vec<Scale>> {
    let wanted = wanted(deployment);
    let old_total: i32 = old.iter().map(size).sum();
    let to = if size(new) > wanted {
        wanted
    } else {
        new_replicas(deployment, old_total + size(new), size(new))?
    };
    let up = scale_to(new, to);
    if !up.is_empty() {
        return Ok(up);
    }
    if old_total == 0 {
        return Ok(Vec::new());
    }
    let least_available = wanted - max_unavailable(deployment);
    let new_unavailable = size(new) - available(new);
    let removable = old_total + size(new) - least_available - new_unavailable;
    if removable <= 0 {
        return Ok(Vec::new());
    }
    Ok(shrink_old(new, old, removable, least_available))
}

/// Takes unhealthy replicas of old sets away first, then as many healthy ones as availability allows; oldest sets first.
fn shrink_old(
    new: &ReplicaSet,
    old: &[ReplicaSet],
    removable: i32,
    least_available: i32,
) -> Vec<Scale> {
    let mut sizes: Vec<(&ReplicaSet, i32)> = old
        .iter()
        .filter(|set| size(set) > 0)
        .map(|set| (set, size(set)))
        .collect();
    sizes.sort_by(|(a, _), (b, _)| {
        a.created()
            .cmp(&b.created())
            .then_with(|| a.name().cmp(b.name()))
    });
    let mut steps = Vec::new();
    let mut unhealthy_left = removable;
    for (set, size) in &mut sizes {
        let taken = unhealthy_left.min(*size - available(set)).max(0);
        if taken > 0 {
            unhealthy_left -= taken;
            *size -= taken;
            steps.push(Scale {
                name: set.name().into(),
                to: *size,
            });
        }
    }
    let available_now: i32 = old.iter().map(available).sum::<i32>() + available(new);
    let mut healthy_left = available_now - least_available;
    for (set, size) in &mut sizes {
        let taken = healthy_left.min(*size).max(0);
        if taken > 0 {
            healthy_left -= taken;
            *size -= taken;
            steps.push(Scale {
                name: set.name().into(),
                to: *size,
            });
        }
    }
    steps
}

/// Whether the wanted number changed since the sets were last scaled.
pub(super) fn is_scaling_event(deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    let active = sets.iter().filter(|set| size(set) > 0);
    active
        .filter_map(|set| number(set, DESIRED_REPLICAS))
        .any(|desired| desired != wanted(deployment))
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.annotation(annotation)?
        .parse()
        .ok()
        .filter(|number| *number >= 0)
}

/// Scales without a rollout: one active set gets everything; several share what is added or taken in proportion to
/// their size, so that a rollout under way is neither hastened nor undone.
pub(super) fn proportional(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[ReplicaSet],
) -> Vec<Scale> {
    let wanted = wanted(deployment);
    let active: Vec<&ReplicaSet> = old.iter().chain(new).filter(|set| size(set) > 0).collect();
    match active.as_slice() {
        [] => {
            let newest = new.or_else(|| {
                old.iter()
                    .max_by_key(|set| (set.created(), set.name().to_owned()))
            });
            newest.map(|set| scale_to(set, wanted)).unwrap_or_default()
        }
        [only] => scale_to(only, wanted),
        _ if new.is_some_and(|set| is_saturated(deployment, set)) => scale_all_down(old),
        _ if Strategy::of(deployment) == Strategy::RollingUpdate => share(deployment, active),
        _ => Vec::new(),
    }
}

fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = wanted(deployment);
    size(set) == wanted && number(set, DESIRED_REPLICAS) == Some(wanted) && available(set) == wanted
}

fn share(deployment: &Deployment, mut active: Vec<&ReplicaSet>) -> Vec<Scale> {
    let wanted = wanted(deployment);
    let allowed = if wanted > 0 {
        wanted + max_surge(deployment)
    } else {
        0
    };
    let to_add = allowed - active.iter().map(|set| size(set)).sum::<i32>();
    active.sort_by(|a, b| {
        let age = a.created().cmp(&b.created());
        let tie = if to_add > 0 { age.reverse() } else { age };
        size(b)
            .cmp(&size(a))
            .then(tie)
            .then_with(|| a.name().cmp(b.name()))
    });
    let mut added = 0;
    let mut steps: Vec<Scale> = Vec::with_capacity(active.len());
    for set in active {
        let proportion = proportion(deployment, set, to_add, to_add - added);
        added += proportion;
        steps.push(Scale {
            name: set.name().into(),
            to: size(set) + proportion,
        });
    }
    if let Some(largest) = steps.first_mut() {
        largest.to = (largest.to + to_add - added).max(0);
    }
    steps
}

fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i32, left: i32) -> i32 {
    if to_add == 0 || left == 0 || size(set) == 0 {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 {
        fraction.min(left)
    } else {
        fraction.max(left)
    }
}

/// By how much the set would change if it kept its share of the whole.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    if wanted(deployment) == 0 {
        return -size(set);
    }
    let before = number(set, MAX_REPLICAS).filter(|max| *max > 0);
    let before = before
        .or_else(|| deployment.status.as_ref()?.replicas)
        .unwrap_or(0);
    if before == 0 {
        return 0;
    }
    let after = f64::from(wanted(deployment) + max_surge(deployment));
    let resized = f64::from(size(set)) * after / f64::from(before);
    // Replica counts are far below the limits of i32.
    resized.round() as i32 - size(set)
}

/// Old sets beyond the history limit that have nothing left to do, oldest revision first.
pub(super) fn surplus_history<'a>(
    deployment: &Deployment,
    old: &'a [ReplicaSet],
) -> Vec<&'a ReplicaSet> {
    let limit = deployment
        .spec
        .as_ref()
        .and_then(|s| s.revision_history_limit);
    let Some(limit) = limit.filter(|limit| *limit != i32::MAX) else {
        return Vec::new();
    };
    let mut sets: Vec<&ReplicaSet> = old.iter().filter(|set| !set.is_deleting()).collect();
    let surplus = sets
        .len()
        .saturating_sub(usize::try_from(limit).unwrap_or(0));
    sets.sort_by(|a, b| {
        revision(a)
            .cmp(&revision(b))
            .then_with(|| a.created().cmp(&b.created()))
    });
    let observed = |set: &ReplicaSet| {
        set.status
            .as_ref()
            .and_then(|s| s.observed_generation)
            .unwrap_or(0)
    };
    let idle =
        |set: &&ReplicaSet| actual(set) == 0 && size(set) == 0 && set.generation() <= observed(set);
    sets.into_iter().take(surplus).filter(idle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i32, surge: &str, unavailable: &str) -> Deployment {
        let value = |text: &str| {
            text.parse::<i32>()
                .map_or(json!(text), |number| json!(number))
        };
        serde_json::from_value(json!({
            "metadata": {"name": "d"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}, "revisionHistoryLimit": 1,
                "strategy": {"type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": value(surge), "maxUnavailable": value(unavailable)}}},
        }))
        .expect("a deployment")
    }

    fn set(name: &str, size: i32, available: i32, max: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {MAX_REPLICAS: max.to_string(), DESIRED_REPLICAS: "10"},
                "creationTimestamp": format!("2026-01-0{}T00:00:00Z", name.len())},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "availableReplicas": available},
        }))
        .expect("a replica set")
    }

    fn text(steps: &[Scale]) -> String {
        steps
            .iter()
            .map(|s| format!("{}={}", s.name, s.to))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn rolling_steps() {
        let check = |deployment: &Deployment, new, old, expect: &str| {
            let (new, old) = (set("new", new, new, 0), [old]);
            assert_eq!(
                text(&rolling(deployment, &new, &old).expect("valid")),
                expect
            );
        };
        let quarter = deployment(10, "25%", "25%");
        check(&quarter, 0, set("o", 10, 10, 0), "new=3");
        check(&quarter, 3, set("o", 10, 10, 0), "o=5");
        check(&quarter, 3, set("o", 5, 5, 0), "new=8");
        check(&quarter, 10, set("o", 0, 0, 0), "");
        check(&quarter, 12, set("o", 0, 0, 0), "new=10");
        // Unhealthy old replicas go first, and healthy ones only as far as availability allows.
        check(&quarter, 3, set("o", 10, 6, 0), "o=6 o=5");
        let no_surge = deployment(1, "0", "25%");
        check(&no_surge, 0, set("o", 1, 1, 0), "o=0");
        let no_loss = deployment(1, "1", "0");
        check(&no_loss, 0, set("o", 1, 1, 0), "new=1");
        check(&no_loss, 1, set("o", 1, 1, 0), "o=0");
    }

    #[test]
    fn an_unavailable_new_set_holds_back_the_old() {
        let deployment = deployment(4, "1", "0");
        let new = set("new", 1, 0, 0);
        assert_eq!(
            text(&rolling(&deployment, &new, &[set("o", 4, 4, 0)]).expect("valid")),
            ""
        );
    }

    #[test]
    fn scaling_during_a_rollout_keeps_proportions() {
        // Documented example: 10 replicas (8 old, 5 new with maxSurge 3) scaled to 15 become 11 and 7.
        let deployment = deployment(15, "3", "2");
        let steps = proportional(
            &deployment,
            Some(&set("new", 5, 0, 13)),
            &[set("o", 8, 8, 13)],
        );
        assert_eq!(text(&steps), "o=11 new=7");
        assert_eq!(
            text(&proportional(&deployment, None, &[set("o", 8, 8, 13)])),
            "o=15"
        );
        assert!(is_scaling_event(&deployment, &[&set("o", 8, 8, 13)]));
    }

    #[test]
    fn history_keeps_the_newest_and_the_busy() {
        let deployment = deployment(1, "1", "0");
        let mut old: Vec<_> = ["a", "bb", "ccc"].map(|name| set(name, 0, 0, 0)).into();
        old.push(set("busy", 1, 0, 0));
        for (set, revision) in old.iter_mut().zip(["1", "2", "3", "0"]) {
            set.metadata
                .annotations
                .get_or_insert_default()
                .insert(super::super::revision::REVISION.into(), revision.into());
        }
        let names: Vec<_> = surplus_history(&deployment, &old)
            .iter()
            .map(|s| s.name())
            .collect();
        assert_eq!(names, ["a", "bb"]);
    }
}
