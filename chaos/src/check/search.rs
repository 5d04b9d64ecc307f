//! Wing and Gong's search for one order of calls that explains all answers, with Lowe's memory of what failed before.
//!
//! It knows one object of at most two keys, whose values are numbers (0: no such key), and nothing of a store.

use std::collections::HashSet;

use crate::history::Nanos;
use crate::random::Random;

pub type State = [u32; 2];

/// One call at the object.
#[derive(Clone, Debug)]
pub struct Step {
    pub invoke: Nanos,
    /// `None`: not answered; it may take effect at any time from then on, or never.
    pub done: Option<Nanos>,
    pub conditions: Vec<(usize, u32)>,
    pub writes: Vec<(usize, u32)>,
    /// What was seen if it did not write.
    pub reads: Vec<(usize, u32)>,
    /// Whether the conditions held; of no meaning without an answer.
    pub succeeded: bool,
}

impl Step {
    /// The state after it, if it could have happened in this one.
    fn apply(&self, state: State) -> Option<State> {
        let holds = self
            .conditions
            .iter()
            .all(|(slot, value)| state[*slot] == *value);
        let reads = self
            .reads
            .iter()
            .all(|(slot, value)| state[*slot] == *value);
        let mut after = state;
        if holds {
            for (slot, value) in &self.writes {
                after[*slot] = *value;
            }
        }
        let possible = match self.done {
            Some(_) => holds == self.succeeded && reads,
            // Without effect it need not have happened.
            None => holds,
        };
        possible.then_some(after)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Linearizable,
    /// No order explains the answers; the step at which the best one ended.
    Violation(usize),
    /// The limit was reached before an order was found.
    Undecided,
}

/// Calls and returns in the order of time, linked so that calls that have their place are taken out and put back.
struct Timeline {
    /// Per entry: the step, and whether it is its return.
    entries: Vec<(usize, bool)>,
    /// Per step: where its return is, if it has one.
    returns: Vec<Option<usize>>,
    next: Vec<usize>,
    prev: Vec<usize>,
}

impl Timeline {
    fn of(steps: &[Step]) -> Self {
        let mut times: Vec<(Nanos, bool, usize)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            times.push((step.invoke, false, number));
            times.extend(step.done.map(|done| (done, true, number)));
        }
        times.sort_unstable();
        let mut returns = vec![None; steps.len()];
        // Entry 0 is the head; the one after the last is the end.
        let mut entries = vec![(usize::MAX, false)];
        for (_, is_return, step) in times {
            if is_return {
                returns[step] = Some(entries.len());
            }
            entries.push((step, is_return));
        }
        let len = entries.len();
        Self {
            entries,
            returns,
            next: (1..=len).collect(),
            prev: (0..=len).map(|at| at.saturating_sub(1)).collect(),
        }
    }

    fn unlink(&mut self, at: usize) {
        let (prev, next) = (self.prev[at], self.next[at]);
        self.next[prev] = next;
        self.prev[next] = prev;
    }

    fn link(&mut self, at: usize) {
        let (prev, next) = (self.prev[at], self.next[at]);
        self.next[prev] = at;
        self.prev[next] = at;
    }

    /// The call at `at` has its place.
    fn lift(&mut self, at: usize) {
        self.unlink(at);
        if let Some(back) = self.returns[self.entries[at].0] {
            self.unlink(back);
        }
    }

    fn unlift(&mut self, at: usize) {
        if let Some(back) = self.returns[self.entries[at].0] {
            self.link(back);
        }
        self.link(at);
    }
}

/// Searches, keeping at most `limit` states in memory.
pub fn search(steps: &[Step], limit: usize) -> Answer {
    let mut timeline = Timeline::of(steps);
    let mut random = Random::new(0);
    // A set of steps is known by the sum of its members' random numbers.
    let names: Vec<(u64, u64)> = steps
        .iter()
        .map(|_| (random.next(), random.next()))
        .collect();
    let mut open = steps.iter().filter(|step| step.done.is_some()).count();
    let mut placed = (0u64, 0u64);
    let mut state: State = [0, 0];
    let mut known: HashSet<(u64, u64, State)> = HashSet::new();
    let mut path: Vec<(usize, State)> = Vec::new();
    let (mut best, mut best_at) = (0, 0);
    let end = timeline.entries.len();
    let mut at = timeline.next[0];
    while open > 0 {
        let (step, is_return) = if at == end {
            (usize::MAX, true)
        } else {
            timeline.entries[at]
        };
        if !is_return {
            let after = steps[step].apply(state);
            let (a, b) = (placed.0 ^ names[step].0, placed.1 ^ names[step].1);
            if let Some(after) = after
                && known.insert((a, b, after))
            {
                if known.len() > limit {
                    return Answer::Undecided;
                }
                path.push((at, state));
                (state, placed) = (after, (a, b));
                open -= usize::from(steps[step].done.is_some());
                timeline.lift(at);
                at = timeline.next[0];
            } else {
                at = timeline.next[at];
            }
            continue;
        }
        if path.len() >= best {
            (best, best_at) = (path.len(), step);
        }
        let Some((back, before)) = path.pop() else {
            return Answer::Violation(best_at);
        };
        let undone = timeline.entries[back].0;
        state = before;
        placed = (placed.0 ^ names[undone].0, placed.1 ^ names[undone].1);
        open += usize::from(steps[undone].done.is_some());
        timeline.unlift(back);
        at = timeline.next[back];
    }
    Answer::Linearizable
}
