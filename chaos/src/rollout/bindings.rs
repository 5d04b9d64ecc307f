//! Which nodes each pod was seen bound to, from watches that move to another master when one ends.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;
use tokio::time::{sleep, timeout};

use crate::cluster::Api;
use crate::failover::PODS;

const CALL_LIMIT: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(100);
/// A watch that says nothing for so long is begun anew: its master may be gone without a word.
const SILENCE: Duration = Duration::from_secs(4);

/// Names of nodes by the pod's uid.
pub type Bindings = Rc<RefCell<BTreeMap<String, BTreeSet<String>>>>;

/// Goes on until it is dropped.
pub async fn watch(mut masters: Vec<Api>, bindings: Bindings) {
    for at in (0..masters.len()).cycle() {
        // The next master's list has what the end of this watch has missed.
        let _ = follow(&mut masters[at], &bindings).await;
        sleep(RETRY).await;
    }
}

async fn follow(api: &mut Api, bindings: &Bindings) -> Result<()> {
    let list: Json = serde_json::from_slice(&api.get(PODS, CALL_LIMIT).await?)?;
    for pod in list["items"].as_array().context("items")? {
        note(bindings, pod);
    }
    let version = &list["metadata"]["resourceVersion"];
    let version = version.as_str().context("a version")?;
    let path = format!("{PODS}?watch=1&resourceVersion={version}");
    let mut lines = api.watch(&path, CALL_LIMIT).await?;
    loop {
        let line = timeout(SILENCE, lines.next()).await??;
        let line = line.context("the stream ended")?;
        ensure!(line["type"] != "ERROR", "{line}");
        note(bindings, &line["object"]);
    }
}

fn note(bindings: &Bindings, pod: &Json) {
    let (uid, node) = (&pod["metadata"]["uid"], &pod["spec"]["nodeName"]);
    if let (Some(uid), Some(node)) = (uid.as_str(), node.as_str()) {
        let mut bindings = bindings.borrow_mut();
        let nodes = bindings.entry(uid.to_owned()).or_default();
        nodes.insert(node.to_owned());
    }
}
