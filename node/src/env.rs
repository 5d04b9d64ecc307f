//! A container's environment: services, ConfigMaps, Secrets, the downward API, `$(VAR)` references. Pure: what it refers to is handed
//! in.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use crate::expand::expand;
use crate::fieldref::{self, NodeFields};
use crate::network::{Protocol, ServiceInfo};
use crate::pod::spec;

/// The objects that a pod's definition refers to, by name, as far as they exist.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) config_maps: BTreeMap<String, Arc<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Arc<Secret>>,
    /// Services of the pod's namespace, and `kubernetes` of the default one.
    pub(crate) services: Vec<Arc<ServiceInfo>>,
}

/// Name and value, in order of definition; a later value replaces an earlier one.
type Variables = Vec<(String, String)>;

fn set(variables: &mut Variables, name: &str, value: String) {
    match variables.iter_mut().find(|(n, _)| n == name) {
        Some((_, v)) => *v = value,
        None => variables.push((name.to_string(), value)),
    }
}

/// The whole environment of a container, or the message of a `CreateContainerConfigError`.
pub(crate) fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    node: &NodeFields,
) -> Result<Variables, String> {
    let services = service_variables(pod, sources);
    let mut own = Variables::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in env_from(from, sources)? {
            set(&mut own, &format!("{prefix}{key}"), value);
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (_, Some(source)) => from_source(pod, container, variable, source, sources, node)?,
            (value, None) => {
                let text = value.as_deref().unwrap_or_default();
                Some(expand(text, |name| {
                    lookup(&own, name).or_else(|| lookup(&services, name))
                }))
            }
        };
        if let Some(value) = value {
            set(&mut own, &variable.name, value);
        }
    }
    // What the pod defines itself wins over what services add.
    let added = services
        .into_iter()
        .filter(|(name, _)| !own.iter().any(|(n, _)| n == name))
        .collect::<Vec<_>>();
    own.extend(added);
    Ok(own)
}

fn lookup(variables: &Variables, name: &str) -> Option<String> {
    variables
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, v)| v.clone())
}

fn env_from(
    from: &k8s_openapi::api::core::v1::EnvFromSource,
    sources: &Sources,
) -> Result<Vec<(String, String)>, String> {
    if let Some(reference) = &from.config_map_ref {
        return match sources.config_maps.get(&reference.name) {
            Some(map) => Ok(map.data.clone().unwrap_or_default().into_iter().collect()),
            None if reference.optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("configmap \"{}\" not found", reference.name)),
        };
    }
    let Some(reference) = &from.secret_ref else {
        return Ok(Vec::new());
    };
    match sources.secrets.get(&reference.name) {
        Some(secret) => Ok(secret
            .data
            .iter()
            .flatten()
            .map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned()))
            .collect()),
        None if reference.optional == Some(true) => Ok(Vec::new()),
        None => Err(format!("secret \"{}\" not found", reference.name)),
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    sources: &Sources,
    node: &NodeFields,
) -> Result<Option<String>, String> {
    let namespace = spec::namespace(pod);
    if let Some(selector) = &source.field_ref {
        return fieldref::field(pod, selector, node).map(Some);
    }
    if let Some(selector) = &source.resource_field_ref {
        return fieldref::resource(pod, selector, &container.name, node).map(Some);
    }
    if let Some(r) = &source.config_map_key_ref {
        let optional = r.optional == Some(true);
        let Some(map) = sources.config_maps.get(&r.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("configmap \"{}\" not found", r.name))
            };
        };
        return match map.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in ConfigMap {namespace}/{}",
                r.key, r.name
            )),
        };
    }
    if let Some(r) = &source.secret_key_ref {
        let optional = r.optional == Some(true);
        let Some(secret) = sources.secrets.get(&r.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(format!("secret \"{}\" not found", r.name))
            };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(format!(
                "couldn't find key {} in Secret {namespace}/{}",
                r.key, r.name
            )),
        };
    }
    Err(format!(
        "environment variable {} has no supported source",
        variable.name
    ))
}

/// Docker-links style variables of the services that the pod may see.
fn service_variables(pod: &Pod, sources: &Sources) -> Variables {
    let links = pod
        .spec
        .as_ref()
        .and_then(|s| s.enable_service_links)
        .unwrap_or(true);
    let own_namespace = spec::namespace(pod);
    let mut variables = Variables::new();
    for service in &sources.services {
        let master = service.namespace == "default" && service.name == "kubernetes";
        if master || (links && service.namespace == own_namespace) {
            one_service(service, &mut variables);
        }
    }
    variables
}

fn one_service(service: &ServiceInfo, variables: &mut Variables) {
    let (Some(first), Some(ip)) = (service.ports.first(), service.cluster_ips.first()) else {
        return;
    };
    let prefix = service.name.to_uppercase().replace('-', "_");
    let host = if ip.is_ipv6() {
        format!("[{ip}]")
    } else {
        ip.to_string()
    };
    set(variables, &format!("{prefix}_SERVICE_HOST"), ip.to_string());
    set(
        variables,
        &format!("{prefix}_SERVICE_PORT"),
        first.port.to_string(),
    );
    for port in service.ports.iter().filter(|p| !p.name.is_empty()) {
        let key = format!(
            "{prefix}_SERVICE_PORT_{}",
            port.name.to_uppercase().replace('-', "_")
        );
        set(variables, &key, port.port.to_string());
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = match port.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            set(variables, &format!("{prefix}_PORT"), url.clone());
        }
        let key = format!("{prefix}_PORT_{}_{protocol}", port.port);
        set(variables, &key, url);
        set(variables, &format!("{key}_PROTO"), protocol.to_lowercase());
        set(variables, &format!("{key}_PORT"), port.port.to_string());
        set(variables, &format!("{key}_ADDR"), ip.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(container: Value, sources: &Sources) -> Result<String, String> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [container]}}),
        )
        .expect("a pod");
        let variables = environment(
            &pod,
            &spec::containers(&pod)[0],
            sources,
            &NodeFields::default(),
        )?;
        Ok(variables
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn order_and_references() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).expect("a map");
        let sources = Sources {
            config_maps: [("m".to_string(), Arc::new(map))].into(),
            ..Default::default()
        };
        let container = json!({"name": "c", "envFrom": [{"prefix": "x_", "configMapRef": {"name": "m"}}],
            "env": [{"name": "x_b", "value": "3$(x_a)"}, {"name": "n", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]});
        assert_eq!(run(container, &sources), Ok("x_a=1 x_b=31 n=p".into()));
    }

    #[test]
    fn what_is_missing() {
        let env = |source: Value| json!({"name": "c", "env": [{"name": "v", "valueFrom": source}]});
        let check = |source, expect: Result<&str, &str>| {
            let expect = expect.map(str::to_string).map_err(str::to_string);
            assert_eq!(run(env(source), &Sources::default()), expect);
        };
        check(
            json!({"configMapKeyRef": {"name": "m", "key": "k"}}),
            Err("configmap \"m\" not found"),
        );
        check(
            json!({"secretKeyRef": {"name": "m", "key": "k"}}),
            Err("secret \"m\" not found"),
        );
        check(
            json!({"secretKeyRef": {"name": "m", "key": "k", "optional": true}}),
            Ok(""),
        );
    }

    #[test]
    fn services() {
        let service: k8s_openapi::api::core::v1::Service = serde_json::from_value(json!({"metadata": {"name": "my-db", "namespace": "n"},
            "spec": {"clusterIP": "10.43.0.9", "ports": [{"name": "p-q", "port": 80, "protocol": "TCP"}]}}))
        .expect("a service");
        let sources = Sources {
            services: vec![Arc::new(ServiceInfo::from_api(&service).expect("valid"))],
            ..Default::default()
        };
        assert_eq!(
            run(json!({"name": "c"}), &sources),
            Ok("MY_DB_SERVICE_HOST=10.43.0.9 MY_DB_SERVICE_PORT=80 MY_DB_SERVICE_PORT_P_Q=80 MY_DB_PORT=tcp://10.43.0.9:80 \
                MY_DB_PORT_80_TCP=tcp://10.43.0.9:80 MY_DB_PORT_80_TCP_PROTO=tcp MY_DB_PORT_80_TCP_PORT=80 \
                MY_DB_PORT_80_TCP_ADDR=10.43.0.9"
                .into())
        );
    }
}
