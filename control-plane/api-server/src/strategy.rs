//! How kinds differ in the mechanics of writing: which may be created by a PUT, which answer a delete with the object...
//!
//! Facts of Kubernetes as rows of one table; what needs code is in `rules`.

/// What a name may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameFormat {
    /// At most 253 characters of `[a-z0-9.-]`.
    DnsSubdomain,
    /// At most 63 characters of `[a-z0-9-]`.
    DnsLabel,
    /// Anything that can stand in a path: not `.`, `..`, and without `/` and `%`.
    PathSegment,
}

/// What becomes of dependents when a delete does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependents {
    Background,
    Orphan,
    /// The kind has no dependents: finalizers for them are never set.
    Unsupported,
}

/// The mechanics of one kind's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strategy {
    /// A PUT to a name that does not exist creates it.
    pub creates_on_update: bool,
    /// A PUT without resourceVersion replaces whatever is there.
    pub updates_unconditionally: bool,
    /// A finished delete answers the object and not a `Status`.
    pub returns_deleted: bool,
    pub names: NameFormat,
    pub dependents: Dependents,
}

const PLAIN: Strategy = Strategy {
    creates_on_update: false,
    updates_unconditionally: true,
    returns_deleted: false,
    names: NameFormat::DnsSubdomain,
    dependents: Dependents::Background,
};
const CREATED_BY_PUT: Strategy = Strategy {
    creates_on_update: true,
    ..PLAIN
};
const CONDITIONAL: Strategy = Strategy {
    updates_unconditionally: false,
    ..PLAIN
};
const RETURNED: Strategy = Strategy {
    returns_deleted: true,
    ..PLAIN
};
const RBAC: Strategy = Strategy {
    names: NameFormat::PathSegment,
    ..CREATED_BY_PUT
};
const ORPHANS: Strategy = Strategy {
    dependents: Dependents::Orphan,
    ..PLAIN
};
const EVENT: Strategy = Strategy {
    dependents: Dependents::Unsupported,
    ..CREATED_BY_PUT
};
const LABEL: Strategy = Strategy {
    names: NameFormat::DnsLabel,
    ..PLAIN
};

/// Group, plural, strategy; kinds that are not here are plain.
const TABLE: &[(&str, &str, Strategy)] = &[
    ("", "endpoints", CREATED_BY_PUT),
    ("", "events", EVENT),
    ("", "limitranges", CREATED_BY_PUT),
    (
        "",
        "namespaces",
        Strategy {
            returns_deleted: true,
            ..LABEL
        },
    ),
    ("", "persistentvolumeclaims", RETURNED),
    ("", "persistentvolumes", RETURNED),
    ("", "pods", RETURNED),
    ("", "podtemplates", RETURNED),
    ("", "replicationcontrollers", ORPHANS),
    ("", "resourcequotas", RETURNED),
    ("", "serviceaccounts", RETURNED),
    (
        "",
        "services",
        Strategy {
            creates_on_update: true,
            returns_deleted: true,
            ..LABEL
        },
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicies",
        CONDITIONAL,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingadmissionpolicybindings",
        CONDITIONAL,
    ),
    (
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        CONDITIONAL,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        CONDITIONAL,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        CONDITIONAL,
    ),
    (
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        CONDITIONAL,
    ),
    (
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        CONDITIONAL,
    ),
    (
        "apiregistration.k8s.io",
        "apiservices",
        // That of the core group ends with a dot: `v1.`
        Strategy {
            names: NameFormat::PathSegment,
            ..CONDITIONAL
        },
    ),
    ("batch", "jobs", ORPHANS),
    (
        "coordination.k8s.io",
        "leases",
        Strategy {
            updates_unconditionally: false,
            ..CREATED_BY_PUT
        },
    ),
    ("events.k8s.io", "events", EVENT),
    (
        "networking.k8s.io",
        "ipaddresses",
        Strategy {
            names: NameFormat::PathSegment,
            ..PLAIN
        },
    ),
    (
        "node.k8s.io",
        "runtimeclasses",
        Strategy {
            updates_unconditionally: false,
            ..CREATED_BY_PUT
        },
    ),
    ("policy", "poddisruptionbudgets", CONDITIONAL),
    ("rbac.authorization.k8s.io", "clusterrolebindings", RBAC),
    ("rbac.authorization.k8s.io", "clusterroles", RBAC),
    ("rbac.authorization.k8s.io", "rolebindings", RBAC),
    ("rbac.authorization.k8s.io", "roles", RBAC),
    ("resource.k8s.io", "deviceclasses", RETURNED),
    ("storage.k8s.io", "csidrivers", CONDITIONAL),
    ("storage.k8s.io", "csinodes", CONDITIONAL),
    ("storage.k8s.io", "csistoragecapacities", CONDITIONAL),
    ("storage.k8s.io", "volumeattachments", CONDITIONAL),
];

/// The mechanics of a kind.
pub(crate) fn strategy_for(group: &str, plural: &str) -> &'static Strategy {
    TABLE
        .iter()
        .find(|(g, p, _)| *g == group && *p == plural)
        .map_or(&PLAIN, |(_, _, strategy)| strategy)
}
