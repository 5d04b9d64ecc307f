//! Stands in for the crate of this name, by a `[patch]` in the workspace: openraft always counts into its histograms, and
//! the original builds tables of 25 MB for widths that nobody uses, more than half of what a member at rest would take.
//!
//! Own code with the original's interface as far as openraft uses it: powers of two, four buckets each.

use std::fmt;
use std::marker::PhantomData;

/// Buckets of one power of two.
const PER_POWER: usize = 4;
/// Values below are counted exactly.
const EXACT: u64 = PER_POWER as u64;
const BUCKETS: usize = PER_POWER * 63;

/// Counts of values, in buckets that grow with the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: Vec<u64>,
    total: u64,
    unused: PhantomData<T>,
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Histogram<T> {
    /// An empty histogram; its buckets are allocated by the first value.
    pub fn new() -> Self {
        Self {
            counts: Vec::new(),
            total: 0,
            unused: PhantomData,
        }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts `value` `n` times.
    pub fn record_n(&mut self, value: u64, n: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; BUCKETS];
        }
        self.counts[bucket(value)] += n;
        self.total += n;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The smallest value of the bucket in which the share `quantile` (0 to 1) of all values is reached; 0 if empty.
    pub fn percentile(&self, quantile: f64) -> u64 {
        let wanted = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        reached.map_or(0, smallest)
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    // The two bits behind the highest.
    let within = (value >> (power - 2)) as usize & (PER_POWER - 1);
    (power - 1) * PER_POWER + within
}

fn smallest(bucket: usize) -> u64 {
    if bucket < PER_POWER {
        return bucket as u64;
    }
    let power = bucket / PER_POWER + 1;
    ((PER_POWER + bucket % PER_POWER) as u64) << (power - 2)
}

/// A histogram at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} samples, p50 {}, p90 {}, p99 {}",
            self.samples, self.p50, self.p90, self.p99
        )
    }
}

/// Several histograms as text, one line each.
#[derive(Clone, Debug)]
pub struct AsciiChart<T = ()> {
    lines: Vec<(String, Histogram<T>)>,
}

impl<T> Default for AsciiChart<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsciiChart<T> {
    pub fn new() -> Self {
        Self { lines: Vec::new() }
    }

    #[must_use]
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.lines.push((name.to_owned(), histogram));
        self
    }
}

impl<T> fmt::Display for AsciiChart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.lines {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket() {
        let near = |power: u32| {
            let at = 1u64 << power;
            [at - 1, at, at + 1, at + at / 3]
        };
        for value in (0..63).flat_map(near).chain([u64::MAX]) {
            let found = bucket(value);
            assert!(smallest(found) <= value, "{value}");
            let next = found + 1;
            assert!(next == BUCKETS || value < smallest(next), "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile(0.5), 0);
        for value in [1, 2, 3, 100] {
            histogram.record(value);
        }
        assert_eq!(histogram.total(), 4);
        assert_eq!(histogram.percentile(0.5), 2);
        assert_eq!(histogram.percentile(0.99), 96);
    }
}
