//! What a delete does to an object: at once, after a grace period, or once its finalizers are gone. Pure decisions, and
//! the last step.

use std::sync::Arc;

use api_machinery::{ObjectExt, ObjectMutExt, Status, Timestamp, format_time};
use serde_json::{Value, json};

use super::update::write_dry;
use crate::allocation;
use crate::answer::Context;
use crate::cache::CachedObject;
use crate::core::Core;
use crate::options::DeleteOptions;
use crate::resource::Resource;
use crate::strategy::Dependents;
use crate::write::{self, Outcome, encode};

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// What to do with an object that is to be deleted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Remove it.
    Remove,
    /// Store this form of it; whoever its finalizers or its grace period wait for does the rest.
    Mark(Value),
    /// Nothing: it is on its way already.
    Nothing,
}

/// Decides. `now` is the time of the request.
pub(super) fn decide(
    resource: &Resource,
    object: &Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Step {
    let mut marked = object.clone();
    let graceful = match grace(resource, &mut marked, options, now) {
        Grace::Pending => return Step::Nothing,
        Grace::None => false,
        Grace::Seconds(seconds) => seconds > 0,
    };
    let finalizers = finalizers(resource, object, options);
    let waits = !finalizers.is_empty();
    set_finalizers(&mut marked, finalizers);
    if is_namespace(resource) {
        return namespace_step(marked, now);
    }
    if !waits && !graceful {
        return Step::Remove;
    }
    if waits && !graceful {
        mark(&mut marked, now);
    }
    match marked == *object {
        true => Step::Nothing,
        false => Step::Mark(marked),
    }
}

enum Grace {
    /// The kind has no grace period, or it is over.
    None,
    /// It runs already and is not shortened.
    Pending,
    Seconds(i64),
}

/// Sets the deletion timestamp for kinds with a grace period (pods).
fn grace(
    resource: &Resource,
    object: &mut Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Grace {
    if !resource.is("", "pods") {
        return Grace::None;
    }
    let asked = options
        .grace_period_seconds
        .map(|s| if s < 0 { 1 } else { s });
    if let Some(since) = object.deletion_timestamp().map(str::to_owned) {
        let running = object
            .number(&["metadata", "deletionGracePeriodSeconds"])
            .unwrap_or(0);
        return match asked {
            _ if running == 0 => Grace::None,
            Some(asked) if asked < running => shorten(object, &since, running, asked, now),
            _ => Grace::Pending,
        };
    }
    let mut period = asked
        .or_else(|| object.number(&["spec", "terminationGracePeriodSeconds"]))
        .unwrap_or(0);
    if object.text(&["spec", "nodeName"]).is_empty()
        || matches!(object.text(&["status", "phase"]), "Failed" | "Succeeded")
    {
        period = 0;
    }
    let period = if period < 0 { 1 } else { period };
    set_deletion(object, now, period);
    if object.generation() > 0 {
        object.set(&["metadata", "generation"], object.generation() + 1);
    }
    Grace::Seconds(period)
}

fn shorten(object: &mut Value, since: &str, running: i64, asked: i64, now: Timestamp) -> Grace {
    let started = since
        .parse::<Timestamp>()
        .map_or(now.as_second(), |t| t.as_second() - running);
    let end = started + asked;
    let (end, period) = match end < now.as_second() {
        // The period is over, but a graceful delete still lets the node have the last word.
        true => (now.as_second(), asked.min(1)),
        false => (end, asked),
    };
    let at = Timestamp::from_second(end).unwrap_or(now);
    object.set(&["metadata", "deletionTimestamp"], format_time(at));
    object.set(&["metadata", "deletionGracePeriodSeconds"], period);
    Grace::Seconds(period)
}

fn set_deletion(object: &mut Value, now: Timestamp, seconds: i64) {
    let at = Timestamp::from_second(now.as_second() + seconds).unwrap_or(now);
    object.set(&["metadata", "deletionTimestamp"], format_time(at));
    object.set(&["metadata", "deletionGracePeriodSeconds"], seconds);
}

/// Marks an object without grace period as being deleted.
fn mark(object: &mut Value, now: Timestamp) {
    if !object.is_being_deleted() {
        if object.generation() > 0 {
            object.set(&["metadata", "generation"], object.generation() + 1);
        }
        object.set(&["metadata", "deletionTimestamp"], format_time(now));
    }
    object.set(&["metadata", "deletionGracePeriodSeconds"], 0);
}

/// The finalizers that the object should have, by what becomes of its dependents.
fn finalizers(resource: &Resource, object: &Value, options: &DeleteOptions) -> Vec<String> {
    let own = |wanted: &str| object.finalizers().any(|f| f == wanted);
    let mut kept: Vec<String> = object
        .finalizers()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .map(str::to_owned)
        .collect();
    let (orphan, foreground) = match (resource.strategy.dependents, options.orphan_dependents) {
        (Dependents::Unsupported, _) => (false, false),
        (_, Some(orphan)) => (orphan, false),
        (default, None) => match options.propagation_policy.as_deref() {
            Some(policy) => (policy == "Orphan", policy == "Foreground"),
            None if own(ORPHAN) => (true, false),
            None if own(FOREGROUND) => (false, true),
            None => (default == Dependents::Orphan, false),
        },
    };
    if orphan {
        kept.push(ORPHAN.into());
    }
    if foreground {
        kept.push(FOREGROUND.into());
    }
    kept
}

fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    match finalizers.is_empty() {
        true => drop(object.remove_field(&["metadata", "finalizers"])),
        false => object.set(&["metadata", "finalizers"], finalizers),
    }
}

fn is_namespace(resource: &Resource) -> bool {
    resource.is("", "namespaces")
}

/// A namespace first goes through Terminating; it is removed when its content and its finalizers are gone.
fn namespace_step(mut namespace: Value, now: Timestamp) -> Step {
    let waits = !namespace.list(&["spec", "finalizers"]).is_empty();
    let was = namespace.is_being_deleted();
    if was && !waits && namespace.finalizers().next().is_none() {
        return Step::Remove;
    }
    if !was {
        namespace.set(&["metadata", "deletionTimestamp"], format_time(now));
        namespace.set(&["status", "phase"], "Terminating");
        if !waits && namespace.finalizers().next().is_none() {
            return Step::Remove;
        }
        return Step::Mark(namespace);
    }
    Step::Nothing
}

/// Whether a change took the last thing away that a deleted object waited for.
pub(super) fn is_finished(resource: &Resource, object: &Value, old: &Value) -> bool {
    if !old.is_being_deleted() || object.finalizers().next().is_some() {
        return false;
    }
    if is_namespace(resource) {
        return object.list(&["spec", "finalizers"]).is_empty();
    }
    let had = old.finalizers().next().is_some();
    had && object
        .number(&["metadata", "deletionGracePeriodSeconds"])
        .unwrap_or(0)
        == 0
}

/// Removes an object that waits for nothing any more.
pub(super) async fn finish(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    current: &Arc<CachedObject>,
    old: &Value,
    dry_run: bool,
) -> Result<Outcome, Status> {
    if dry_run {
        return Ok(Outcome::Done(current.json.clone()));
    }
    let companions = allocation::plan(core, resource, Some(old), None, 0)?;
    write::delete(core, cx, resource, current, companions).await
}

/// Carries a step out.
pub(super) async fn carry_out(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    current: &Arc<CachedObject>,
    object: &Value,
    step: Step,
    dry_run: bool,
) -> Result<Outcome, Status> {
    match step {
        Step::Remove => finish(core, cx, resource, current, object, dry_run).await,
        Step::Nothing => Ok(Outcome::Unchanged),
        Step::Mark(mut marked) => {
            marked.remove_field(&["metadata", "resourceVersion"]);
            let value = encode(&marked)?;
            if dry_run {
                return Ok(Outcome::Done(write_dry(&value, current.revision)?));
            }
            let companions = Default::default();
            write::put(
                core,
                cx,
                resource,
                &current.key,
                current.revision,
                value,
                companions,
            )
            .await
        }
    }
}

/// The `Status` that answers a delete which left nothing behind.
pub(super) fn gone(resource: &Resource, name: &str, uid: &str) -> Value {
    let kind = &resource.kind;
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": name, "group": kind.group, "kind": kind.plural, "uid": uid},
    });
    if kind.group.is_empty() {
        status.remove_field(&["details", "group"]);
    }
    status
}
