//! `pods/eviction`: a delete that respects disruption budgets (`kubectl drain`).

use std::sync::Arc;

use api_machinery::{
    LabelSelector, ObjectExt, ObjectMutExt, Reason, Status, StatusCause, Timestamp, format_time,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::cache::{CachedObject, Held};
use crate::chain;
use crate::conditions;
use crate::core::Core;
use crate::decoding::{self, Expected};
use crate::options::DeleteOptions;
use crate::plugin::Operation;
use crate::render;
use crate::resource::Resource;
use crate::verbs::{self, UpdatePath};
use crate::write::{self, Outcome};

const EXPECTED: Expected<'static> = Expected {
    api_version: "policy/v1",
    kind: "Eviction",
};
/// Times that the budget is read again because it changed meanwhile.
const ATTEMPTS_LIMIT: usize = 20;
/// Pods that a budget remembers as being evicted at most, before it has to catch up.
const DISRUPTED_PODS_LIMIT: usize = 2000;

pub(super) async fn run(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let dry_run = cx.query.dry_run("CreateOptions")?;
    let body = body.read().await?;
    let (mut eviction, _) = decoding::parse(cx.content_type(), &body, &EXPECTED)?;
    if eviction.api_version() == "policy/v1beta1" {
        eviction.set(&["apiVersion"], EXPECTED.api_version);
    }
    decoding::check_kind(&mut eviction, &EXPECTED)?;
    if eviction.name() != cx.info.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = DeleteOptions::new(eviction.field(&["deleteOptions"]), &cx.query)?;
    options.dry_run |= dry_run;
    let operation = Operation::Create;
    let mut attributes = chain::attributes(
        cx,
        resource,
        operation,
        Some(eviction),
        None,
        options.dry_run,
    );
    core.admit(cx, &mut attributes).await?;
    core.validate(&attributes).await?;
    evict(core, cx, resource, &mut options).await?;
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    render::value(cx, StatusCode::CREATED, &done)
}

async fn evict(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    options: &mut DeleteOptions,
) -> Result<(), Status> {
    let own_version = options.resource_version.is_some();
    let pod = verbs::latest(core, cx, resource).await?;
    let mut budget = None;
    let mut pinned = false;
    match ignores_budgets(&pod.parse()) {
        true if pod_is_over(&pod.parse()) => {}
        true => pinned = true,
        false => {
            for _ in 0..ATTEMPTS_LIMIT {
                match take_from_budget(core, cx, &pod, options.dry_run).await? {
                    Taken::Nothing => {}
                    Taken::Changed => continue,
                    Taken::Unhealthy(name) => {
                        pinned = true;
                        budget = Some(name);
                    }
                }
                break;
            }
        }
    }
    if pinned && !own_version {
        options.resource_version = Some(pod.revision.to_string());
    }
    match remove(core, cx, resource, options).await {
        Err(status) if status.is_conflict() && pinned && !own_version => {
            Err(still_processed(budget.as_deref().unwrap_or_default()))
        }
        other => other,
    }
}

/// Marks the pod as evicted, then deletes it.
async fn remove(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let mut options = options.clone();
    if !options.dry_run {
        let wanted = options.resource_version.clone();
        let uid = options.uid.clone();
        let change = |pod: &Value| {
            if wanted
                .as_deref()
                .is_some_and(|v| v != pod.resource_version())
                || uid.as_deref().is_some_and(|u| u != pod.uid())
            {
                return Err(Status::conflict(
                    "",
                    "Pod",
                    pod.name(),
                    "the object might have been modified",
                ));
            }
            let mut pod = pod.clone();
            let condition = json!({
                "type": "DisruptionTarget", "status": "True",
                "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
            });
            conditions::set(&mut pod, condition, &format_time(Timestamp::now()));
            Ok(pod)
        };
        let json =
            verbs::update_object(core, cx, resource, UpdatePath::Admitted, &change, false).await?;
        if options.resource_version.is_some() {
            let pod: Value = serde_json::from_slice(&json).map_err(Status::internal_error)?;
            options.resource_version = Some(pod.resource_version().to_owned());
        }
    }
    verbs::delete_object(core, cx, resource, &cx.info.name, &options, &|_| Ok(()))
        .await
        .map(drop)
}

fn pod_is_over(pod: &Value) -> bool {
    matches!(pod.text(&["status", "phase"]), "Succeeded" | "Failed") || pod.is_being_deleted()
}

/// Pods that run nowhere disturb nobody.
fn ignores_budgets(pod: &Value) -> bool {
    pod_is_over(pod) || pod.text(&["status", "phase"]) == "Pending"
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.list(&["status", "conditions"]);
    conditions
        .iter()
        .any(|c| c.text(&["type"]) == "Ready" && c.text(&["status"]) == "True")
}

enum Taken {
    /// No budget stands against it, or it was charged.
    Nothing,
    /// The budget changed meanwhile.
    Changed,
    /// The pod does not count as healthy and the named budget lets it go as it is.
    Unhealthy(String),
}

async fn take_from_budget(
    core: &Core,
    cx: &Context,
    pod: &Arc<CachedObject>,
    dry_run: bool,
) -> Result<Taken, Status> {
    let budgets = core
        .resources
        .preferred("policy", "poddisruptionbudgets")
        .ok_or_else(Status::no_such_path)?;
    let held = Held {
        prefix: format!("{}/", pod.namespace()),
        ..Held::default()
    };
    let selected = budgets.stored("list")?.select(&held, |_| true).objects;
    let mut matching = selected.into_iter().filter(|budget| {
        LabelSelector::from_object(budget.parse().field(&["spec", "selector"]))
            .is_ok_and(|selector| selector.matches(pod.as_ref()))
    });
    let Some(budget) = matching.next() else {
        return Ok(Taken::Nothing);
    };
    if matching.next().is_some() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::new(500, Reason::Unknown, why));
    }
    let mut object = budget.parse();
    if !is_ready(&pod.parse()) {
        let always = object.text(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow";
        let count = |field: &str| object.number(&["status", field]).unwrap_or(0);
        let (healthy, desired) = (count("currentHealthy"), count("desiredHealthy"));
        if always || (healthy >= desired && desired > 0) {
            return Ok(Taken::Unhealthy(budget.name().to_owned()));
        }
    }
    charge(&mut object, pod.name())?;
    if dry_run {
        return Ok(Taken::Nothing);
    }
    object.remove_field(&["metadata", "resourceVersion"]);
    let value = write::encode(&object)?;
    let put = write::put(
        core,
        cx,
        budgets,
        &budget.key,
        budget.revision,
        value,
        Default::default(),
    );
    match put.await? {
        Outcome::Done(_) => Ok(Taken::Nothing),
        _ => {
            core.caches
                .catch_up()
                .await
                .map_err(crate::errors::from_feed)?;
            Ok(Taken::Changed)
        }
    }
}

/// Takes one disruption from the budget, if it has one.
fn charge(budget: &mut Value, pod: &str) -> Result<(), Status> {
    let name = budget.name().to_owned();
    if budget
        .number(&["status", "observedGeneration"])
        .unwrap_or(0)
        < budget.generation()
    {
        return Err(still_processed(&name));
    }
    let allowed = budget
        .number(&["status", "disruptionsAllowed"])
        .unwrap_or(0);
    let forbidden = |why: String| {
        Err(Status::forbidden(
            "policy",
            "poddisruptionbudgets",
            &name,
            why,
        ))
    };
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative".into());
    }
    if budget
        .map(&["status", "disruptedPods"])
        .map_or(0, |pods| pods.len())
        > DISRUPTED_PODS_LIMIT
    {
        return forbidden(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller".into(),
        );
    }
    if allowed == 0 {
        let count = |field: &str| budget.number(&["status", field]).unwrap_or(0);
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        );
        return Err(violates(message, 0));
    }
    let now = Timestamp::now();
    let left = allowed - 1;
    budget.set(&["status", "disruptionsAllowed"], left);
    budget.set(&["status", "disruptedPods", pod], format_time(now));
    if left == 0 {
        let condition = json!({
            "type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods", "message": "",
            "observedGeneration": budget.number(&["status", "observedGeneration"]).unwrap_or(0),
        });
        conditions::set(budget, condition, &format_time(now));
    }
    Ok(())
}

fn still_processed(budget: &str) -> Status {
    violates(
        format!("The disruption budget {budget} is still being processed by the server."),
        10,
    )
}

fn violates(message: String, retry_after_seconds: i32) -> Status {
    let why = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause {
        cause_type: "DisruptionBudget".into(),
        message,
        field: String::new(),
    };
    Status::too_many_requests(why, retry_after_seconds).with_cause(cause)
}
