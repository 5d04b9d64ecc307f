//! What shapes the API server itself: webhooks, admission policies, flow control; and nodes, drivers and leases.

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt};
use serde_json::{Map, Value, json};

use super::Rules;
use super::checks::Errors;
use super::values::{each, fill, fill_number, get_mut};

/// Validating and mutating webhook configurations.
pub(super) struct Webhooks {
    pub mutating: bool,
}

impl Rules for Webhooks {
    fn default(&self, object: &mut Value) {
        for webhook in each(object, "webhooks") {
            fill(webhook, "failurePolicy", "Fail");
            fill(webhook, "matchPolicy", "Equivalent");
            fill(webhook, "namespaceSelector", Map::new());
            fill(webhook, "objectSelector", Map::new());
            fill(webhook, "timeoutSeconds", 10);
            if self.mutating {
                fill(webhook, "reinvocationPolicy", "Never");
            }
            if let Some(service) = get_mut(webhook, &["clientConfig", "service"]) {
                fill(service, "port", 443);
            }
            each(webhook, "rules").for_each(|rule| fill(rule, "scope", "*"));
        }
    }

    fn warnings(&self, _object: &Value, old: Option<&Value>) -> Vec<String> {
        let what = if self.mutating {
            "MutatingWebhookConfiguration"
        } else {
            "ValidatingWebhookConfiguration"
        };
        without_effect(what, "its webhooks are not called", old)
    }
}

/// What to say to who makes an object that configures a part that this server does not have yet.
fn without_effect(kind: &str, what: &str, old: Option<&Value>) -> Vec<String> {
    match old {
        None => vec![format!(
            "{kind} is stored but has no effect yet: {what} by this server"
        )],
        Some(_) => Vec::new(),
    }
}

/// Definitions of custom resources.
pub(super) struct CustomResourceDefinition;

impl Rules for CustomResourceDefinition {
    fn warnings(&self, _object: &Value, old: Option<&Value>) -> Vec<String> {
        let what = "its custom resources are not served";
        without_effect("CustomResourceDefinition", what, old)
    }
}

/// Groups that other servers serve.
pub(super) struct ApiService;

impl Rules for ApiService {
    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        match object.pointer("/spec/service") {
            Some(Value::Object(_)) => {
                without_effect("APIService", "requests are not passed on", old)
            }
            _ => Vec::new(),
        }
    }
}

/// Validating and mutating admission policies.
pub(super) struct AdmissionPolicy;

impl Rules for AdmissionPolicy {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill(spec, "failurePolicy", "Fail");
            if let Some(matches) = get_mut(spec, &["matchConstraints"]) {
                match_resources(matches);
            }
        }
    }

    fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let kind = object["kind"].as_str().unwrap_or_default();
        without_effect(kind, "its expressions are not evaluated", old)
    }
}

/// Bindings of admission policies.
pub(super) struct AdmissionPolicyBinding;

impl Rules for AdmissionPolicyBinding {
    fn default(&self, object: &mut Value) {
        if let Some(matches) = get_mut(object, &["spec", "matchResources"]) {
            match_resources(matches);
        }
    }
}

fn match_resources(matches: &mut Value) {
    fill(matches, "matchPolicy", "Equivalent");
    fill(matches, "namespaceSelector", Map::new());
    fill(matches, "objectSelector", Map::new());
    for field in ["resourceRules", "excludeResourceRules"] {
        each(matches, field).for_each(|rule| fill(rule, "scope", "*"));
    }
}

pub(super) struct FlowSchema;

impl Rules for FlowSchema {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill_number(spec, "matchingPrecedence", 1000);
        }
    }
}

pub(super) struct PriorityLevel;

impl Rules for PriorityLevel {
    fn default(&self, object: &mut Value) {
        if let Some(exempt) = get_mut(object, &["spec", "exempt"]) {
            fill(exempt, "nominalConcurrencyShares", 0);
            fill(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = get_mut(object, &["spec", "limited"]) {
            fill(limited, "nominalConcurrencyShares", 30);
            fill(limited, "lendablePercent", 0);
        }
        if let Some(queuing) = get_mut(object, &["spec", "limited", "limitResponse", "queuing"]) {
            fill_number(queuing, "handSize", 8);
            fill_number(queuing, "queues", 64);
            fill_number(queuing, "queueLengthLimit", 50);
        }
    }
}

pub(super) struct CsiDriver;

impl Rules for CsiDriver {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = get_mut(object, &["spec"]) {
            fill(spec, "attachRequired", true);
            for field in [
                "podInfoOnMount",
                "storageCapacity",
                "requiresRepublish",
                "seLinuxMount",
            ] {
                fill(spec, field, false);
            }
            fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if spec.list(&["volumeLifecycleModes"]).is_empty() {
                super::values::set(spec, "volumeLifecycleModes", json!(["Persistent"]));
            }
        }
    }
}

pub(super) struct Node;

impl Rules for Node {
    fn default(&self, object: &mut Value) {
        // `podCIDR` is the first of `podCIDRs`; clients set either.
        let first = object
            .list(&["spec", "podCIDRs"])
            .first()
            .and_then(Value::as_str);
        let single = object.text(&["spec", "podCIDR"]);
        match (first.map(str::to_owned), single.to_owned()) {
            (Some(first), _) => object.set(&["spec", "podCIDR"], first),
            (None, single) if !single.is_empty() => {
                object.set(&["spec", "podCIDRs"], vec![single]);
            }
            _ => {}
        }
        if let Some(status) = get_mut(object, &["status"])
            && let Some(capacity) = status.field(&["capacity"]).cloned()
        {
            fill(status, "allocatable", capacity);
        }
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        for field in ["podCIDR", "providerID"] {
            let (new, old) = (object.text(&["spec", field]), old.text(&["spec", field]));
            if !old.is_empty() && new != old {
                let detail = "node updates may not change ".to_owned()
                    + field
                    + " except from \"\" to valid";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
    }
}

pub(super) struct Lease;

impl Rules for Lease {
    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let path = FieldPath::root("spec");
        let number = |field: &str| object.number(&["spec", field]);
        if let Some(seconds) = number("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let detail = "must be greater than 0";
            errors.push(FieldError::invalid(
                &path.child("leaseDurationSeconds"),
                seconds,
                detail,
            ));
        }
        if let Some(count) = number("leaseTransitions").filter(|count| *count < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(
                &path.child("leaseTransitions"),
                count,
                detail,
            ));
        }
    }
}

pub(super) struct RuntimeClass;

impl Rules for RuntimeClass {
    fn validate_create(&self, object: &Value, errors: &mut Errors) {
        let handler = object.text(&["handler"]);
        let sentences = api_machinery::dns_label_errors(handler);
        super::checks::invalid_each(&FieldPath::root("handler"), handler, sentences, errors);
    }

    fn validate_update(&self, object: &Value, old: &Value, errors: &mut Errors) {
        super::checks::immutable(object, old, &["handler"], errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::{created, stored};

    #[test]
    fn webhooks_are_completed() {
        let kept = stored(
            &Webhooks { mutating: true },
            json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]}),
        );
        let webhook = &kept["webhooks"][0];
        assert_eq!(
            (&webhook["timeoutSeconds"], &webhook["rules"][0]["scope"]),
            (&json!(10), &json!("*"))
        );
        assert_eq!(webhook["clientConfig"]["service"]["port"], 443);
        assert_eq!(webhook["reinvocationPolicy"], "Never");
    }

    #[test]
    fn leases_last() {
        assert_eq!(
            created(&Lease, json!({"spec": {"leaseDurationSeconds": 0}})),
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]
        );
    }
}
