//! Jobs: made all the time; each runs its pods to their end, and no more of them than were asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hyper::Method;
use serde_json::{Value as Json, json};

use super::masters::Masters;
use super::pods::PODS;
use super::{CALL_LIMIT, Kube};
use crate::failover::node;
use crate::load::pause;

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const MAKE_EVERY: Duration = Duration::from_secs(5);
/// So that a long run does not fill the cluster with them.
const MOST: u64 = 60;
const MAX_COMPLETIONS: u64 = 4;
/// The pods' label with the Job's name.
pub const LABEL: &str = "batch.kubernetes.io/job-name";

/// Makes one now and then, asking again until it is known to be there.
pub async fn make(mut masters: Masters) {
    for number in 0..MOST {
        pause(&mut masters.random, MAKE_EVERY).await;
        let completions = masters.random.between(1, MAX_COMPLETIONS);
        let mut spec = node::pod("", &json!({}))["spec"].take();
        spec["restartPolicy"] = "Never".into();
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": format!("job-{number}")},
            "spec": {
                "completions": completions, "parallelism": 2,
                "template": {"spec": spec},
            },
        });
        let body = job.to_string();
        loop {
            if masters.stopping() {
                return;
            }
            match masters.call(Method::POST, JOBS, &body).await {
                // It was made by an attempt that got no answer.
                Ok((201 | 409, _)) => break,
                _ => masters.leave().await,
            }
        }
    }
}

/// Whether all are complete, and each by as many pods as it wanted.
pub async fn are_complete(kube: &Kube) -> Result<()> {
    let mut api = kube.api(0);
    let jobs: Json = serde_json::from_slice(&api.get(JOBS, CALL_LIMIT).await?)?;
    let pods: Json = serde_json::from_slice(&api.get(PODS, CALL_LIMIT).await?)?;
    let pods = pods["items"].as_array().context("items")?;
    for job in jobs["items"].as_array().context("items")? {
        let (name, wanted) = (&job["metadata"]["name"], &job["spec"]["completions"]);
        let status = &job["status"];
        let conditions = status["conditions"].as_array();
        let complete = conditions.is_some_and(|conditions| {
            let mut conditions = conditions.iter();
            conditions
                .any(|condition| condition["type"] == "Complete" && condition["status"] == "True")
        });
        ensure!(
            complete && status["succeeded"] == *wanted,
            "{name}: {wanted} are wanted: {status}"
        );
        let ran = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"][LABEL] == *name)
            .count();
        ensure!(
            Some(ran as u64) == wanted.as_u64(),
            "{name}: {ran} pods ran, {wanted} were wanted"
        );
    }
    Ok(())
}
