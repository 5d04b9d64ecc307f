//! Events, in their stored form of the core group.

use api_machinery::{FieldError, FieldPath, ObjectExt};
use serde_json::Value;

use super::Rules;
use super::checks::Errors;

pub(super) struct Event;

impl Rules for Event {
    fn validate_create(&self, event: &Value, errors: &mut Errors) {
        // Events about cluster-scoped objects lie in `default`.
        let subject = event.text(&["involvedObject", "namespace"]);
        let fits = match subject {
            "" => matches!(event.namespace(), "" | "default"),
            subject => subject == event.namespace(),
        };
        if !fits {
            let path = FieldPath::root("involvedObject.namespace");
            let detail = "does not match event.namespace";
            errors.push(FieldError::invalid(&path, subject, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::check::created;

    #[test]
    fn events_lie_beside_their_subject() {
        let event = |namespace: &str, subject: &str| json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": subject}});
        assert_eq!(created(&Event, event("a", "a")), [""; 0]);
        assert_eq!(created(&Event, event("default", "")), [""; 0]);
        assert_eq!(
            created(&Event, event("a", "b")),
            [r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#]
        );
    }
}
