//! The downward API: fields of a pod and resources of its containers as text. Pure.

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::pod::spec;
use crate::quantity::parse;
use crate::resources;

/// What of the node the downward API can show.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFields {
    pub(crate) host_ips: Vec<String>,
    /// The pod's addresses, known once its sandbox runs.
    pub(crate) pod_ips: Vec<String>,
    /// Allocatable, for containers without a limit: millicores and bytes.
    pub(crate) cpu_millis: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) ephemeral_storage_bytes: i64,
}

/// The field as text, or why there is none.
pub(crate) fn field(
    pod: &Pod,
    selector: &ObjectFieldSelector,
    node: &NodeFields,
) -> Result<String, String> {
    let path = selector.field_path.as_str();
    let spec = pod.spec.as_ref();
    let metadata = &pod.metadata;
    if let Some((base, key)) = subscript(path) {
        let map = match base {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(format!("unsupported fieldPath: {path}")),
        };
        return Ok(map
            .as_ref()
            .and_then(|m| m.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => spec::name(pod).into(),
        "metadata.namespace" => spec::namespace(pod).into(),
        "metadata.uid" => spec::uid(pod).into(),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => node.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => node.host_ips.join(","),
        "status.podIP" => node.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => node.pod_ips.join(","),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (base, rest) = path.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

/// `key="value"` lines, sorted by key.
fn format_map(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    map.into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The resource as text, in units of the divisor, or why there is none.
pub(crate) fn resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    own_name: &str,
    node: &NodeFields,
) -> Result<String, String> {
    let name = selector
        .container_name
        .as_deref()
        .filter(|n| !n.is_empty())
        .unwrap_or(own_name);
    let container =
        spec::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let per = if resource == "cpu" { 1000 } else { 1 };
    let amount =
        |q: k8s_openapi::apimachinery::pkg::api::resource::Quantity| parse(&q.0, per).unwrap_or(0);
    let of_node = match resource {
        "cpu" => node.cpu_millis,
        "memory" => node.memory_bytes,
        "ephemeral-storage" => node.ephemeral_storage_bytes,
        _ => 0,
    };
    let found = match kind {
        // Without a limit the container may use all that the node has.
        "limits" => resources::limit(container, resource)
            .map(amount)
            .filter(|v| *v > 0)
            .unwrap_or(of_node),
        "requests" => resources::request(container, resource)
            .map(amount)
            .unwrap_or(0),
        _ => return Err(unsupported()),
    };
    let divisor = selector
        .divisor
        .as_ref()
        .map_or(0, |d| parse(&d.0, per).unwrap_or(0));
    let divisor = if divisor == 0 { per as i64 } else { divisor };
    Ok((found / divisor + i64::from(found % divisor > 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"b": "x\"y", "a": "1"}},
            "spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]}}))
        .expect("a pod");
        let node = NodeFields {
            memory_bytes: 1 << 30,
            ..Default::default()
        };
        let of = |path: &str| {
            field(
                &pod,
                &ObjectFieldSelector {
                    field_path: path.into(),
                    ..Default::default()
                },
                &node,
            )
        };
        assert_eq!(of("metadata.labels"), Ok("a=\"1\"\nb=\"x\\\"y\"".into()));
        assert_eq!(of("metadata.labels['a']"), Ok("1".into()));
        assert!(of("spec.nonsense").is_err());
        let amount = |name: &str, divisor: &str| {
            let divisor = Some(k8s_openapi::apimachinery::pkg::api::resource::Quantity(
                divisor.into(),
            ));
            resource(
                &pod,
                &ResourceFieldSelector {
                    resource: name.into(),
                    divisor,
                    ..Default::default()
                },
                "c",
                &node,
            )
        };
        assert_eq!(amount("limits.cpu", "1"), Ok("2".into()));
        assert_eq!(amount("limits.cpu", "1m"), Ok("1500".into()));
        assert_eq!(amount("requests.memory", "1Mi"), Ok("64".into()));
        assert_eq!(amount("limits.memory", "0"), Ok((1u64 << 30).to_string()));
    }
}
