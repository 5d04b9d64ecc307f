//! Cron jobs.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt};
use serde_json::{Map, Value};

use super::checks::{self, Errors, not_negative};
use super::values::{fill, fill_text, get_mut};
use super::{Rules, job, schedule};

/// Longest name, so that the jobs' names still fit a label.
const MAX_NAME_LENGTH: usize = 52;

pub(super) struct CronJob;

impl Rules for CronJob {
    fn default(&self, object: &mut Value) {
        let Some(spec) = get_mut(object, &["spec"]) else {
            return;
        };
        fill_text(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = get_mut(spec, &["jobTemplate"]) {
            job::template_defaults(template);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Map::new());
    }

    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        validate(object, None, errors);
        if object.name().len() > MAX_NAME_LENGTH {
            let detail = "must be no more than 52 characters";
            errors.push(FieldError::invalid(
                &FieldPath::root("metadata.name"),
                object.name(),
                detail,
            ));
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        validate(object, Some(old), errors);
    }
}

fn validate(object: &Value, old: Option<&Value>, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = object.field(&["spec"]).unwrap_or(&empty);
    let path = FieldPath::root("spec");
    let schedule_path = path.child("schedule");
    let text = spec.text(&["schedule"]);
    let zone_was_allowed = old.is_some_and(|old| old.text(&["spec", "schedule"]).contains("TZ"));
    if text.is_empty() {
        errors.push(FieldError::required(&schedule_path, ""));
    } else {
        if let Err(error) = schedule::check(text) {
            errors.push(FieldError::invalid(&schedule_path, text, error));
        }
        if text.contains("TZ") && !zone_was_allowed {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.push(FieldError::invalid(&schedule_path, text, detail));
        } else if text.contains("TZ") && spec.field(&["timeZone"]).is_some() {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            errors.push(FieldError::invalid(&schedule_path, text, detail));
        }
    }
    not_negative(spec, "startingDeadlineSeconds", &path, errors);
    time_zone(spec, &path.child("timeZone"), errors);
    checks::one_of(
        spec,
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
        &path,
        errors,
    );
    let template = path.child("jobTemplate");
    match spec.field(&["jobTemplate", "spec"]) {
        Some(job_spec) => job::job_spec(job_spec, &template.child("spec"), errors),
        None => errors.push(FieldError::required(&template.child("spec"), "")),
    }
    not_negative(spec, "successfulJobsHistoryLimit", &path, errors);
    not_negative(spec, "failedJobsHistoryLimit", &path, errors);
}

fn time_zone(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(zone) = spec.field(&["timeZone"]).and_then(Value::as_str) else {
        return;
    };
    let detail = if zone.is_empty() {
        "timeZone must be nil or non-empty string".to_owned()
    } else if zone.eq_ignore_ascii_case("local") {
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            .to_owned()
    } else if zone
        .split('/')
        .any(|part| part.is_empty() || part.starts_with(['.', '-']))
    {
        format!("unknown time zone {zone}")
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, zone, detail));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::created;

    #[test]
    fn schedules_are_checked() {
        let object = |schedule: &str| {
            json!({"metadata": {"name": "c"}, "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}}}})
        };
        assert_eq!(created(&CronJob, object("*/5 * * * *")), [""; 0]);
        assert_eq!(
            created(&CronJob, object("* *")),
            ["spec.schedule: Invalid value: \"* *\": expected exactly 5 fields, found 2: [* *]"]
        );
        assert_eq!(created(&CronJob, object("TZ=UTC 0 0 * * *")).len(), 1);
    }
}
