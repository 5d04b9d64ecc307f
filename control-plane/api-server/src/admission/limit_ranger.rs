//! LimitRanger: a namespace's LimitRanges give containers what they do not ask for, and refuse what is out of bounds.

use std::sync::Arc;

use api_machinery::{ObjectExt, Quantity, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::pod_resources::{ResourceList, pod_total, quantities};
use super::{aggregate, forbid};
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// Amounts above this are compared in whole units.
const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

pub(super) struct LimitRanger {
    pub(super) reader: Arc<dyn ObjectReader>,
}

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        match attributes.operation {
            Operation::Create => {
                attributes.is("", "pods") || attributes.is("", "persistentvolumeclaims")
            }
            Operation::Update => {
                attributes.is("", "pods/resize") || attributes.is("", "persistentvolumeclaims")
            }
            _ => false,
        }
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if attributes.resource == "pods" {
            let ranges = self
                .reader
                .list("", "limitranges", Some(&attributes.namespace));
            if let Some(pod) = &mut attributes.object {
                ranges.iter().for_each(|range| set_defaults(pod, range));
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        if attributes
            .old
            .as_ref()
            .is_some_and(|old| !old["metadata"]["deletionTimestamp"].is_null())
        {
            return Ok(());
        }
        for range in self
            .reader
            .list("", "limitranges", Some(&attributes.namespace))
        {
            let limits = range.list(&["spec", "limits"]).iter();
            let errors: Vec<String> = match attributes.resource.as_str() {
                "pods" => limits.flat_map(|limit| check_pod(limit, object)).collect(),
                _ => limits
                    .flat_map(|limit| check_claim(limit, object))
                    .collect(),
            };
            if let Some(reason) = aggregate(errors) {
                return Err(forbid(attributes, reason));
            }
        }
        Ok(())
    }
}

/// `default` and `defaultRequest` of the range's container limits; what is not given follows from `max` and `min`.
fn defaults(
    range: &Value,
) -> (
    serde_json::Map<String, Value>,
    serde_json::Map<String, Value>,
) {
    let (mut limits, mut requests) = (serde_json::Map::new(), serde_json::Map::new());
    for item in range
        .list(&["spec", "limits"])
        .iter()
        .filter(|l| l.text(&["type"]) == "Container")
    {
        let of = |field: &str| item.map(&[field]).cloned().unwrap_or_default();
        let mut default = of("default");
        for (resource, amount) in of("max") {
            default.entry(resource).or_insert(amount);
        }
        let mut request = of("defaultRequest");
        for (resource, amount) in default.clone().into_iter().chain(of("min")) {
            request.entry(resource).or_insert(amount);
        }
        limits.extend(default);
        requests.extend(request);
    }
    (limits, requests)
}

fn set_defaults(pod: &mut Value, range: &Value) {
    let (limits, requests) = defaults(range);
    let mut said = Vec::new();
    for (field, what) in [
        ("containers", "container"),
        ("initContainers", "init container"),
    ] {
        for container in pod["spec"]
            .get_mut(field)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let name = container.text(&["name"]).to_owned();
            for (kind, list, word) in [
                ("requests", &requests, "request"),
                ("limits", &limits, "limit"),
            ] {
                let mut set = Vec::new();
                for (resource, amount) in list {
                    if container.field(&["resources", kind, resource]).is_none() {
                        container["resources"][kind][resource] = amount.clone();
                        set.push(resource.as_str());
                    }
                }
                if !set.is_empty() {
                    set.sort_unstable();
                    said.push(format!("{} {word} for {what} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        pod["metadata"]["annotations"][ANNOTATION] =
            json!(format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

fn check_pod(limit: &Value, pod: &Value) -> Vec<String> {
    match limit.text(&["type"]) {
        "Container" => ["containers", "initContainers"]
            .iter()
            .flat_map(|field| pod.list(&["spec", field]))
            .flat_map(|container| {
                let of = |kind| quantities(container.field(&["resources", kind]));
                check(limit, "Container", &of("requests"), &of("limits"))
            })
            .collect(),
        "Pod" => check(
            limit,
            "Pod",
            &pod_total(pod, "requests"),
            &pod_total(pod, "limits"),
        ),
        _ => Vec::new(),
    }
}

fn check_claim(limit: &Value, claim: &Value) -> Vec<String> {
    const TYPE: &str = "PersistentVolumeClaim";
    if limit.text(&["type"]) != TYPE {
        return Vec::new();
    }
    let requests = quantities(claim.field(&["spec", "resources", "requests"]));
    let none = ResourceList::new();
    let min = quantities(limit.get("min")).into_iter();
    let max = quantities(limit.get("max")).into_iter();
    min.filter_map(|(resource, enforced)| minimum(TYPE, &resource, enforced, &requests, &none))
        .chain(
            max.filter_map(|(resource, enforced)| match requests.get(&resource) {
                None => Some(format!(
                    "maximum {resource} usage per {TYPE} is {enforced}.  No request is specified"
                )),
                Some(request) if *request > enforced => Some(format!(
                    "maximum {resource} usage per {TYPE} is {enforced}, but request is {request}"
                )),
                Some(_) => None,
            }),
        )
        .collect()
}

fn check(limit: &Value, what: &str, requests: &ResourceList, limits: &ResourceList) -> Vec<String> {
    type Check = fn(&str, &str, Quantity, &ResourceList, &ResourceList) -> Option<String>;
    let checks: [(&str, Check); 3] = [
        ("min", minimum),
        ("max", maximum),
        ("maxLimitRequestRatio", ratio),
    ];
    let of = |field: &str| quantities(limit.get(field));
    checks
        .iter()
        .flat_map(|(field, check)| {
            of(field)
                .into_iter()
                .filter_map(|(r, q)| check(what, &r, q, requests, limits))
        })
        .collect()
}

fn minimum(
    what: &str,
    resource: &str,
    enforced: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let usage = format!("minimum {resource} usage per {what} is {enforced}");
    match (requests.get(resource), limits.get(resource)) {
        (None, _) => Some(format!("{usage}.  No request is specified")),
        (Some(request), _) if *request < enforced => {
            Some(format!("{usage}, but request is {request}"))
        }
        (_, Some(limit)) if *limit < enforced => Some(format!("{usage}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    what: &str,
    resource: &str,
    enforced: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let usage = format!("maximum {resource} usage per {what} is {enforced}");
    match (requests.get(resource), limits.get(resource)) {
        (_, None) => Some(format!("{usage}.  No limit is specified")),
        (_, Some(limit)) if *limit > enforced => Some(format!("{usage}, but limit is {limit}")),
        (Some(request), _) if *request > enforced => {
            Some(format!("{usage}, but request is {request}"))
        }
        _ => None,
    }
}

fn ratio(
    what: &str,
    resource: &str,
    enforced: Quantity,
    requests: &ResourceList,
    limits: &ResourceList,
) -> Option<String> {
    let usage = format!("{resource} max limit to request ratio per {what} is {enforced}");
    let some = |list: &ResourceList| list.get(resource).copied().filter(|q| !q.is_zero());
    let Some(request) = some(requests) else {
        return Some(format!(
            "{usage}, but no request is specified or request is 0"
        ));
    };
    let Some(limit) = some(limits) else {
        return Some(format!("{usage}, but no limit is specified or limit is 0"));
    };
    let milli = request.value() <= MAX_MILLI_VALUE && limit.value() <= MAX_MILLI_VALUE;
    let units = |q: Quantity| if milli { q.milli_value() } else { q.value() } as f64;
    let provided = units(limit) / units(request);
    let allowed = enforced.milli_value() as f64 / 1000.0;
    (provided > allowed).then(|| format!("{usage}, but provided ratio is {provided:.6}"))
}
