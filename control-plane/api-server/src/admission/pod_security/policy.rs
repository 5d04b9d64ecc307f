//! The labels of a namespace: which level a mode asks for, and whether they can be read.

use std::fmt;

use api_machinery::{FieldError, FieldPath, ObjectExt};
use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];

/// A level of the standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return None,
        })
    }
}

/// What one mode asks for. `Display` gives it as messages do, e.g. `baseline:latest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    /// `latest` (or empty) or `v1.N`.
    pub(super) version: String,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

fn label<'a>(namespace: &'a Value, name: &str) -> Option<&'a str> {
    let labels = namespace.map(&["metadata", "labels"])?;
    labels.get(&format!("{PREFIX}{name}"))?.as_str()
}

impl Policy {
    pub(super) fn of(namespace: &Value, mode: &str) -> Self {
        let own = label(namespace, mode);
        if mode == "warn" && own.is_none() {
            return Self::of(namespace, "enforce");
        }
        // A level that cannot be read is enforced as the strictest, and warns of nothing.
        let unknown = if mode == "enforce" {
            Level::Restricted
        } else {
            Level::Privileged
        };
        let level = own.map_or(Level::Privileged, |name| {
            Level::parse(name).unwrap_or(unknown)
        });
        let version = label(namespace, &format!("{mode}-version")).filter(|v| is_version(v));
        Self {
            level,
            version: version.unwrap_or("latest").into(),
        }
    }
}

fn is_version(text: &str) -> bool {
    let minor = |number: &str| {
        !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && (number == "0" || !number.starts_with('0'))
    };
    text == "latest" || text.strip_prefix("v1.").is_some_and(minor)
}

/// What is wrong with a namespace's labels.
pub(super) fn label_errors(namespace: &Value) -> Vec<FieldError> {
    let metadata = FieldPath::root("metadata");
    let labels = metadata.child("labels");
    let mut errors = Vec::new();
    for mode in MODES {
        if let Some(level) = label(namespace, mode).filter(|l| Level::parse(l).is_none()) {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(
                &labels.key(&format!("{PREFIX}{mode}")),
                level,
                detail,
            ));
        }
        let name = format!("{mode}-version");
        if let Some(version) = label(namespace, &name).filter(|v| !is_version(v)) {
            let detail = "must be \"latest\" or \"v1.x\"";
            errors.push(FieldError::invalid(
                &labels.key(&format!("{PREFIX}{name}")),
                version,
                detail,
            ));
        }
    }
    errors
}
