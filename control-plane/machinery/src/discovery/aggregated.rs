//! Aggregated discovery: all groups in one document, so that a client asks twice instead of once per group.

use serde::Serialize;

use super::{strings, verb_names};
use crate::kind::{Kind, KindTable};

/// `apiVersion` of the document that current clients ask for.
pub const AGGREGATED_V2: &str = "apidiscovery.k8s.io/v2";
/// `apiVersion` of the same document for older clients.
pub const AGGREGATED_V2BETA1: &str = "apidiscovery.k8s.io/v2beta1";

/// The aggregated document at `/api`. `api_version` is one of the two constants.
pub fn aggregated_api(table: &KindTable, api_version: &'static str) -> ApiGroupDiscoveryList {
    list(table, api_version, &[""])
}

/// The aggregated document at `/apis`. `api_version` is one of the two constants.
pub fn aggregated_apis(table: &KindTable, api_version: &'static str) -> ApiGroupDiscoveryList {
    let groups: Vec<&str> = table
        .groups()
        .into_iter()
        .filter(|g| !g.is_empty())
        .collect();
    list(table, api_version, &groups)
}

fn list(table: &KindTable, api_version: &'static str, groups: &[&str]) -> ApiGroupDiscoveryList {
    let items = groups.iter().map(|group| GroupDiscovery {
        metadata: GroupMeta {
            name: (*group).to_owned(),
        },
        versions: table
            .versions(group)
            .into_iter()
            .map(|version| VersionDiscovery {
                version: version.to_owned(),
                resources: table
                    .in_version(group, version)
                    .iter()
                    .map(|kind| resource(kind))
                    .collect(),
                freshness: "Current",
            })
            .collect(),
    });
    ApiGroupDiscoveryList {
        kind: "APIGroupDiscoveryList",
        api_version,
        metadata: Empty {},
        items: items.collect(),
    }
}

fn resource(kind: &Kind) -> ResourceDiscovery {
    let response_kind = |group: &str, version: &str, kind: &str| ResponseKind {
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
    };
    let mut subresources: Vec<SubresourceDiscovery> = kind
        .subresources
        .iter()
        .map(|sub| SubresourceDiscovery {
            subresource: sub.name.to_string(),
            response_kind: response_kind(
                sub.group.as_deref().unwrap_or_default(),
                sub.version.as_deref().unwrap_or_default(),
                &sub.kind,
            ),
            verbs: verb_names(sub.verbs),
        })
        .collect();
    subresources.sort_by(|a, b| a.subresource.cmp(&b.subresource));
    ResourceDiscovery {
        resource: kind.plural.to_string(),
        response_kind: response_kind("", "", &kind.kind),
        scope: if kind.namespaced {
            "Namespaced"
        } else {
            "Cluster"
        },
        singular_resource: kind.singular.to_string(),
        verbs: verb_names(kind.verbs),
        short_names: strings(&kind.short_names),
        categories: strings(&kind.categories),
        subresources,
    }
}

/// `APIGroupDiscoveryList`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroupDiscoveryList {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<GroupDiscovery>,
}

#[derive(Debug, Clone, Serialize)]
struct Empty {}

#[derive(Debug, Clone, Serialize)]
struct GroupDiscovery {
    metadata: GroupMeta,
    versions: Vec<VersionDiscovery>,
}

#[derive(Debug, Clone, Serialize)]
struct GroupMeta {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Debug, Clone, Serialize)]
struct VersionDiscovery {
    version: String,
    resources: Vec<ResourceDiscovery>,
    freshness: &'static str,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceDiscovery {
    resource: String,
    response_kind: ResponseKind,
    scope: &'static str,
    singular_resource: String,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subresources: Vec<SubresourceDiscovery>,
}

#[derive(Debug, Clone, Serialize)]
struct ResponseKind {
    group: String,
    version: String,
    kind: String,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubresourceDiscovery {
    subresource: String,
    response_kind: ResponseKind,
    verbs: Vec<&'static str>,
}
