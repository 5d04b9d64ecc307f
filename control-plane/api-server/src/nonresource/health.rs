//! `/healthz`, `/livez`, `/readyz`: whether the server lives, and whether it may be asked.

use api_machinery::Status;
use http::StatusCode;

use crate::answer::{Answer, Context};
use crate::core::Core;
use crate::request::query_pairs;

/// Name and what must hold.
type Check = (&'static str, fn(&Core) -> bool);

const CHECKS: &[Check] = &[
    ("ping", |_| true),
    ("log", |_| true),
    ("etcd", |core| core.caches.revision() > 0),
    ("informer-sync", |core| core.caches.revision() > 0),
    ("shutdown", |core| !core.stopping()),
];

pub(super) fn run(core: &Core, cx: &Context, rest: &str) -> Result<Answer, Status> {
    let endpoint = cx
        .info
        .path
        .trim_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    if !rest.is_empty() {
        let (_, holds) = CHECKS
            .iter()
            .find(|(name, _)| *name == rest)
            .ok_or_else(Status::no_such_path)?;
        return Ok(match holds(core) {
            true => Answer::text(StatusCode::OK, "ok"),
            false => Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal server error: not ready",
            ),
        });
    }
    let parameter = |key: &str| {
        query_pairs(&cx.raw_query)
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.into_owned())
            .collect::<Vec<_>>()
    };
    let excluded = parameter("exclude");
    let mut lines = String::new();
    let mut healthy = true;
    for (name, holds) in CHECKS {
        // A server that is stopping lives on until it is done.
        let counts = *name != "shutdown" || endpoint == "readyz";
        if excluded.iter().any(|e| e == name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if !counts || holds(core) {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            healthy = false;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    let verbose = !parameter("verbose").is_empty();
    Ok(match (healthy, verbose) {
        (true, false) => Answer::text(StatusCode::OK, "ok"),
        (true, true) => Answer::text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
        (false, _) => Answer::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{lines}{endpoint} check failed\n"),
        ),
    })
}
