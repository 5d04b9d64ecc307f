//! When power is lost, and what of that which was not synced is there afterwards.

use std::path::Path;

use anyhow::{Result, ensure};

use super::disk::{Disk, KEPT, Kept};
use super::record::Traced;
use crate::random::Random;

/// A loss of power.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Records before it.
    pub records: usize,
    pub kept: Kept,
}

/// So many, in order, after `first` records at least: half of them where names of files change, or soon after.
pub fn choose(records: &[Traced], first: usize, count: usize, random: &mut Random) -> Vec<Point> {
    let names: Vec<usize> = (first..records.len())
        .filter(|at| records[*at].record.is_of_names())
        .collect();
    let mut points: Vec<usize> = (0..count)
        .map(|number| match number % 2 {
            1 if !names.is_empty() => (random.pick(&names) + random.index(4)).min(records.len()),
            _ => first + random.index(records.len() - first) + 1,
        })
        .collect();
    points.sort_unstable();
    let kept = KEPT.iter().cycle();
    let points = points.into_iter().zip(kept);
    points
        .map(|(records, kept)| Point {
            records,
            kept: *kept,
        })
        .collect()
}

/// The disk, from one loss of power to the next.
pub struct Replay<'a> {
    records: &'a [Traced],
    taken: usize,
    disk: Disk,
    random: Random,
    lost: usize,
    failures: usize,
}

impl<'a> Replay<'a> {
    pub fn new(records: &'a [Traced], random: Random) -> Self {
        Self {
            records,
            taken: 0,
            disk: Disk::default(),
            random,
            lost: 0,
            failures: 0,
        }
    }

    /// Leaves in `folder` what a loss of power leaves; returns how long the record was then.
    pub fn lose_power(&mut self, point: &Point, folder: &Path) -> Result<u64> {
        for traced in &self.records[self.taken..point.records] {
            self.disk.take(&traced.record)?;
        }
        self.taken = point.records;
        self.lost += 1;
        if folder.exists() {
            std::fs::remove_dir_all(folder)?;
        }
        self.disk.write(folder, point.kept, &mut self.random)?;
        Ok(self.records[self.taken - 1].end)
    }

    /// What was found there.
    pub fn note(&mut self, point: &Point, found: Result<()>) {
        if let Err(error) = found {
            println!("  {point:?}: {error:#}");
            self.failures += 1;
        }
    }

    /// How often power was lost; an error if that did harm.
    pub fn end(self) -> Result<usize> {
        ensure!(
            self.failures == 0,
            "{} of {} losses of power",
            self.failures,
            self.lost
        );
        Ok(self.lost)
    }
}
