//! Jobs.

use api_machinery::{
    FieldError, FieldPath, LabelSelector, ObjectExt, ObjectMutExt, dns_label_errors,
};
use serde_json::{Map, Value};

use super::checks::{self, Errors, immutable, not_negative};
use super::values::{each, fill, fill_text, get_mut};
use super::{Rules, pod_checks, pod_defaults};

const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";
const UID_LABELS: [&str; 2] = ["controller-uid", CONTROLLER_UID];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const MAX_INDEXED_PARALLELISM: i64 = 100_000;
/// What of a template may change while the job is suspended.
const SCHEDULING_FIELDS: [&str; 4] = ["nodeSelector", "tolerations", "affinity", "schedulingGates"];

pub(super) struct Job;

impl Rules for Job {
    fn default(&self, job: &mut Value) {
        if let Some(spec) = get_mut(job, &["spec"]) {
            spec_defaults(spec);
        }
        pod_defaults::template(job, &["spec", "template"]);
        let labels = job
            .map(&["spec", "template", "metadata", "labels"])
            .filter(|labels| !labels.is_empty())
            .cloned();
        if let Some(labels) = labels.filter(|_| job.labels().is_none_or(|own| own.is_empty())) {
            job.set(&["metadata", "labels"], labels);
        }
    }

    fn prepare_create(&self, job: &mut Value) {
        job.set(&["status"], Map::new());
        if !job.flag(&["spec", "manualSelector"]) {
            generate_selector(job);
        }
    }

    fn validate_create(&self, job: &Value, errors: &mut Errors) {
        generated_selector(job, errors);
        validate(job, errors);
        if job.text(&["spec", "completionMode"]) == "Indexed" {
            let last = job.number(&["spec", "completions"]).unwrap_or_default() - 1;
            let host = format!("{}-{last}", job.name());
            if last >= 0 && !dns_label_errors(&host).is_empty() {
                let detail = format!("will not able to create pod with invalid DNS label: {host}");
                errors.push(FieldError::invalid(
                    &FieldPath::root("metadata.name"),
                    job.name(),
                    detail,
                ));
            }
        }
    }

    fn validate_update(&self, job: &Value, old: &Value, errors: &mut Errors) {
        validate(job, errors);
        let indexed = job.text(&["spec", "completionMode"]) == "Indexed";
        let parallelism_follows =
            job.field(&["spec", "completions"]) == job.field(&["spec", "parallelism"]) && indexed;
        if !parallelism_follows {
            immutable(job, old, &["spec", "completions"], errors);
        }
        immutable(job, old, &["spec", "selector"], errors);
        template_update(job, old, errors);
        for field in [
            "completionMode",
            "podFailurePolicy",
            "backoffLimitPerIndex",
            "managedBy",
            "successPolicy",
        ] {
            immutable(job, old, &["spec", field], errors);
        }
    }
}

/// Defaults of a job's spec, also within cron jobs.
fn spec_defaults(spec: &mut Value) {
    if spec.field(&["completions"]).is_none() && spec.field(&["parallelism"]).is_none() {
        fill(spec, "completions", 1);
    }
    fill(spec, "parallelism", 1);
    let retries = if spec.field(&["backoffLimitPerIndex"]).is_some() {
        i32::MAX
    } else {
        6
    };
    fill(spec, "backoffLimit", retries);
    fill(spec, "completionMode", "NonIndexed");
    fill(spec, "suspend", false);
    let replacement = match spec.field(&["podFailurePolicy"]) {
        Some(_) => "Failed",
        None => "TerminatingOrFailed",
    };
    fill(spec, "podReplacementPolicy", replacement);
    fill(spec, "manualSelector", false);
    for rule in get_mut(spec, &["podFailurePolicy"])
        .into_iter()
        .flat_map(|policy| each(policy, "rules"))
    {
        each(rule, "onPodConditions").for_each(|pattern| fill_text(pattern, "status", "True"));
    }
}

/// A selector and labels by which no other job's pods can be taken for this one's.
fn generate_selector(job: &mut Value) {
    let (name, uid) = (job.name().to_owned(), job.uid().to_owned());
    let labels = job.map_mut(&["spec", "template", "metadata", "labels"]);
    for key in NAME_LABELS {
        labels.entry(key).or_insert_with(|| name.as_str().into());
    }
    for key in UID_LABELS {
        labels.entry(key).or_insert_with(|| uid.as_str().into());
    }
    job.map_mut(&["spec", "selector", "matchLabels"])
        .entry(CONTROLLER_UID)
        .or_insert_with(|| uid.into());
}

fn generated_selector(job: &Value, errors: &mut Errors) {
    if job.flag(&["spec", "manualSelector"]) || job.field(&["spec", "selector"]).is_none() {
        return;
    }
    let labels = job.map(&["spec", "template", "metadata", "labels"]);
    let path = FieldPath::root("spec.template.metadata.labels");
    for (keys, expected) in [(UID_LABELS, job.uid()), (NAME_LABELS, job.name())] {
        for key in keys {
            let found = labels
                .and_then(|labels| labels.get(key))
                .and_then(Value::as_str);
            if found != Some(expected) {
                let value = labels.cloned().map_or(Value::Null, Value::Object);
                errors.push(FieldError::invalid(
                    &path,
                    value,
                    format!("must be '{expected}'"),
                ));
            }
        }
    }
    let selected = job
        .map(&["spec", "selector", "matchLabels"])
        .and_then(|labels| labels.get(CONTROLLER_UID));
    if selected.and_then(Value::as_str) != Some(job.uid()) {
        let value = job
            .field(&["spec", "selector"])
            .cloned()
            .unwrap_or(Value::Null);
        errors.push(FieldError::invalid(
            &FieldPath::root("spec.selector"),
            value,
            "`selector` not auto-generated",
        ));
    }
}

fn validate(job: &Value, errors: &mut Errors) {
    let empty = Value::Null;
    let spec = job.field(&["spec"]).unwrap_or(&empty);
    let path = FieldPath::root("spec");
    job_spec(spec, &path, errors);
    match spec.field(&["selector"]) {
        None => errors.push(FieldError::required(&path.child("selector"), "")),
        Some(selector) => checks::label_selector(selector, &path.child("selector"), errors),
    }
    if let Ok(selector) = LabelSelector::from_object(spec.field(&["selector"])) {
        checks::template_matches(spec, &selector, &path, errors);
    }
}

/// A job's spec without its selector, also within cron jobs.
pub(super) fn job_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, field, path, errors);
    }
    completion_mode(spec, path, errors);
    let policy_set = spec.field(&["podFailurePolicy"]).is_some();
    if policy_set && spec.text(&["podReplacementPolicy"]) != "Failed" {
        let value = spec.text(&["podReplacementPolicy"]);
        errors.push(FieldError::not_supported(
            &path.child("podReplacementPolicy"),
            value,
            &["Failed"],
        ));
    }
    let Some(template) = spec.field(&["template"]) else {
        errors.push(FieldError::required(&path.child("template"), ""));
        return;
    };
    pod_checks::template(template, &path.child("template"), errors);
    let policy_path = path.child("template.spec.restartPolicy");
    match template.text(&["spec", "restartPolicy"]) {
        "" | "Always" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(&policy_path, detail));
        }
        "Never" => {}
        "OnFailure" if policy_set => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&policy_path, "OnFailure", detail));
        }
        "OnFailure" => {}
        other => errors.push(FieldError::not_supported(
            &policy_path,
            other,
            &["OnFailure", "Never"],
        )),
    }
}

fn completion_mode(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    checks::one_of_if_set(
        spec,
        "completionMode",
        &["NonIndexed", "Indexed"],
        path,
        errors,
    );
    let per_index = ["backoffLimitPerIndex", "maxFailedIndexes"];
    if spec.text(&["completionMode"]) != "Indexed" {
        for field in per_index {
            if let Some(number) = spec.number(&[field]) {
                let detail = "requires indexed completion mode";
                errors.push(FieldError::invalid(&path.child(field), number, detail));
            }
        }
        if let Some(policy) = spec.field(&["successPolicy"]) {
            let detail = "requires indexed completion mode";
            errors.push(FieldError::invalid(
                &path.child("successPolicy"),
                policy.clone(),
                detail,
            ));
        }
        return;
    }
    let completions = spec.number(&["completions"]);
    if completions.is_none() {
        errors.push(FieldError::required(
            &path.child("completions"),
            "when completion mode is Indexed",
        ));
    }
    if let Some(parallelism) = spec
        .number(&["parallelism"])
        .filter(|number| *number > MAX_INDEXED_PARALLELISM)
    {
        let detail = format!(
            "must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed"
        );
        errors.push(FieldError::invalid(
            &path.child("parallelism"),
            parallelism,
            detail,
        ));
    }
    let failed = spec.number(&["maxFailedIndexes"]);
    if failed.is_some() && spec.field(&["backoffLimitPerIndex"]).is_none() {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(
            &path.child("backoffLimitPerIndex"),
            detail,
        ));
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        let detail = "must be less than or equal to completions";
        errors.push(FieldError::invalid(
            &path.child("maxFailedIndexes"),
            failed,
            detail,
        ));
    }
}

/// A template may change only in where its pods run, and only before the job has started.
fn template_update(job: &Value, old: &Value, errors: &mut Errors) {
    let template = |object: &Value| {
        object
            .field(&["spec", "template"])
            .cloned()
            .unwrap_or(Value::Null)
    };
    let (mut new, mut before) = (template(job), template(old));
    let not_started =
        old.flag(&["spec", "suspend"]) && old.text(&["status", "startTime"]).is_empty();
    if not_started {
        for template in [&mut new, &mut before] {
            for field in SCHEDULING_FIELDS {
                template.remove_field(&["spec", field]);
            }
            for field in ["labels", "annotations"] {
                template.remove_field(&["metadata", field]);
            }
        }
    }
    if new != before {
        errors.push(FieldError::immutable(
            &FieldPath::root("spec.template"),
            template(job),
        ));
    }
}

/// Defaults of the job template within a cron job.
pub(super) fn template_defaults(template: &mut Value) {
    if let Some(spec) = get_mut(template, &["spec"]) {
        spec_defaults(spec);
    }
    pod_defaults::template(template, &["spec", "template"]);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::{created, stored, updated};

    fn job(policy: &str) -> Value {
        json!({"metadata": {"name": "j", "uid": "u-1"}, "spec": {"template": {"spec": {
            "restartPolicy": policy, "containers": [{"name": "a", "image": "i"}]}}}})
    }

    #[test]
    fn selectors_are_generated() {
        let kept = stored(&Job, job("Never"));
        assert_eq!(
            kept["spec"]["selector"],
            json!({"matchLabels": {CONTROLLER_UID: "u-1"}})
        );
        assert_eq!(
            kept["spec"]["template"]["metadata"]["labels"]["job-name"],
            "j"
        );
        assert_eq!(
            (
                &kept["spec"]["completions"],
                &kept["spec"]["parallelism"],
                &kept["spec"]["backoffLimit"]
            ),
            (&json!(1), &json!(1), &json!(6))
        );
        assert_eq!(created(&Job, job("Never")), [""; 0]);
    }

    #[test]
    fn pods_of_jobs_must_end() {
        assert_eq!(
            created(&Job, job("Always")),
            [
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
            ]
        );
    }

    #[test]
    fn templates_do_not_change() {
        let old = stored(&Job, job("Never"));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["containers"][0]["image"] = "other".into();
        let mut errors = Vec::new();
        Job.validate_update(&new, &old, &mut errors);
        assert_eq!(errors.len(), 1);
        assert_eq!(
            (errors[0].field.as_str(), errors[0].detail.as_str()),
            ("spec.template", "field is immutable")
        );
        let mut wider = old.clone();
        wider["spec"]["parallelism"] = 3.into();
        assert_eq!(updated(&Job, wider, &old), [""; 0]);
    }
}
