//! The query parameters of the verbs, typed and checked.
//!
//! Unknown parameters are ignored, as in Kubernetes. Knows no kind.

use api_machinery::{FieldError, FieldPath, Status};
use serde_json::Value;

use crate::request::query_pairs;

/// How strictly a body's fields are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// How a list's resourceVersion is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// All parameters that any verb knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub label_selector: String,
    pub field_selector: String,
    pub watch: bool,
    pub allow_watch_bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_seconds: Option<u64>,
    pub limit: usize,
    pub continue_token: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub include_object: String,
    pub pretty: bool,
    pub dry_run: Vec<String>,
    pub field_manager: String,
    pub field_validation: String,
    pub force: Option<bool>,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
    pub orphan_dependents: Option<bool>,
}

// The conversion of upstream's query decoder: anything but these two means yes.
fn truth(text: &str) -> bool {
    !matches!(text.to_ascii_lowercase().as_str(), "false" | "0")
}

fn number<T: std::str::FromStr>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || {
        Status::bad_request(format!(
            "strconv.ParseInt: parsing {}: invalid syntax",
            api_machinery::go_quote(text)
        ))
    };
    text.parse().map(Some).map_err(|_| invalid())
}

impl Query {
    /// Of a raw query string.
    ///
    /// # Errors
    /// 400 where a number is none.
    pub fn parse(raw: &str) -> Result<Self, Status> {
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (key, value) in query_pairs(raw) {
            // Of a repeated parameter the first counts, as it does for authorization.
            if seen.contains(&key) && key != "dryRun" {
                continue;
            }
            seen.push(key.clone());
            let text = value.as_ref();
            match key.as_ref() {
                "labelSelector" => query.label_selector = value.into_owned(),
                "fieldSelector" => query.field_selector = value.into_owned(),
                "watch" => query.watch = truth(text),
                "allowWatchBookmarks" => query.allow_watch_bookmarks = truth(text),
                "sendInitialEvents" => query.send_initial_events = Some(truth(text)),
                "timeoutSeconds" => {
                    query.timeout_seconds = number::<i64>(text)?.map(|n| n.max(0).unsigned_abs())
                }
                "limit" => {
                    query.limit = number::<i64>(text)?.unwrap_or(0).max(0).unsigned_abs() as usize
                }
                "continue" => query.continue_token = value.into_owned(),
                "resourceVersion" => query.resource_version = value.into_owned(),
                "resourceVersionMatch" => query.resource_version_match = value.into_owned(),
                "includeObject" => query.include_object = value.into_owned(),
                "pretty" => query.pretty = truth(text),
                "dryRun" => query.dry_run.push(value.into_owned()),
                "fieldManager" => query.field_manager = value.into_owned(),
                "fieldValidation" => query.field_validation = value.into_owned(),
                "force" => query.force = Some(truth(text)),
                "gracePeriodSeconds" => query.grace_period_seconds = number(text)?,
                "propagationPolicy" => query.propagation_policy = Some(value.into_owned()),
                "orphanDependents" => query.orphan_dependents = Some(truth(text)),
                _ => {}
            }
        }
        Ok(query)
    }

    /// Whether the write is only tried.
    ///
    /// # Errors
    /// 422 for anything but `All`.
    pub fn dry_run(&self, options_kind: &str) -> Result<bool, Status> {
        dry_run(&self.dry_run, options_kind)
    }

    /// How strictly the body is checked.
    ///
    /// # Errors
    /// 422 for an unknown word.
    pub fn field_validation(&self, options_kind: &str) -> Result<FieldValidation, Status> {
        match self.field_validation.as_str() {
            "Ignore" => Ok(FieldValidation::Ignore),
            "Warn" | "" => Ok(FieldValidation::Warn),
            "Strict" => Ok(FieldValidation::Strict),
            other => {
                let path = FieldPath::root("fieldValidation");
                let error = FieldError::not_supported(&path, other, &["Ignore", "Strict", "Warn"]);
                Err(Status::invalid("meta.k8s.io", options_kind, "", &[error]))
            }
        }
    }

    /// The resourceVersion as a number; `None` where it is unset.
    ///
    /// # Errors
    /// 400 or 422, as upstream words it, where it is none.
    pub fn revision(&self) -> Result<Option<u64>, Status> {
        if self.resource_version.is_empty() {
            return Ok(None);
        }
        parse_revision(&self.resource_version).map(Some)
    }

    /// How the resourceVersion is meant, after [`Query::check_list`].
    pub fn version_match(&self) -> Option<VersionMatch> {
        match self.resource_version_match.as_str() {
            "Exact" => Some(VersionMatch::Exact),
            "NotOlderThan" => Some(VersionMatch::NotOlderThan),
            _ => None,
        }
    }

    /// Refuses combinations that mean nothing.
    ///
    /// # Errors
    /// 422 with every cause.
    pub fn check_list(&self, watch: bool) -> Result<(), Status> {
        let mut errors = Vec::new();
        if watch {
            self.check_watch(&mut errors)
        } else {
            self.check_plain_list(&mut errors)
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", &errors))
    }

    fn check_plain_list(&self, errors: &mut Vec<FieldError>) {
        let path = FieldPath::root("resourceVersionMatch");
        let mode = self.resource_version_match.as_str();
        if !mode.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(FieldError::forbidden(&path, why));
            }
            if !self.continue_token.is_empty() {
                errors.push(FieldError::forbidden(
                    &path,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if self.version_match().is_none() {
                errors.push(FieldError::not_supported(
                    &path,
                    mode,
                    &["Exact", "NotOlderThan", ""],
                ));
            }
            if mode == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(FieldError::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let path = FieldPath::root("sendInitialEvents");
            errors.push(FieldError::forbidden(
                &path,
                "sendInitialEvents is forbidden for list",
            ));
        }
    }

    fn check_watch(&self, errors: &mut Vec<FieldError>) {
        let path = FieldPath::root("resourceVersionMatch");
        let mode = self.resource_version_match.as_str();
        if self.send_initial_events.is_some() && mode != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(FieldError::forbidden(&path, why));
        }
        if mode.is_empty() {
            return;
        }
        if self.send_initial_events.is_none() {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(FieldError::forbidden(&path, why));
        }
        if mode != "NotOlderThan" {
            errors.push(FieldError::not_supported(&path, mode, &["NotOlderThan"]));
        }
        if !self.continue_token.is_empty() {
            errors.push(FieldError::forbidden(
                &path,
                "resourceVersionMatch is forbidden when continue is provided",
            ));
        }
    }
}

fn dry_run(values: &[String], options_kind: &str) -> Result<bool, Status> {
    if values.iter().all(|v| v == "All") {
        return Ok(!values.is_empty());
    }
    let path = FieldPath::root("dryRun");
    let error = FieldError::not_supported(&path, Value::from(values.to_vec()), &["All"]);
    Err(Status::invalid("meta.k8s.io", options_kind, "", &[error]))
}

/// The revision that a resourceVersion stands for.
///
/// # Errors
/// 400 where it is no number.
pub(crate) fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        let why = format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            api_machinery::go_quote(text)
        );
        let error = FieldError::invalid(&FieldPath::root("resourceVersion"), text, why);
        Status::invalid("", "ListOptions", "", &[error])
    })
}

/// What a delete was asked to do: the body, or the query where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    /// # Errors
    /// 400 for a body that is no `DeleteOptions`, 422 for values that mean nothing.
    pub fn new(body: Option<&Value>, query: &Query) -> Result<Self, Status> {
        let mut options = match body {
            Some(body) => Self::from_body(body)?,
            None => Self {
                grace_period_seconds: query.grace_period_seconds,
                propagation_policy: query.propagation_policy.clone(),
                orphan_dependents: query.orphan_dependents,
                dry_run: query.dry_run("DeleteOptions")?,
                ..Self::default()
            },
        };
        // kubectl sends dryRun in the query and a body besides.
        options.dry_run |= query.dry_run("DeleteOptions")?;
        options.check()?;
        Ok(options)
    }

    fn from_body(body: &Value) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if !body.is_object() {
            return Err(Status::bad_request(
                "the body of a delete must be a DeleteOptions object",
            ));
        }
        let values: Vec<String> = body["dryRun"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|v| v.as_str().unwrap_or_default().to_owned())
            .collect();
        Ok(Self {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            orphan_dependents: body["orphanDependents"].as_bool(),
            propagation_policy: text(&body["propagationPolicy"]),
            dry_run: dry_run(&values, "DeleteOptions")?,
        })
    }

    fn check(&self) -> Result<(), Status> {
        let path = FieldPath::root("propagationPolicy");
        let error = match self.propagation_policy.as_deref() {
            Some(policy) if self.orphan_dependents.is_some() => FieldError::invalid(
                &path,
                policy,
                "orphanDependents and deletionPropagation cannot be both set",
            ),
            None | Some("Orphan" | "Background" | "Foreground") => return Ok(()),
            Some(policy) => FieldError::not_supported(
                &path,
                policy,
                &["Background", "Foreground", "Orphan", "nil"],
            ),
        };
        Err(Status::invalid(
            "meta.k8s.io",
            "DeleteOptions",
            "",
            &[error],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, watch: bool, expect: &str) {
        let outcome = Query::parse(query)
            .and_then(|q| q.check_list(watch).and_then(|()| q.revision().map(drop)));
        assert_eq!(
            outcome.map_or_else(|s| s.message, |()| String::new()),
            expect,
            "{query}"
        );
    }

    #[test]
    fn the_first_of_repeated_parameters_counts() {
        let query =
            Query::parse("fieldSelector=metadata.name%3Da&fieldSelector=&dryRun=All&dryRun=x")
                .expect("parses");
        assert_eq!(query.field_selector, "metadata.name=a");
        assert!(query.dry_run("CreateOptions").is_err());
    }

    #[test]
    fn combinations_are_checked() {
        check("resourceVersion=5&resourceVersionMatch=Exact", false, "");
        check("limit=5&continue=x", false, "");
        check(
            "resourceVersionMatch=Exact",
            false,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
             unless resourceVersion is provided",
        );
        check(
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
            true,
            "",
        );
        check(
            "limit=x",
            false,
            "strconv.ParseInt: parsing \"x\": invalid syntax",
        );
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let query = Query::parse("gracePeriodSeconds=3&propagationPolicy=Orphan").expect("query");
        let from_query = DeleteOptions::new(None, &query).expect("options");
        assert_eq!(from_query.grace_period_seconds, Some(3));
        let body = serde_json::json!({"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "dryRun": ["All"]});
        let from_body = DeleteOptions::new(Some(&body), &query).expect("options");
        assert_eq!(
            (from_body.grace_period_seconds, from_body.dry_run),
            (Some(0), true)
        );
        assert_eq!(
            (from_body.uid.as_deref(), from_body.propagation_policy),
            (Some("u"), None)
        );
    }
}
