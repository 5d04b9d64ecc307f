//! `serviceaccounts/NAME/token`: a TokenRequest answered with a token.

use std::sync::Arc;

use api_machinery::{FieldError, FieldPath, Status, go_quote};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::ServiceAccountTokens;
use super::claims::{Bound, Claims, Reference};
use super::verify::service_account_user;

const GROUP: &str = "authentication.k8s.io";
const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What kubelets ask for on behalf of pods; such tokens live on, so that pods that never read them again keep working.
const EXTENDED_FROM_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;

impl ServiceAccountTokens {
    /// Answers a TokenRequest for the service account `namespace/name`; `request` is the object as the client sent it.
    pub async fn create(
        &self,
        namespace: &str,
        name: &str,
        mut request: Value,
        now: Timestamp,
    ) -> Result<Value, Status> {
        check_name(&request, namespace, name)?;
        let account = self.find("serviceaccounts", namespace, name).await?;
        let uid = text(&account["metadata"]["uid"]);
        let asked = text(&request["metadata"]["uid"]);
        if !asked.is_empty() && asked != uid {
            let reason = format!(
                "the UID in the token request ({asked}) does not match the UID of the service account ({uid})"
            );
            return Err(Status::conflict(GROUP, "TokenRequest", name, reason));
        }
        self.default(&mut request);
        let (audiences, seconds) = validate(&request)?;
        let bound = self
            .bind(namespace, name, uid, &request["spec"]["boundObjectRef"])
            .await?;
        let extended = seconds == EXTENDED_FROM_SECONDS
            && bound.pod.is_some()
            && audiences.iter().all(|a| self.audiences().contains(a));
        let issued = now.as_second();
        let claims = Claims {
            aud: audiences,
            exp: issued + if extended { EXTENDED_SECONDS } else { seconds },
            iat: issued,
            iss: self.0.config.issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            kubernetes: Bound {
                warnafter: extended.then_some(issued + seconds),
                ..bound
            },
            nbf: issued,
            sub: service_account_user(namespace, name),
        };
        let token = self.0.keys.sign(&claims).map_err(Status::internal_error)?;
        let expires = now + SignedDuration::from_secs(seconds);
        request["kind"] = "TokenRequest".into();
        request["apiVersion"] = format!("{GROUP}/v1").into();
        request["metadata"]["name"] = name.into();
        request["metadata"]["namespace"] = namespace.into();
        request["metadata"]["uid"] = uid.into();
        request["metadata"]["creationTimestamp"] = rfc3339(now).into();
        request["status"] = json!({"token": token, "expirationTimestamp": rfc3339(expires)});
        Ok(request)
    }

    fn default(&self, request: &mut Value) {
        if !request["metadata"].is_object() {
            request["metadata"] = json!({});
        }
        if !request["spec"].is_object() {
            request["spec"] = json!({});
        }
        if request["spec"]["audiences"]
            .as_array()
            .is_none_or(Vec::is_empty)
        {
            request["spec"]["audiences"] = json!(self.audiences());
        }
        if request["spec"]["expirationSeconds"].is_null() {
            request["spec"]["expirationSeconds"] = DEFAULT_SECONDS.into();
        }
    }

    async fn bind(
        &self,
        namespace: &str,
        account: &str,
        uid: &str,
        reference: &Value,
    ) -> Result<Bound, Status> {
        let mut bound = Bound {
            namespace: namespace.into(),
            serviceaccount: Reference {
                name: account.into(),
                uid: uid.into(),
            },
            ..Bound::default()
        };
        if !reference.is_object() {
            return Ok(bound);
        }
        let (kind, version, name) = (
            text(&reference["kind"]),
            text(&reference["apiVersion"]),
            text(&reference["name"]),
        );
        let object = match (version, kind) {
            (version, "Pod") if !version.contains('/') => {
                self.find("pods", namespace, name).await?
            }
            (version, "Secret") if !version.contains('/') => {
                self.find("secrets", namespace, name).await?
            }
            (version, "Node") if !version.contains('/') => self.find("nodes", "", name).await?,
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let described = format!("{group}/{version}, Kind={kind}");
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {described}"
                )));
            }
        };
        let found = Reference {
            name: name.into(),
            uid: text(&object["metadata"]["uid"]).into(),
        };
        let asked = text(&reference["uid"]);
        if kind == "Pod" && object["spec"]["serviceAccountName"] != account {
            return Err(Status::bad_request(format!(
                "cannot bind token for serviceaccount {} to pod running with different serviceaccount name.",
                go_quote(account)
            )));
        }
        if !asked.is_empty() && asked != found.uid {
            let reason = format!(
                "the UID in the bound object reference ({asked}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, reason));
        }
        match kind {
            "Pod" => {
                bound.node = self.node_of(&object);
                bound.pod = Some(found);
            }
            "Secret" => bound.secret = Some(found),
            _ => bound.node = Some(found),
        }
        Ok(bound)
    }

    fn node_of(&self, pod: &Value) -> Option<Reference> {
        let name = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty())?;
        let node = self.0.reader.get("", "nodes", "", name);
        let uid = node
            .map(|n| text(&n["metadata"]["uid"]).to_owned())
            .unwrap_or_default();
        Some(Reference {
            name: name.into(),
            uid,
        })
    }

    async fn find(&self, plural: &str, namespace: &str, name: &str) -> Result<Arc<Value>, Status> {
        let found = self
            .0
            .reader
            .get_latest("", plural, namespace, name)
            .await?;
        found.ok_or_else(|| Status::not_found("", plural, name))
    }
}

fn check_name(request: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    for (field, wanted, what) in [
        ("name", name, "name"),
        ("namespace", namespace, "namespace"),
    ] {
        let given = text(&request["metadata"][field]);
        if !given.is_empty() && given != wanted {
            let metadata = FieldPath::root("metadata");
            let path = metadata.child(field);
            let message = format!("must match the service account {what} if specified");
            let error = FieldError::invalid(&path, given, message);
            return Err(Status::invalid(GROUP, "TokenRequest", name, &[error]));
        }
    }
    Ok(())
}

fn validate(request: &Value) -> Result<(Vec<String>, i64), Status> {
    let spec = FieldPath::root("spec");
    let mut errors = Vec::new();
    let seconds = request["spec"]["expirationSeconds"]
        .as_i64()
        .unwrap_or_default();
    let path = spec.child("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > MAX_SECONDS {
        errors.push(FieldError::invalid(
            &path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    let audiences = request["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten();
    let audiences = audiences
        .filter_map(|a| a.as_str().map(String::from))
        .collect();
    if errors.is_empty() {
        Ok((audiences, seconds))
    } else {
        Err(Status::invalid(GROUP, "TokenRequest", "", &errors))
    }
}

/// To the second, as the API writes times.
fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
