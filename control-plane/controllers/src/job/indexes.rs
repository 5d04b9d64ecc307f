//! Completion indexes: sets of them as text, and which are pending or failed. Pure.

use std::collections::BTreeSet;
use std::fmt::Write;

use k8s_openapi::api::core::v1::Pod;

use super::Sync;
use super::decision::completions;
use super::pods::is_failed;
use super::policy::{self, only_replace_failed};
use crate::support::{Meta, is_terminating};

pub(super) const COMPLETION_INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURE_COUNT: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURE_COUNT: &str =
    "batch.kubernetes.io/job-index-ignored-failure-count";

pub(super) fn completion_index(pod: &Pod) -> Option<i32> {
    pod.annotation(COMPLETION_INDEX)?
        .parse()
        .ok()
        .filter(|index| *index >= 0)
}

/// Reads `1,3-5`; what is at or above `completions`, or is no number, is left out.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let interval = |part: &str| -> Option<std::ops::Range<i32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (i32, i32) = (first.parse().ok()?, last.parse().ok()?);
        Some(first.max(0)..last.saturating_add(1).min(completions))
    };
    text.split(',').filter_map(interval).flatten().collect()
}

/// Writes `1,3-5`.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        let comma = if text.is_empty() { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = match last - first {
            0 => write!(text, "{comma}{first}"),
            1 => write!(text, "{comma}{first},{last}"),
            _ => write!(text, "{comma}{first}-{last}"),
        };
    }
    text
}

fn annotated(pod: &Pod, key: &str) -> i32 {
    pod.annotation(key)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// How often the index had failed, counted and ignored, when a successor of this failed pod starts.
pub(super) fn failure_counts_after(sync: &Sync, pod: Option<&Pod>) -> (i32, i32) {
    let Some(pod) = pod else { return (0, 0) };
    let policy = sync
        .job
        .spec
        .as_ref()
        .and_then(|s| s.pod_failure_policy.as_ref());
    let (counted, ignored) = (
        annotated(pod, FAILURE_COUNT),
        annotated(pod, IGNORED_FAILURE_COUNT),
    );
    if policy::judge(policy, pod).counts {
        (counted + 1, ignored)
    } else {
        (counted, ignored + 1)
    }
}

/// Indexes that have failed too often; none without a backoff limit per index.
pub(super) fn failed(sync: &Sync, known: &str) -> Option<BTreeSet<i32>> {
    let spec = sync.job.spec.as_ref()?;
    let limit = spec.backoff_limit_per_index?;
    let completions = completions(&sync.job).unwrap_or(0);
    let has_failed = |pod: &Pod| {
        let judgement = policy::judge(spec.pod_failure_policy.as_ref(), pod);
        is_failed(pod, &sync.job)
            && (judgement.fails_index
                || (judgement.counts && annotated(pod, FAILURE_COUNT) >= limit))
    };
    let new = sync
        .pods
        .iter()
        .filter(|p| sync.is_tracked(p) && has_failed(p))
        .filter_map(|p| completion_index(p));
    let mut all = parse(known, completions);
    all.extend(new.filter(|index| *index < completions));
    Some(all)
}

/// The lowest `count` indexes that are neither done, failed nor under way.
pub(super) fn pending(sync: &Sync, count: usize) -> Vec<i32> {
    let mut taken = sync.numbers.succeeded_indexes.clone();
    taken.extend(sync.active.iter().filter_map(|p| completion_index(p)));
    taken.extend(sync.numbers.failed_indexes.iter().flatten());
    if only_replace_failed(&sync.job) {
        taken.extend(
            sync.pods
                .iter()
                .filter(|p| is_terminating(p))
                .filter_map(|p| completion_index(p)),
        );
    }
    (0..completions(&sync.job).unwrap_or(0))
        .filter(|index| !taken.contains(index))
        .take(count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_indexes_are_written_as_intervals() {
        let check = |text: &str, completions, expect: &str| {
            assert_eq!(format(&parse(text, completions)), expect)
        };
        check("", 10, "");
        check("0", 10, "0");
        check("1,2", 10, "1,2");
        check("0-3,5,7-8", 10, "0-3,5,7,8");
        check("0-9", 5, "0-4");
        check("x,3", 5, "3");
        check("7", 5, "");
    }
}
