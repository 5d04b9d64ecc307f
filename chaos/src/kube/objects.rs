//! Registers as objects: ConfigMaps that are created, read, replaced and replaced if unchanged.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::Method;
use serde_json::{Value as Json, json};

use super::masters::Masters;
use crate::history::{By, Condition, Event, Key, Outcome, Seen, Space, Transaction, Value};
use crate::load::pause;

pub const PATH: &str = "/api/v1/namespaces/default/configmaps";
/// Objects in use at a time, and how often one is called upon before it is left.
const PLACES: usize = 4;
const CALLS_PER_OBJECT: u32 = 120;
const PREFIX: &str = "chaos-";

#[derive(Default)]
pub struct Objects {
    calls: [Cell<u32>; PLACES],
}

pub async fn run(mut masters: Masters, mean: Duration) {
    while !masters.stopping() {
        let place = masters.random.index(PLACES);
        let calls = &masters.kube.objects.calls[place];
        calls.set(calls.get() + 1);
        let number = place as u32 + PLACES as u32 * (calls.get() / CALLS_PER_OBJECT);
        one(&mut masters, Key::new(Space::Register, number, 0)).await;
        pause(&mut masters.random, mean).await;
    }
}

fn name(key: Key) -> String {
    format!("{PREFIX}{}", key.number)
}

async fn one(masters: &mut Masters, key: Key) {
    let Some(seen) = read(masters, key).await else {
        return;
    };
    if masters.random.percent(40) {
        return;
    }
    let value = masters.kube.shared.value();
    let create = seen.is_none();
    let object = |version: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name(key), "labels": {"chaos": "register"}, "resourceVersion": version},
            "data": {"value": &*value},
        })
    };
    // A replacement without a version needs the object to be there, and never goes away.
    let conditional = create || masters.random.percent(60);
    let version = seen
        .as_ref()
        .filter(|_| conditional)
        .map_or(String::new(), |seen| seen.mod_revision.to_string());
    let transaction = Transaction {
        conditions: match conditional {
            true => vec![Condition {
                key,
                value: seen.map(|seen| seen.value),
                by: By::Value,
            }],
            false => Vec::new(),
        },
        writes: vec![(key, Some(value.clone()))],
        ..Default::default()
    };
    let (method, path) = match create {
        true => (Method::POST, PATH.to_owned()),
        false => (Method::PUT, format!("{PATH}/{}", name(key))),
    };
    let body = object(&version).to_string();
    let request = (method, path.as_str(), body.as_str());
    masters.record(request, transaction, written).await;
}

/// A conflict says nothing of the revision at which it was found.
fn written(status: u16, body: &[u8]) -> Option<Outcome> {
    let (revision, succeeded) = match status {
        200 | 201 => (revision(&serde_json::from_slice(body).ok()?).ok()?, true),
        409 => (0, false),
        _ => return None,
    };
    Some(Outcome::Done {
        revision,
        succeeded,
        seen: Vec::new(),
    })
}

/// A consistent list of the one object: its version is that of the store.
async fn read(masters: &mut Masters, key: Key) -> Option<Option<Seen>> {
    let path = format!("{PATH}?fieldSelector=metadata.name%3D{}", name(key));
    let transaction = Transaction {
        reads: vec![key],
        ..Default::default()
    };
    let outcome = masters
        .record((Method::GET, &path, ""), transaction, listed)
        .await;
    match outcome? {
        Outcome::Done { seen, .. } => seen.into_iter().next(),
        _ => None,
    }
}

fn listed(status: u16, body: &[u8]) -> Option<Outcome> {
    let list: Json = serde_json::from_slice(body)
        .ok()
        .filter(|_| status == 200)?;
    let item = list["items"].as_array()?.first().map(event);
    Some(Outcome::Done {
        revision: revision(&list).ok()?,
        succeeded: true,
        seen: vec![item.transpose().ok()?.and_then(|event| event.put)],
    })
}

/// The resourceVersion of an object or list.
pub fn revision(object: &Json) -> Result<i64> {
    let version = object["metadata"]["resourceVersion"].as_str();
    Ok(version.context("a resourceVersion")?.parse()?)
}

/// A register's object as a change of it.
pub fn event(object: &Json) -> Result<Event> {
    let name = object["metadata"]["name"].as_str().context("a name")?;
    let number = name.strip_prefix(PREFIX).context("one of ours")?.parse()?;
    let value: Value = object["data"]["value"].as_str().context("a value")?.into();
    let revision = revision(object)?;
    Ok(Event {
        revision,
        key: Key::new(Space::Register, number, 0),
        put: Some(Seen {
            value,
            create_revision: 0,
            mod_revision: revision,
            version: 0,
            lease: 0,
        }),
    })
}
