//! The parameters of operations: what may stand in the query and what in the path.

use serde_json::{Value, json};

/// A parameter: name (in braces if it stands in the path), JSON type, where it stands, what it does.
type Row = (&'static str, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    ("{name}", "string", "path", "Name of the object."),
    ("{namespace}", "string", "path", "Namespace of the object."),
    (
        "{path}",
        "string",
        "path",
        "Path to the resource behind the proxy.",
    ),
    (
        "path",
        "string",
        "query",
        "Path to the resource behind the proxy.",
    ),
    (
        "pretty",
        "string",
        "query",
        "Whether the answer is indented.",
    ),
    (
        "dryRun",
        "string",
        "query",
        "With `All`, everything but storing is done.",
    ),
    (
        "fieldManager",
        "string",
        "query",
        "Who makes the change, for field ownership; up to 128 printable characters.",
    ),
    (
        "fieldValidation",
        "string",
        "query",
        "What unknown and duplicate fields cause: `Ignore` drops them, `Warn` drops them with a warning, `Strict` refuses.",
    ),
    (
        "force",
        "boolean",
        "query",
        "Take over fields that others own; only for apply.",
    ),
    (
        "gracePeriodSeconds",
        "integer",
        "query",
        "Seconds before the object is deleted; zero means at once.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "query",
        "Delete an object that cannot be read from the store, regardless of finalizers and preconditions.",
    ),
    (
        "orphanDependents",
        "boolean",
        "query",
        "Deprecated: use propagationPolicy.",
    ),
    (
        "propagationPolicy",
        "string",
        "query",
        "What happens to dependents: `Orphan`, `Background` or `Foreground`.",
    ),
    (
        "allowWatchBookmarks",
        "boolean",
        "query",
        "Whether a watch may send BOOKMARK events.",
    ),
    (
        "continue",
        "string",
        "query",
        "Token of the previous page of a list.",
    ),
    (
        "fieldSelector",
        "string",
        "query",
        "Selects objects by fields.",
    ),
    (
        "labelSelector",
        "string",
        "query",
        "Selects objects by labels.",
    ),
    (
        "limit",
        "integer",
        "query",
        "The most objects that one page of a list may have.",
    ),
    (
        "resourceVersion",
        "string",
        "query",
        "The version of the collection from which the answer may or must be.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "query",
        "How resourceVersion applies to a list: `Exact` or `NotOlderThan`.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "query",
        "Whether a watch begins with events for the objects that exist.",
    ),
    (
        "shardSelector",
        "string",
        "query",
        "Selects one shard of a collection.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "query",
        "Seconds after which a list or watch ends.",
    ),
    (
        "watch",
        "boolean",
        "query",
        "Stream changes instead of listing.",
    ),
    (
        "container",
        "string",
        "query",
        "Name of the container; may be left out if there is but one.",
    ),
    (
        "command",
        "string",
        "query",
        "The command, one parameter per argument; no shell.",
    ),
    (
        "stdin",
        "boolean",
        "query",
        "Whether standard input is sent.",
    ),
    (
        "stdout",
        "boolean",
        "query",
        "Whether standard output is received.",
    ),
    (
        "stderr",
        "boolean",
        "query",
        "Whether standard error is received.",
    ),
    (
        "tty",
        "boolean",
        "query",
        "Whether the command gets a terminal.",
    ),
    ("ports", "integer", "query", "Ports to forward."),
    ("follow", "boolean", "query", "Go on with new lines."),
    (
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "query",
        "Do not verify the certificate of the node that serves the log.",
    ),
    ("limitBytes", "integer", "query", "The most bytes to send."),
    (
        "previous",
        "boolean",
        "query",
        "The log of the container's previous instance.",
    ),
    (
        "sinceSeconds",
        "integer",
        "query",
        "Only lines of the last seconds.",
    ),
    (
        "stream",
        "string",
        "query",
        "Which stream: `All`, `Stdout` or `Stderr`.",
    ),
    (
        "tailLines",
        "integer",
        "query",
        "Only that many lines from the end.",
    ),
    (
        "timestamps",
        "boolean",
        "query",
        "Begin each line with its time.",
    ),
];

/// Query parameters of lists and watches.
pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
pub(super) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
];

/// Query parameters of a subresource that connects or streams, by the kind that holds its options.
pub(super) fn connect(kind: &str) -> &'static [&'static str] {
    match kind {
        "PodExecOptions" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "PodAttachOptions" => &["container", "stderr", "stdin", "stdout", "tty"],
        "PodPortForwardOptions" => &["ports"],
        _ => &["path"],
    }
}

pub(super) const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// The parameter object of a row; v2 has the type beside the name, v3 in a schema.
pub(super) fn parameter(name: &str, v2: bool) -> Value {
    let (name, ty, place, description) = ROWS
        .iter()
        .find(|row| row.0 == name)
        .copied()
        .expect("every parameter that operations name has a row");
    let name = name.trim_matches(['{', '}']);
    let mut out = json!({"name": name, "in": place, "description": description});
    if place == "path" {
        out["required"] = true.into();
    }
    if v2 {
        out["type"] = ty.into();
        out["uniqueItems"] = true.into();
    } else {
        out["schema"] = json!({"type": ty, "uniqueItems": true});
    }
    out
}
