//! The core group (`/api/v1`) and the second name of its events.

use super::row::{cluster, namespaced};
use crate::kind::{Kind, Verb, Verbs};

const PROXY: Verbs = Verbs::of(&[
    Verb::Create,
    Verb::Delete,
    Verb::Get,
    Verb::Patch,
    Verb::Update,
]);
const STREAM: Verbs = Verbs::of(&[Verb::Create, Verb::Get]);
const GET: Verbs = Verbs::of(&[Verb::Get]);
const UPDATE: Verbs = Verbs::of(&[Verb::Update]);
const GET_LIST: Verbs = Verbs::of(&[Verb::Get, Verb::List]);

pub(super) fn kinds() -> Vec<Kind> {
    vec![
        namespaced("", "Binding", "bindings").not_stored(Verbs::CREATE),
        cluster("", "ComponentStatus", "componentstatuses")
            .short(&["cs"])
            .not_stored(GET_LIST),
        namespaced("", "ConfigMap", "configmaps").short(&["cm"]),
        namespaced("", "Endpoints", "endpoints")
            .short(&["ep"])
            .stored_at("services/endpoints"),
        core_event(),
        new_event(),
        namespaced("", "LimitRange", "limitranges").short(&["limits"]),
        namespace(),
        node(),
        namespaced("", "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .status(),
        cluster("", "PersistentVolume", "persistentvolumes")
            .short(&["pv"])
            .status(),
        pod(),
        namespaced("", "PodTemplate", "podtemplates").keeps_generation(),
        namespaced("", "ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .in_all()
            .keeps_generation()
            .stored_at("controllers")
            .scale()
            .status()
            .field_or("status.replicas", "0"),
        namespaced("", "ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .status(),
        namespaced("", "Secret", "secrets").field("type"),
        namespaced("", "ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .sub_of(
                "token",
                ("authentication.k8s.io", "v1", "TokenRequest"),
                Verbs::CREATE,
            ),
        namespaced("", "Service", "services")
            .short(&["svc"])
            .in_all()
            .stored_at("services/specs")
            .sub("proxy", "ServiceProxyOptions", PROXY)
            .status()
            .field("spec.clusterIP")
            .field("spec.type"),
    ]
}

fn pod() -> Kind {
    namespaced("", "Pod", "pods")
        .short(&["po"])
        .in_all()
        .keeps_generation()
        .sub("attach", "PodAttachOptions", STREAM)
        .sub("binding", "Binding", Verbs::CREATE)
        .own_sub("ephemeralcontainers", Verbs::GET_PATCH_UPDATE)
        .sub_of("eviction", ("policy", "v1", "Eviction"), Verbs::CREATE)
        .sub("exec", "PodExecOptions", STREAM)
        .own_sub("log", GET)
        .sub("portforward", "PodPortForwardOptions", STREAM)
        .sub("proxy", "PodProxyOptions", PROXY)
        .own_sub("resize", Verbs::GET_PATCH_UPDATE)
        .status()
        .field("spec.nodeName")
        .field_at("spec.host", &["spec.nodeName"], "")
        .field("spec.restartPolicy")
        .field("spec.schedulerName")
        .field("spec.serviceAccountName")
        .field_or("spec.hostNetwork", "false")
        .field("status.phase")
        .field("status.podIP")
        .field_at("status.podIPs", &["status.podIP"], "")
        .field("status.nominatedNodeName")
}

fn node() -> Kind {
    cluster("", "Node", "nodes")
        .short(&["no"])
        .stored_at("minions")
        .sub("proxy", "NodeProxyOptions", PROXY)
        .status()
        .field_or("spec.unschedulable", "false")
}

fn namespace() -> Kind {
    cluster("", "Namespace", "namespaces")
        .short(&["ns"])
        .without(Verb::DeleteCollection)
        .own_sub("finalize", UPDATE)
        .status()
        .field("status.phase")
}

fn core_event() -> Kind {
    namespaced("", "Event", "events")
        .short(&["ev"])
        .field("involvedObject.kind")
        .field("involvedObject.namespace")
        .field("involvedObject.name")
        .field("involvedObject.uid")
        .field("involvedObject.apiVersion")
        .field("involvedObject.resourceVersion")
        .field("involvedObject.fieldPath")
        .field("reason")
        .field("reportingComponent")
        .field_at("source", &["source.component", "reportingComponent"], "")
        .field("type")
}

// The same objects under the newer group: stored in the core form, so the fields' paths are the core form's.
fn new_event() -> Kind {
    let mut kind = namespaced("events.k8s.io", "Event", "events")
        .short(&["ev"])
        .field("reason")
        .field_at("regarding.kind", &["involvedObject.kind"], "")
        .field_at("regarding.namespace", &["involvedObject.namespace"], "")
        .field_at("regarding.name", &["involvedObject.name"], "")
        .field_at("regarding.uid", &["involvedObject.uid"], "")
        .field_at("regarding.apiVersion", &["involvedObject.apiVersion"], "")
        .field_at(
            "regarding.resourceVersion",
            &["involvedObject.resourceVersion"],
            "",
        )
        .field_at("regarding.fieldPath", &["involvedObject.fieldPath"], "")
        .field_at("reportingController", &["reportingComponent"], "")
        .field("type");
    kind.storage_group = "".into();
    kind
}
