//! The admission plugins that every cluster has, in upstream's order: one file and one row each.
//!
//! They read the watch caches and decide; the only one that writes is ResourceQuota, which counts what it lets through.
//! They know neither HTTP nor the store. Kinds that are not theirs pass them untouched.

mod certificates;
mod claim_resize;
mod default_ingress_class;
mod default_storage_class;
mod default_tolerations;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod pod_resources;
mod pod_security;
mod pod_topology_labels;
mod priority;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage_protection;
mod taint_nodes;

use std::sync::Arc;

use api_client::Client;
use api_machinery::{ObjectExt, Status};
use serde_json::{Value, json};

use crate::authz::Authorization;
use crate::plugin::{Admission, Attributes, ObjectReader};
use crate::rbac::RbacEscalation;

pub use default_tolerations::DefaultTolerations;
pub use resource_quota::keep_quotas;

/// What plugins are made from.
#[derive(Clone)]
pub struct AdmissionContext {
    pub reader: Arc<dyn ObjectReader>,
    pub authorization: Authorization,
    /// Writes the status of quotas; a superuser's.
    pub client: Client,
    pub default_tolerations: DefaultTolerations,
}

type Row = fn(&AdmissionContext) -> Arc<dyn Admission>;

/// In the order in which they run.
const PLUGINS: [Row; 21] = [
    |_| Arc::new(certificates::CertificateRequester),
    |c| {
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(
            c.reader.clone(),
        ))
    },
    |c| {
        Arc::new(limit_ranger::LimitRanger {
            reader: c.reader.clone(),
        })
    },
    |c| {
        Arc::new(service_account::ServiceAccount {
            reader: c.reader.clone(),
        })
    },
    node_restriction,
    |_| Arc::new(taint_nodes::TaintNodesByCondition),
    |c| {
        Arc::new(pod_security::PodSecurity {
            reader: c.reader.clone(),
        })
    },
    |c| {
        Arc::new(priority::Priority {
            reader: c.reader.clone(),
        })
    },
    |c| {
        let defaults = c.default_tolerations;
        Arc::new(default_tolerations::DefaultTolerationSeconds(defaults))
    },
    |c| {
        Arc::new(default_storage_class::DefaultStorageClass {
            reader: c.reader.clone(),
        })
    },
    |_| Arc::new(storage_protection::StorageObjectInUseProtection),
    |c| {
        Arc::new(claim_resize::PersistentVolumeClaimResize {
            reader: c.reader.clone(),
        })
    },
    |c| {
        Arc::new(runtime_class::RuntimeClass {
            reader: c.reader.clone(),
        })
    },
    |c| {
        Arc::new(certificates::CertificateApproval {
            authorization: c.authorization.clone(),
        })
    },
    |c| {
        Arc::new(certificates::CertificateSigning {
            authorization: c.authorization.clone(),
        })
    },
    |c| {
        Arc::new(certificates::ClusterTrustBundleAttest {
            authorization: c.authorization.clone(),
        })
    },
    |_| Arc::new(certificates::CertificateSubjectRestriction),
    |c| {
        Arc::new(default_ingress_class::DefaultIngressClass {
            reader: c.reader.clone(),
        })
    },
    |c| {
        Arc::new(pod_topology_labels::PodTopologyLabels {
            reader: c.reader.clone(),
        })
    },
    |c| {
        let (authorization, rbac) = (c.authorization.clone(), c.authorization.rbac().clone());
        Arc::new(RbacEscalation {
            authorization,
            rbac,
        })
    },
    |c| {
        Arc::new(resource_quota::ResourceQuota::new(
            c.reader.clone(),
            c.client.clone(),
        ))
    },
];

/// NodeRestriction alone, for subresources that are answered outside the chain.
pub(crate) fn node_restriction(context: &AdmissionContext) -> Arc<dyn Admission> {
    let (reader, authorization) = (context.reader.clone(), context.authorization.clone());
    Arc::new(node_restriction::NodeRestriction {
        reader,
        authorization,
    })
}

/// All plugins, in order.
pub fn admission_plugins(context: &AdmissionContext) -> Vec<Arc<dyn Admission>> {
    PLUGINS.iter().map(|row| row(context)).collect()
}

/// The 403 of a plugin, about the object that the request is about.
fn forbid(attributes: &Attributes, reason: impl std::fmt::Display) -> Status {
    let object = attributes.object.as_ref();
    let text = |path: &[&str]| {
        object
            .map(|o| o.text(path).to_owned())
            .filter(|t| !t.is_empty())
    };
    let name = Some(attributes.name.clone())
        .filter(|n| !n.is_empty())
        .or_else(|| text(&["metadata", "generateName"]))
        .or_else(|| text(&["metadata", "name"]))
        .unwrap_or_else(|| "Unknown".into());
    Status::forbidden(&attributes.group, &attributes.resource, &name, reason)
}

/// Appends to a list that may not be there yet.
fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}

/// Several errors as one, as upstream joins them.
fn aggregate(mut errors: Vec<String>) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    errors.retain(|e| seen.insert(e.clone()));
    match errors.len() {
        0 => None,
        1 => errors.pop(),
        _ => Some(format!("[{}]", errors.join(", "))),
    }
}

#[cfg(test)]
mod tests;
