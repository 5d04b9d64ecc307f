//! NodeRestriction: a node changes itself and its own pods, and nothing by which it could draw work to itself.

use std::sync::Arc;

use api_machinery::{ObjectExt, Status, go_quote};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::forbid;
use crate::authz::{AccessQuery, Authorization, node_name};
use crate::pki::parse_csr;
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels of Kubernetes' own that a node may give itself.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_LABEL_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
const NODE_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

pub(super) struct NodeRestriction {
    pub(super) reader: Arc<dyn ObjectReader>,
    pub(super) authorization: Authorization,
}

type Refusal = Result<(), String>;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.operation != Operation::Connect && node_name(&attributes.user).is_some()
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let attributes = &*attributes;
        let Some(node) = node_name(&attributes.user) else {
            return Ok(());
        };
        let checked = match (attributes.group.as_str(), attributes.resource.as_str()) {
            ("", "pods") => self.pod(attributes, node).await?,
            ("", "nodes") => check_node(attributes, node),
            ("", "persistentvolumeclaims") => check_claim(attributes, node),
            ("", "serviceaccounts") => self.token(attributes, node).await?,
            ("coordination.k8s.io", "leases") => check_lease(attributes, node),
            ("storage.k8s.io", "csinodes") if object_name(attributes) != node => {
                Err("can only access CSINode with the same name as the requesting node".into())
            }
            ("resource.k8s.io", "resourceslices") => check_slice(attributes, node),
            ("certificates.k8s.io", "certificatesigningrequests") => check_csr(attributes, node),
            _ => Ok(()),
        };
        checked.map_err(|reason| forbid(attributes, reason))
    }
}

impl NodeRestriction {
    async fn find_pod(&self, attributes: &Attributes, name: &str) -> Result<Arc<Value>, Status> {
        let found = self
            .reader
            .get_latest("", "pods", &attributes.namespace, name)
            .await?;
        found.ok_or_else(|| Status::not_found("", "pods", name))
    }

    async fn pod(&self, attributes: &Attributes, node: &str) -> Result<Refusal, Status> {
        let quoted = go_quote(node);
        Ok(
            match (attributes.subresource.as_str(), attributes.operation) {
                ("", Operation::Create) => self.mirror_pod(attributes, node),
                ("", Operation::Delete) => {
                    let pod = self.find_pod(attributes, &attributes.name).await?;
                    if pod.text(&["spec", "nodeName"]) == node {
                        Ok(())
                    } else {
                        Err(format!(
                            "node {quoted} can only delete pods with spec.nodeName set to itself"
                        ))
                    }
                }
                ("", operation) => Err(format!(
                    "unexpected operation {}, node {quoted} can only create and delete mirror pods",
                    go_quote(operation.as_str())
                )),
                ("status", Operation::Update) => check_pod_status(attributes, node),
                ("eviction", Operation::Create) => {
                    let pod = self.find_pod(attributes, &object_name(attributes)).await?;
                    if pod.text(&["spec", "nodeName"]) == node {
                        Ok(())
                    } else {
                        Err(format!(
                            "node {node} can only evict pods with spec.nodeName set to itself"
                        ))
                    }
                }
                ("status" | "eviction", operation) => Err(format!(
                    "unexpected operation {}",
                    go_quote(operation.as_str())
                )),
                (other, _) => Err(format!(
                    "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
                    go_quote(other)
                )),
            },
        )
    }

    fn mirror_pod(&self, attributes: &Attributes, node: &str) -> Refusal {
        let quoted = go_quote(node);
        let Some(pod) = &attributes.object else {
            return Ok(());
        };
        if pod
            .field(&["metadata", "annotations", MIRROR_ANNOTATION])
            .is_none()
        {
            return Err(format!(
                "pod does not have {} annotation, node {quoted} can only create mirror pods",
                go_quote(MIRROR_ANNOTATION)
            ));
        }
        if pod.text(&["spec", "nodeName"]) != node {
            return Err(format!(
                "node {quoted} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owner = match pod.list(&["metadata", "ownerReferences"]) {
            [owner] => owner,
            [] => {
                return Err(format!(
                    "node {quoted} can only create pods with an owner reference set to itself"
                ));
            }
            _ => {
                return Err(format!(
                    "node {quoted} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        if owner.text(&["apiVersion"]) != "v1"
            || owner.text(&["kind"]) != "Node"
            || owner.text(&["name"]) != node
        {
            return Err(format!(
                "node {quoted} can only create pods with an owner reference set to itself"
            ));
        }
        if !owner.flag(&["controller"]) {
            return Err(format!(
                "node {quoted} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner.flag(&["blockOwnerDeletion"]) {
            return Err(format!(
                "node {quoted} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let uid = self
            .reader
            .get("", "nodes", "", node)
            .map(|n| n.uid().to_owned())
            .unwrap_or_default();
        if owner.text(&["uid"]) != uid {
            return Err(format!(
                "node {node} UID mismatch: expected {} got {uid}",
                owner.text(&["uid"])
            ));
        }
        match referenced_kind(pod) {
            Some(kind) => Err(format!(
                "node {quoted} can not create pods that reference {kind}"
            )),
            None => Ok(()),
        }
    }

    async fn token(&self, attributes: &Attributes, node: &str) -> Result<Refusal, Status> {
        if attributes.operation != Operation::Create || attributes.subresource != "token" {
            return Ok(Ok(()));
        }
        let Some(request) = &attributes.object else {
            return Ok(Ok(()));
        };
        let reference = &request["spec"]["boundObjectRef"];
        let name = reference.text(&["name"]);
        if reference.text(&["apiVersion"]) != "v1"
            || reference.text(&["kind"]) != "Pod"
            || name.is_empty()
        {
            return Ok(Err("node requested token not bound to a pod".into()));
        }
        let uid = reference.text(&["uid"]);
        if uid.is_empty() {
            return Ok(Err(
                "node requested token with a pod binding without a uid".into()
            ));
        }
        let pod = self.find_pod(attributes, name).await?;
        if pod.uid() != uid {
            return Ok(Err(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            )));
        }
        if pod.text(&["spec", "nodeName"]) != node {
            return Ok(Err(
                "node requested token bound to a pod scheduled on a different node".into(),
            ));
        }
        Ok(self.audience(attributes, request, &pod))
    }

    /// The audience must be one that a volume of the pod asks for, or one that the node was given the right to.
    fn audience(&self, attributes: &Attributes, request: &Value, pod: &Value) -> Refusal {
        let audience = match request.list(&["spec", "audiences"]) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return Err("node may only request 0 or 1 audiences".into()),
        };
        let asked = |volume: &Value| {
            let projected = volume.list(&["projected", "sources"]).iter();
            let projected = projected.filter_map(|s| s.get("serviceAccountToken"));
            projected
                .into_iter()
                .any(|t| t.text(&["audience"]) == audience)
                || self.driver_asks(volume.text(&["csi", "driver"]), audience)
                || self.driver_asks(&self.claim_driver(pod, volume), audience)
        };
        if pod.list(&["spec", "volumes"]).iter().any(asked) {
            return Ok(());
        }
        let query = AccessQuery {
            verb: "request-serviceaccounts-token-audience",
            is_resource: true,
            namespace: &attributes.namespace,
            resource: audience,
            name: &attributes.name,
            ..AccessQuery::default()
        };
        if self
            .authorization
            .decide(&attributes.user, &query)
            .is_allowed()
        {
            return Ok(());
        }
        Err(format!(
            "audience {} not found in pod spec volume, {} is not authorized to request tokens for this audience",
            go_quote(audience),
            attributes.user.name
        ))
    }

    fn driver_asks(&self, driver: &str, audience: &str) -> bool {
        let found = self
            .reader
            .get("storage.k8s.io", "csidrivers", "", driver)
            .filter(|_| !driver.is_empty());
        found.is_some_and(|d| {
            d.list(&["spec", "tokenRequests"])
                .iter()
                .any(|t| t.text(&["audience"]) == audience)
        })
    }

    fn claim_driver(&self, pod: &Value, volume: &Value) -> String {
        let claim = match volume.text(&["persistentVolumeClaim", "claimName"]) {
            "" if volume.get("ephemeral").is_some() => {
                format!("{}-{}", pod.name(), volume.text(&["name"]))
            }
            name => name.to_owned(),
        };
        let claim = self
            .reader
            .get("", "persistentvolumeclaims", pod.namespace(), &claim);
        let volume = claim.and_then(|c| {
            self.reader
                .get("", "persistentvolumes", "", c.text(&["spec", "volumeName"]))
        });
        volume
            .map(|v| v.text(&["spec", "csi", "driver"]).to_owned())
            .unwrap_or_default()
    }
}

/// A kind of object that a pod's spec refers to, if there is one.
fn referenced_kind(pod: &Value) -> Option<&'static str> {
    let spec = pod["spec"].to_string();
    let has = |fields: &[&str]| fields.iter().any(|f| spec.contains(&format!("\"{f}\":")));
    if !pod.text(&["spec", "serviceAccountName"]).is_empty() || has(&["serviceAccountToken"]) {
        return Some("serviceaccounts");
    }
    if has(&[
        "secretRef",
        "secretKeyRef",
        "secretName",
        "imagePullSecrets",
        "secret",
    ]) {
        return Some("secrets");
    }
    if has(&["configMapRef", "configMapKeyRef", "configMap"]) {
        return Some("configmaps");
    }
    if has(&["persistentVolumeClaim", "ephemeral"]) {
        return Some("persistentvolumeclaims");
    }
    if has(&["resourceClaims"]) {
        return Some("resourceclaims");
    }
    has(&["clusterTrustBundle"]).then_some("clustertrustbundles")
}

fn check_pod_status(attributes: &Attributes, node: &str) -> Refusal {
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else {
        return Ok(());
    };
    let quoted = go_quote(node);
    if old.text(&["spec", "nodeName"]) != node {
        return Err(format!(
            "node {quoted} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    let labels = |pod: &Value| {
        pod.map(&["metadata", "labels"])
            .cloned()
            .unwrap_or_default()
    };
    if labels(new) != labels(old) {
        return Err(format!(
            "node {quoted} cannot update labels through pod status"
        ));
    }
    if new["status"]["resourceClaimStatuses"] != old["status"]["resourceClaimStatuses"] {
        return Err(format!(
            "node {quoted} cannot update resource claim statues"
        ));
    }
    if new["status"]["extendedResourceClaimStatus"] != old["status"]["extendedResourceClaimStatus"]
    {
        return Err(format!(
            "node {quoted} cannot update extended resource claim status"
        ));
    }
    Ok(())
}

fn check_node(attributes: &Attributes, node: &str) -> Refusal {
    let quoted = go_quote(node);
    let name = object_name(attributes);
    if name != node {
        return Err(format!(
            "node {quoted} is not allowed to modify node {}",
            go_quote(&name)
        ));
    }
    let Some(new) = &attributes.object else {
        return Ok(());
    };
    let nothing = Value::Null;
    let old = attributes.old.as_deref().unwrap_or(&nothing);
    let forbidden = forbidden_labels(new, old);
    match attributes.operation {
        Operation::Create if !new["spec"]["configSource"].is_null() => Err(format!(
            "node {quoted} is not allowed to create pods with a non-nil configSource"
        )),
        Operation::Create if !forbidden.is_empty() => Err(format!(
            "node {quoted} is not allowed to set the following labels: {}",
            forbidden.join(", ")
        )),
        Operation::Update => {
            let config = &new["spec"]["configSource"];
            if !config.is_null() && *config != old["spec"]["configSource"] {
                return Err(format!(
                    "node {quoted} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if new.list(&["spec", "taints"]) != old.list(&["spec", "taints"]) {
                return Err(format!("node {quoted} is not allowed to modify taints"));
            }
            if new.list(&["metadata", "ownerReferences"])
                != old.list(&["metadata", "ownerReferences"])
            {
                return Err(format!(
                    "node {quoted} is not allowed to modify ownerReferences"
                ));
            }
            if forbidden.is_empty() {
                return Ok(());
            }
            Err(format!(
                "is not allowed to modify labels: {}",
                forbidden.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

/// Labels that differ and that are not a node's to change, sorted.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |node: &Value| {
        node.map(&["metadata", "labels"])
            .cloned()
            .unwrap_or_default()
    };
    let (new, old) = (labels(new), labels(old));
    let keys: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    let changed = keys
        .into_iter()
        .filter(|key| new.get(*key) != old.get(*key));
    changed
        .filter(|key| is_forbidden_label(key))
        .cloned()
        .collect()
}

fn is_forbidden_label(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |parent: &str| {
        domain == parent
            || domain
                .strip_suffix(parent)
                .is_some_and(|d| d.ends_with('.'))
    };
    if within(RESTRICTED_DOMAIN) {
        return true;
    }
    let own = OWN_LABELS.contains(&key) || OWN_LABEL_DOMAINS.iter().any(|d| within(d));
    (within("kubernetes.io") || within("k8s.io")) && !own
}

fn check_claim(attributes: &Attributes, node: &str) -> Refusal {
    if attributes.subresource != "status" {
        return Err("may only update PVC status".into());
    }
    let (Some(new), Some(old)) = (&attributes.object, &attributes.old) else {
        return Ok(());
    };
    let comparable = |claim: &Value| {
        let mut claim = claim.clone();
        for (parent, fields) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            (
                "status",
                &[
                    "capacity",
                    "conditions",
                    "allocatedResources",
                    "allocatedResourceStatuses",
                ][..],
            ),
        ] {
            for field in fields {
                claim[parent]
                    .as_object_mut()
                    .map(|object| object.remove(*field));
            }
        }
        claim
    };
    if comparable(new) == comparable(old) {
        return Ok(());
    }
    Err(format!(
        "node {} is not allowed to update fields other than status.quantity and status.conditions",
        go_quote(node)
    ))
}

fn check_lease(attributes: &Attributes, node: &str) -> Refusal {
    if attributes.namespace != LEASE_NAMESPACE {
        return Err(format!(
            "can only access leases in the {} system namespace",
            go_quote(LEASE_NAMESPACE)
        ));
    }
    if object_name(attributes) != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn check_slice(attributes: &Attributes, node: &str) -> Refusal {
    let (object, verb) = match attributes.operation {
        Operation::Create => (attributes.object.as_ref(), "create"),
        Operation::Delete => (attributes.old.as_deref(), "delete"),
        _ => return Ok(()),
    };
    if object.is_some_and(|o| o.text(&["spec", "nodeName"]) == node) {
        return Ok(());
    }
    Err(format!(
        "can only {verb} ResourceSlice with the same NodeName as the requesting node"
    ))
}

fn check_csr(attributes: &Attributes, node: &str) -> Refusal {
    let Some(request) = attributes
        .object
        .as_ref()
        .filter(|_| attributes.operation == Operation::Create)
    else {
        return Ok(());
    };
    if !NODE_SIGNERS.contains(&request.text(&["spec", "signerName"])) {
        return Ok(());
    }
    let pem = STANDARD
        .decode(request.text(&["spec", "request"]))
        .unwrap_or_default();
    let summary = parse_csr(&pem).map_err(|error| format!("unable to parse csr: {error}"))?;
    if summary.common_name == format!("system:node:{node}") {
        return Ok(());
    }
    Err(format!(
        "can only create a node CSR with CN=system:node:{node}"
    ))
}

/// On create the name stands in the object only.
fn object_name(attributes: &Attributes) -> String {
    match attributes.name.as_str() {
        "" => attributes
            .object
            .as_ref()
            .map(|o| o.name().to_owned())
            .unwrap_or_default(),
        name => name.to_owned(),
    }
}
