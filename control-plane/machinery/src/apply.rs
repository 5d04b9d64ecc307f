//! Server-side apply and the ownership of fields, as pure functions on objects.
//!
//! It follows KEP-555: every field has owners, kept in `metadata.managedFields`; an apply states what its manager wants,
//! conflicts where others own a changed field, and removes what it no longer states. Objects come in and go out in one
//! version of the API. It knows the schema table, not kinds, requests or storage; the time is handed in.

mod compare;
mod field_set;
mod managed;
mod merge;
mod path;
mod reset;
mod shape;
mod updater;
mod walk;

use serde_json::{Map, Value};

pub use field_set::FieldSet;
pub use path::{PathElement, Scalar};
pub use reset::reset_fields;

use crate::schema::{Form, Schema, Type, TypeId, decode};
use managed::{Manager, Managers};
use shape::Node;
use updater::Updater;

/// Entries of updates that an object keeps; older ones are merged into one.
const MAX_UPDATE_MANAGERS: usize = 10;
/// The manager of merged old entries.
const ANCIENT: &str = "ancient-changes";
/// The manager of the fields that an object had before it was first applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager of what kubectl applied by itself; kubectl takes these fields over when it moves to the server's apply.
const CLIENT_SIDE_APPLY: &str = "kubectl-client-side-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// All annotations together may have this many bytes.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;

/// Who writes what, and when.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The definition of the object's kind in the version of the request.
    pub id: TypeId,
    /// The request's `apiVersion`.
    pub api_version: &'a str,
    /// `fieldManager`, or the first part of the user agent for writes that need not name one.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Fields that this resource never changes, as a `status` subresource does not change `spec`: they are not owned
    /// through it.
    pub reset: &'a FieldSet,
    /// RFC 3339 in whole seconds, UTC.
    pub now: &'a str,
}

/// A field that an apply would change and another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"kubectl" using apps/v1`.
    pub manager: String,
    /// `.spec.replicas`.
    pub path: String,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// 409 Conflict with this message; one cause of type `FieldManagerConflict` per conflict.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400 BadRequest.
    #[error("{0}")]
    BadRequest(String),
    /// 500: upstream does not classify these.
    #[error("{0}")]
    Internal(String),
}

impl Conflict {
    /// The message of the conflict's cause; its field is `path`.
    pub fn cause(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!(
            "Apply failed with 1 conflict: {}: {}",
            only.cause(),
            only.path
        );
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// Records the fields that a create, update or patch changed: returns `new` with its `managedFields`.
///
/// `live` is the stored object in the request's version, `None` for a create. Objects whose ownership is not tracked stay
/// so. The request's own `managedFields` count where they are valid, so that clients can edit or reset them.
pub fn update_managed_fields(writer: &Writer<'_>, live: Option<&Value>, mut new: Value) -> Value {
    let theirs = take_managed_fields(&mut new);
    let known = live.and_then(|live| live.pointer("/metadata/managedFields"));
    let managers = if !writer.subresource.is_empty() {
        managed::decode(known).unwrap_or_default()
    } else if managed::is_reset(theirs.as_ref()) {
        Managers::new()
    } else {
        match managed::decode(theirs.as_ref()) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => managed::decode(known).unwrap_or_default(),
        }
    };
    if managers.is_empty() && live.is_some() {
        return new;
    }
    let mut old = live.cloned().unwrap_or_else(|| empty_object(writer));
    let kept = take_managed_fields(&mut old);
    if old == new && (theirs.is_none() || theirs == kept) {
        put_list(&mut new, kept);
        return new;
    }
    if let Ok(managers) = tracked(writer, &old, &new, managers, writer.manager) {
        put_managed_fields(&mut new, &capped(managers));
    }
    new
}

/// Applies a configuration: the new object with its `managedFields`, to be decoded and defaulted by the caller.
///
/// `live` is the stored object in the request's version, `None` if the apply creates it.
///
/// # Errors
/// Conflicts unless `force`; a configuration that does not fit its type or has `managedFields`.
pub fn apply(
    writer: &Writer<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    let schema = Schema::global();
    let version = config["apiVersion"].as_str().unwrap_or_default();
    if version != writer.api_version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            writer.api_version
        )));
    }
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|list| !list.is_null())
    {
        return Err(ApplyError::BadRequest(
            "metadata.managedFields must be nil".to_owned(),
        ));
    }
    let node = Node::new(Type::Struct(writer.id));
    walk::validate(schema, node, config).map_err(|error| {
        let text = |pointer: &str| {
            config
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let object = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
        let kind = format!("{version}, Kind={}", text("/kind"));
        ApplyError::Internal(format!(
            "failed to create typed patch object ({object}; {kind}): {error}"
        ))
    })?;
    let mut old = live.cloned().unwrap_or_else(|| empty_object(writer));
    let list = take_managed_fields(&mut old);
    let mut managers = managed::decode(list.as_ref()).map_err(|error| {
        ApplyError::Internal(format!("failed to decode managed fields: {error}"))
    })?;
    if managers.is_empty() {
        managers = first_owners(writer, &old)?;
    }
    let mut applied = try_apply(writer, &old, config, managers.clone(), force);
    if writer.manager == "kubectl" {
        applied = allow_last_applied(writer, &old, config, managers, applied);
    }
    let (mut new, managers) = applied?;
    if writer.manager == "kubectl" {
        sync_last_applied(&mut new, config);
    }
    put_managed_fields(&mut new, &managers);
    Ok(new)
}

fn updater<'a>(writer: &Writer<'a>) -> Updater<'a> {
    Updater {
        schema: Schema::global(),
        node: Node::new(Type::Struct(writer.id)),
        reset: writer.reset,
    }
}

fn try_apply(
    writer: &Writer<'_>,
    live: &Value,
    config: &Value,
    managers: Managers,
    force: bool,
) -> Result<(Value, Managers), ApplyError> {
    let manager = Manager::new(writer.manager, true, writer.api_version, writer.subresource);
    let (mut new, mut managers) =
        updater(writer).apply(live, config, managers, &manager, writer.api_version, force)?;
    strip(&mut managers, &manager);
    let mut decoded = new.clone();
    // The merged object in the form of the live one tells whether anything changed.
    if decode(Schema::global(), writer.id, &mut decoded, Form::Complete).is_ok() {
        new = decoded;
    }
    if new != *live
        && let Some(owned) = managers.get_mut(&manager)
    {
        owned.time = Some(writer.now.to_owned());
    }
    Ok((new, managers))
}

/// kubectl moves from client-side to server-side apply without conflicts: it owns what its annotation says and nobody
/// changed since.
fn allow_last_applied(
    writer: &Writer<'_>,
    live: &Value,
    config: &Value,
    managers: Managers,
    applied: Result<(Value, Managers), ApplyError>,
) -> Result<(Value, Managers), ApplyError> {
    let Err(ApplyError::Conflicts(conflicts)) = applied else {
        return applied;
    };
    let Some(allowed) = last_applied_fields(writer, live) else {
        return Err(ApplyError::Conflicts(conflicts));
    };
    let allowed: Vec<String> = allowed
        .paths()
        .iter()
        .map(|path| path::show(path))
        .collect();
    let left: Vec<Conflict> = conflicts
        .into_iter()
        .filter(|conflict| !allowed.contains(&conflict.path))
        .collect();
    match left.is_empty() {
        true => try_apply(writer, live, config, managers, true),
        false => Err(ApplyError::Conflicts(left)),
    }
}

/// Who owned what before anybody asked.
///
/// What kubectl applied is known by its annotation. The rest of such an object is then nobody's: the server or a
/// controller set it (a job's selector, a pod's token volume), and it must outlive an apply that takes all over.
fn first_owners(writer: &Writer<'_>, live: &Value) -> Result<Managers, ApplyError> {
    let owners = |name| {
        let empty = empty_object(writer);
        tracked(writer, &empty, live, Managers::new(), name)
    };
    let Some(last) = last_applied(writer, live) else {
        return owners(BEFORE_FIRST_APPLY);
    };
    let mut managers = owners(CLIENT_SIDE_APPLY)?;
    let annotation = FieldSet::of_fields(&[
        &["metadata", "annotations"],
        &["metadata", "annotations", LAST_APPLIED],
    ]);
    let node = Node::new(Type::Struct(writer.id));
    let applied = walk::fields_of(Schema::global(), node, &last).union(&annotation);
    for owned in managers.values_mut() {
        owned.fields = owned.fields.intersection(&applied);
    }
    Ok(managers)
}

/// What client-side apply says it applied, where it fits the request's version.
fn last_applied(writer: &Writer<'_>, live: &Value) -> Option<Value> {
    let text = live
        .pointer("/metadata/annotations")?
        .get(LAST_APPLIED)?
        .as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"].as_str() != Some(writer.api_version) {
        return None;
    }
    let node = Node::new(Type::Struct(writer.id));
    walk::validate(Schema::global(), node, &last).ok()?;
    Some(last)
}

fn last_applied_fields(writer: &Writer<'_>, live: &Value) -> Option<FieldSet> {
    let last = last_applied(writer, live)?;
    let schema = Schema::global();
    let node = Node::new(Type::Struct(writer.id));
    let changed = compare::compare(schema, node, &last, live).ok()?;
    let fields = walk::fields_of(schema, node, &last);
    Some(
        fields
            .difference(&changed.modified)
            .difference(&changed.added)
            .difference(&changed.removed),
    )
}

/// Keeps client-side apply's annotation in step, where the object has it.
fn sync_last_applied(new: &mut Value, config: &Value) {
    let Some(Value::Object(annotations)) = new.pointer_mut("/metadata/annotations") else {
        return;
    };
    if annotations
        .get(LAST_APPLIED)
        .and_then(Value::as_str)
        .is_none_or(str::is_empty)
    {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(own)) = config.pointer_mut("/metadata/annotations") {
        own.shift_remove(LAST_APPLIED);
    }
    annotations.insert(LAST_APPLIED.to_owned(), format!("{config}\n").into());
    let size = |(key, value): (&String, &Value)| key.len() + value.as_str().map_or(0, str::len);
    if annotations.iter().map(size).sum::<usize>() > MAX_ANNOTATIONS_BYTES {
        annotations.shift_remove(LAST_APPLIED);
    }
}

/// Ownership after an update of `old` to `new`.
fn tracked(
    writer: &Writer<'_>,
    old: &Value,
    new: &Value,
    managers: Managers,
    name: &str,
) -> Result<Managers, ApplyError> {
    // The update is made as somebody unknown first: what it owns afterwards is what it changed.
    let current = Manager::new(
        "current-operation",
        false,
        writer.api_version,
        writer.subresource,
    );
    let manager = Manager::new(name, false, writer.api_version, writer.subresource);
    let mut managers = updater(writer).update(old, new, managers, &current, writer.api_version)?;
    strip(&mut managers, &current);
    if let Some(mut changed) = managers.remove(&current) {
        if let Some(before) = managers.remove(&manager) {
            changed.fields = changed.fields.union(&before.fields);
        }
        changed.time = Some(writer.now.to_owned());
        managers.insert(manager, changed);
    }
    Ok(managers)
}

/// Fields that nobody owns: the object's identity and what the server alone sets.
fn strip(managers: &mut Managers, manager: &Manager) {
    let Some(owned) = managers.get_mut(manager) else {
        return;
    };
    let nobody = FieldSet::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ]);
    owned.fields = owned.fields.difference(&nobody);
    if owned.fields.is_empty() {
        managers.remove(manager);
    }
}

/// Merges the oldest updates, by version, until few enough are left.
fn capped(mut managers: Managers) -> Managers {
    let mut updates: Vec<Manager> = managers
        .keys()
        .filter(|manager| !manager.applies)
        .cloned()
        .collect();
    if updates.len() <= MAX_UPDATE_MANAGERS {
        return managers;
    }
    updates.sort_by_key(|manager| (managers[manager].time.clone(), manager.clone()));
    let mut left = updates.len();
    let mut first: Map<String, Value> = Map::new();
    for (index, manager) in updates.iter().enumerate() {
        if left <= MAX_UPDATE_MANAGERS {
            break;
        }
        let bucket = Manager::new(ANCIENT, false, &manager.api_version, "");
        let Some(earlier) = first.get(&manager.api_version).and_then(Value::as_u64) else {
            first.insert(manager.api_version.clone(), index.into());
            continue;
        };
        let Some(mut owned) = managers.remove(manager) else {
            continue;
        };
        for older in [
            managers.remove(&updates[earlier as usize]),
            managers.remove(&bucket),
        ]
        .into_iter()
        .flatten()
        {
            owned.fields = owned.fields.union(&older.fields);
        }
        managers.insert(bucket, owned);
        left -= 1;
    }
    managers
}

/// The object that a create starts from.
fn empty_object(writer: &Writer<'_>) -> Value {
    let mut value = Value::Object(Map::new());
    let decoded = decode(Schema::global(), writer.id, &mut value, Form::Complete);
    debug_assert!(decoded.is_ok(), "an empty object fits every type");
    value
}

fn take_managed_fields(value: &mut Value) -> Option<Value> {
    value
        .get_mut("metadata")?
        .as_object_mut()?
        .shift_remove("managedFields")
}

fn put_managed_fields(value: &mut Value, managers: &Managers) {
    put_list(value, managed::encode(managers));
}

fn put_list(value: &mut Value, list: Option<Value>) {
    let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(metadata), Some(list)) = (metadata, list) {
        metadata.insert("managedFields".to_owned(), list);
    }
}

#[cfg(test)]
mod tests;
