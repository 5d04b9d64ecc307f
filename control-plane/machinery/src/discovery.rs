//! Discovery: the documents at `/api`, `/apis` and below that tell a client what is served.
//!
//! Everything comes from the table of kinds. Documents are small and change only when the table does, so they are made
//! whole and may be kept by the caller. Follows upstream's legacy discovery and aggregated discovery (KEP-3352).

mod aggregated;

use base64::Engine;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::kind::{Kind, KindTable, Verbs, group_version};

pub use aggregated::{
    AGGREGATED_V2, AGGREGATED_V2BETA1, ApiGroupDiscoveryList, aggregated_api, aggregated_apis,
};

/// The document at `/api`. `server_address` is the `HOST:PORT` by which clients reach this server.
pub fn api_versions(server_address: &str) -> ApiVersions {
    ApiVersions {
        kind: "APIVersions",
        versions: vec!["v1"],
        server_address_by_client_cidrs: vec![ServerAddress {
            client_cidr: "0.0.0.0/0",
            server_address: server_address.to_owned(),
        }],
    }
}

/// The document at `/apis`.
pub fn api_group_list(table: &KindTable) -> ApiGroupList {
    let groups = table
        .groups()
        .into_iter()
        .filter(|g| !g.is_empty())
        .filter_map(|g| group_document(table, g, false));
    ApiGroupList {
        kind: "APIGroupList",
        api_version: "v1",
        groups: groups.collect(),
    }
}

/// The document at `/apis/GROUP`; `None` when the group is not served.
pub fn api_group(table: &KindTable, group: &str) -> Option<ApiGroup> {
    group_document(table, group, true)
}

/// The document at `/api/v1` or `/apis/GROUP/VERSION`; `None` when that is not served.
pub fn api_resource_list(table: &KindTable, group: &str, version: &str) -> Option<ApiResourceList> {
    let kinds = table.in_version(group, version);
    if kinds.is_empty() {
        return None;
    }
    let mut resources: Vec<ApiResource> =
        kinds.iter().flat_map(|kind| resources_of(kind)).collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    Some(ApiResourceList {
        kind: "APIResourceList",
        api_version: (!group.is_empty()).then_some("v1"),
        group_version: group_version(group, version),
        resources,
    })
}

/// The hash by which clients notice that a resource's stored form changed; empty for kinds that are not stored.
pub fn storage_version_hash(kind: &Kind) -> String {
    if !kind.is_stored() {
        return String::new();
    }
    let version = kind.hash_version.as_ref().unwrap_or(&kind.storage_version);
    let digest = Sha256::digest(format!("{}/{version}/{}", kind.storage_group, kind.kind));
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

fn group_document(table: &KindTable, group: &str, alone: bool) -> Option<ApiGroup> {
    let versions: Vec<GroupVersion> = table
        .versions(group)
        .into_iter()
        .map(|version| GroupVersion {
            group_version: group_version(group, version),
            version: version.to_owned(),
        })
        .collect();
    Some(ApiGroup {
        kind: alone.then_some("APIGroup"),
        api_version: alone.then_some("v1"),
        name: group.to_owned(),
        preferred_version: versions.first()?.clone(),
        versions,
    })
}

fn resources_of(kind: &Kind) -> Vec<ApiResource> {
    let mut resources = vec![ApiResource {
        name: kind.plural.to_string(),
        singular_name: kind.singular.to_string(),
        namespaced: kind.namespaced,
        group: None,
        version: None,
        kind: kind.kind.to_string(),
        verbs: verb_names(kind.verbs),
        short_names: strings(&kind.short_names),
        categories: strings(&kind.categories),
        storage_version_hash: storage_version_hash(kind),
    }];
    resources.extend(kind.subresources.iter().map(|sub| ApiResource {
        name: format!("{}/{}", kind.plural, sub.name),
        singular_name: String::new(),
        namespaced: kind.namespaced,
        group: sub.group.as_ref().map(ToString::to_string),
        version: sub.version.as_ref().map(ToString::to_string),
        kind: sub.kind.to_string(),
        verbs: verb_names(sub.verbs),
        short_names: Vec::new(),
        categories: Vec::new(),
        storage_version_hash: String::new(),
    }));
    resources
}

fn verb_names(verbs: Verbs) -> Vec<&'static str> {
    verbs.iter().map(|verb| verb.as_str()).collect()
}

fn strings(texts: &[crate::kind::Text]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

/// `APIVersions`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiVersions {
    kind: &'static str,
    versions: Vec<&'static str>,
    #[serde(rename = "serverAddressByClientCIDRs")]
    server_address_by_client_cidrs: Vec<ServerAddress>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerAddress {
    #[serde(rename = "clientCIDR")]
    client_cidr: &'static str,
    server_address: String,
}

/// `APIGroupList`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroupList {
    kind: &'static str,
    api_version: &'static str,
    groups: Vec<ApiGroup>,
}

/// `APIGroup`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiGroup {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    name: String,
    versions: Vec<GroupVersion>,
    preferred_version: GroupVersion,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupVersion {
    group_version: String,
    version: String,
}

/// `APIResourceList`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiResourceList {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    group_version: String,
    resources: Vec<ApiResource>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct ApiResource {
    name: String,
    singular_name: String,
    namespaced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    kind: String,
    verbs: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    short_names: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    categories: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    storage_version_hash: String,
}

#[cfg(test)]
mod golden_tests;
