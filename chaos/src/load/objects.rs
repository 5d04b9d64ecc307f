//! Clients at registers, lists and pairs. An object is used for a while and then left for a new one, which keeps what a
//! checker must search small.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::caller::Caller;
use super::pause;
use crate::history::{By, Condition, Key, Seen, Space, Transaction, Value};

/// Objects of each space that are in use at a time.
const REGISTERS: usize = 6;
const LISTS: usize = 3;
const PAIRS: usize = 3;
/// Calls after which an object is left.
const CALLS_PER_OBJECT: u32 = 150;

/// The objects in use: how often each place was called upon.
#[derive(Default)]
pub struct Objects {
    registers: [Cell<u32>; REGISTERS],
    lists: [Cell<u32>; LISTS],
    pairs: [Cell<u32>; PAIRS],
}

/// The object that is in use at one of the places.
fn number(places: &[Cell<u32>], place: usize) -> u32 {
    let calls = places[place].get();
    places[place].set(calls + 1);
    let (place, places) = (place as u32, places.len() as u32);
    place + places * (calls / CALLS_PER_OBJECT)
}

pub async fn run(mut caller: Caller, objects: Rc<Objects>, mean: Duration) {
    while !caller.stopping() {
        let (kind, place) = (caller.random.below(100), caller.random.next() as usize);
        match kind {
            0..55 => register(&mut caller, number(&objects.registers, place % REGISTERS)).await,
            55..75 => list(&mut caller, number(&objects.lists, place % LISTS)).await,
            _ => pair(&mut caller, number(&objects.pairs, place % PAIRS)).await,
        }
        pause(&mut caller.random, mean).await;
    }
}

async fn register(caller: &mut Caller, number: u32) {
    let key = Key::new(Space::Register, number, 0);
    let value = caller.value();
    match caller.random.below(100) {
        0..40 => drop(caller.write(Vec::new(), vec![(key, Some(value))]).await),
        40..65 => drop(caller.read(&[key]).await),
        65..72 => {
            let transaction = Transaction {
                reads: vec![key],
                serializable: true,
                ..Default::default()
            };
            caller.transact(transaction).await;
        }
        kind => {
            let Some(seen) = caller.read(&[key]).await else {
                return;
            };
            let seen = seen.into_iter().next().flatten();
            let deletes = kind >= 95 && seen.is_some();
            let condition = condition(caller, key, seen.as_ref());
            caller
                .write(vec![condition], vec![(key, (!deletes).then_some(value))])
                .await;
        }
    }
}

/// The key is as it was seen, asked for in one of the ways.
fn condition(caller: &mut Caller, key: Key, seen: Option<&Seen>) -> Condition {
    let modified = seen.map_or(0, |seen| seen.mod_revision);
    Condition {
        key,
        value: seen.map(|seen| seen.value.clone()),
        by: if caller.random.percent(50) {
            By::Value
        } else {
            By::Modified(modified)
        },
    }
}

async fn list(caller: &mut Caller, number: u32) {
    let key = Key::new(Space::List, number, 0);
    let Some(seen) = caller.read(&[key]).await else {
        return;
    };
    if caller.random.percent(30) {
        return;
    }
    let seen = seen.into_iter().next().flatten();
    let element = caller.value();
    let longer: Value = match &seen {
        Some(seen) => format!("{},{element}", seen.value).into(),
        None => element,
    };
    let condition = condition(caller, key, seen.as_ref());
    caller
        .write(vec![condition], vec![(key, Some(longer))])
        .await;
}

async fn pair(caller: &mut Caller, number: u32) {
    let keys = [
        Key::new(Space::Pair, number, 0),
        Key::new(Space::Pair, number, 1),
    ];
    let values = [caller.value(), caller.value()];
    let writes: Vec<_> = keys.into_iter().zip(values.map(Some)).collect();
    match caller.random.below(100) {
        0..30 => drop(caller.write(Vec::new(), writes).await),
        30..60 => drop(caller.read(&keys).await),
        _ => {
            let Some(seen) = caller.read(&keys).await else {
                return;
            };
            let mut conditions = Vec::new();
            for (key, seen) in keys.into_iter().zip(&seen) {
                conditions.push(condition(caller, key, seen.as_ref()));
            }
            caller.write(conditions, writes).await;
        }
    }
}
