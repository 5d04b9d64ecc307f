//! Mirrors Endpoints that somebody made by hand (for a Service without a selector) into endpoint slices, which is what
//! service proxies read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_client::{Client, Informer, ObjectKey, is_not_found};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::allocation::{Actions, Desired, allocate};
use super::slices::{MANAGED_BY, SERVICE_NAME};
use super::{HEADLESS, is_headless};
use crate::context::{Context, Controller, Queue, enqueue_on_change};
use crate::error::Outcome;
use crate::support::{
    Expectations, Meta, Selector, is_namespace_terminating, owner_reference, route_dependents,
};

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints object itself.
const NOT_COPIED: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// Index: namespace and service of mirrored slices.
const BY_SERVICE: &str = "mirrored slices by service";

/// Keys are those of Services, which are those of their Endpoints.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let (services, endpoints) = (
        context.informer::<Service>(),
        context.informer::<Endpoints>(),
    );
    enqueue_on_change(&services, queue);
    enqueue_on_change(&endpoints, queue);
    let expectations = Arc::new(Expectations::default());
    // Slices are never adopted.
    route_dependents::<Endpoints, EndpointSlice>(context, queue, expectations.clone(), |_| {
        Selector::new(None)
    });
    let slices = context.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| {
        let mirrored = slice
            .labels()
            .get(MANAGED_BY)
            .is_some_and(|by| by == CONTROLLER);
        let service = slice.labels().get(SERVICE_NAME).filter(|_| mirrored);
        service
            .map(|name| format!("{}/{name}", slice.namespace()))
            .into_iter()
            .collect()
    });
    Arc::new(Mirroring {
        client: context.client.clone(),
        services,
        endpoints,
        slices,
        expectations,
    })
}

struct Mirroring {
    client: Client,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    expectations: Arc<Expectations>,
}

#[async_trait]
impl Controller for Mirroring {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        if !self.expectations.satisfied(key) {
            return Ok(());
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        let existing: Vec<EndpointSlice> = existing.iter().map(|slice| (**slice).clone()).collect();
        let (service, endpoints) = (self.services.get(key), self.endpoints.get(key));
        let actions = match (service, endpoints) {
            (Some(service), Some(endpoints)) if is_mirrored(&service, &endpoints) => {
                plan(&service, &endpoints, existing)
            }
            _ => Actions {
                delete: existing,
                ..Actions::default()
            },
        };
        self.carry_out(key, actions).await
    }
}

impl Mirroring {
    async fn carry_out(&self, key: &ObjectKey, actions: Actions) -> Outcome {
        for slice in &actions.create {
            self.expectations.expect_creations(key, 1);
            if let Err(status) = self.client.create(key.namespace(), slice).await {
                self.expectations.creation_observed(key);
                return if is_namespace_terminating(&status) {
                    Ok(())
                } else {
                    Err(status.into())
                };
            }
        }
        for slice in &actions.update {
            self.client.update(slice).await?;
        }
        for slice in &actions.delete {
            match self
                .client
                .delete::<EndpointSlice>(key.namespace(), slice.name(), &Default::default())
                .await
            {
                Err(status) if !is_not_found(&status) => return Err(status.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_mirrored(service: &Service, endpoints: &Endpoints) -> bool {
    let selects = service.spec.as_ref().is_some_and(|s| s.selector.is_some());
    let skipped = endpoints
        .labels()
        .get(SKIP)
        .is_some_and(|value| value == "true");
    // The API server keeps its own service's slice itself.
    let own = service.namespace() == "default" && service.name() == "kubernetes";
    !selects && !skipped && !own && endpoints.annotation(LEADER_ELECTION).is_none()
}

fn plan(service: &Service, endpoints: &Endpoints, existing: Vec<EndpointSlice>) -> Actions {
    let desired: Vec<Desired> = endpoints
        .subsets
        .iter()
        .flatten()
        .flat_map(mirrored)
        .collect();
    let mut families: Vec<String> = desired.iter().map(|d| d.address_type.clone()).collect();
    families.sort_unstable();
    families.dedup();
    allocate(&template(service, endpoints), &families, desired, existing)
}

fn template(service: &Service, endpoints: &Endpoints) -> EndpointSlice {
    let mut labels: BTreeMap<String, String> = endpoints.labels().clone();
    if is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.insert(SERVICE_NAME.into(), endpoints.name().into());
    labels.insert(MANAGED_BY.into(), CONTROLLER.into());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", endpoints.name())),
            namespace: endpoints.metadata.namespace.clone(),
            owner_references: Some(vec![owner_reference(endpoints)]),
            labels: Some(labels),
            annotations: Some(annotations).filter(|all| !all.is_empty()),
            ..ObjectMeta::default()
        },
        address_type: String::new(),
        endpoints: Some(Vec::new()),
        ports: None,
    }
}

fn mirrored(subset: &EndpointSubset) -> Vec<Desired> {
    let ports: Vec<EndpointPort> = subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let ready = subset
        .addresses
        .iter()
        .flatten()
        .map(|address| (address, true));
    let other = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    ready
        .chain(other)
        .filter_map(|(address, ready)| desired(address, ready, &ports))
        .collect()
}

/// None for what is no address.
fn desired(address: &EndpointAddress, ready: bool, ports: &[EndpointPort]) -> Option<Desired> {
    let ip: IpAddr = address.ip.parse().ok()?;
    Some(Desired {
        address_type: if ip.is_ipv4() { "IPv4" } else { "IPv6" }.into(),
        ports: ports.to_vec(),
        endpoint: Endpoint {
            addresses: vec![ip.to_string()],
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                ..EndpointConditions::default()
            }),
            hostname: address.hostname.clone(),
            node_name: address.node_name.clone(),
            target_ref: address.target_ref.clone(),
            ..Endpoint::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn endpoints_made_by_hand_are_mirrored() {
        let service = |selector: serde_json::Value| -> Service {
            let value = json!({"metadata": {"name": "db", "namespace": "ns"}, "spec": {"selector": selector}});
            serde_json::from_value(value).expect("a service")
        };
        let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e"},
            "subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 5432}]}]}))
        .expect("endpoints");
        assert!(is_mirrored(&service(json!(null)), &endpoints));
        assert!(!is_mirrored(&service(json!({"app": "db"})), &endpoints));
        let actions = plan(&service(json!(null)), &endpoints, Vec::new());
        let text: Vec<String> = actions
            .create
            .iter()
            .map(|slice| {
                let all = slice.endpoints.iter().flatten();
                let ready = all.map(|e| {
                    (
                        e.addresses[0].clone(),
                        e.conditions.as_ref().and_then(|c| c.ready),
                    )
                });
                format!("{} {:?}", slice.address_type, ready.collect::<Vec<_>>())
            })
            .collect();
        assert_eq!(
            text,
            [
                r#"IPv4 [("10.0.0.1", Some(true)), ("10.0.0.2", Some(false))]"#,
                r#"IPv6 [("fd00::1", Some(true))]"#
            ]
        );
        let none = Endpoints {
            subsets: None,
            ..endpoints
        };
        assert_eq!(
            plan(&service(json!(null)), &none, actions.create.clone())
                .delete
                .len(),
            2
        );
    }
}
