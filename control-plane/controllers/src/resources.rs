//! Which resources the API serves, read from its own discovery: for controllers that handle every kind alike.

use api_client::{Client, Verb};
use api_machinery::Status;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One resource in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ApiResource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl ApiResource {
    /// `v1` or `GROUP/VERSION`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `PLURAL` or `PLURAL.GROUP`.
    pub(crate) fn name(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The path of the collection, or of one object in it.
    pub(crate) fn path(&self, namespace: Option<&str>, name: &str) -> String {
        let root = if self.group.is_empty() {
            "/api"
        } else {
            "/apis"
        };
        let mut path = format!("{root}/{}", self.api_version());
        if let Some(namespace) = namespace.filter(|n| !n.is_empty() && self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        if !name.is_empty() {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// What discovery answered. Groups that could not be asked (an aggregated API that is down) are named.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) resources: Vec<ApiResource>,
    pub(crate) failed_groups: Vec<(String, Status)>,
}

#[derive(Deserialize)]
struct Versions {
    versions: Vec<String>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    name: String,
    versions: Vec<GroupVersion>,
    preferred_version: Option<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Every resource (no subresources) once, in the preferred version of its group, or the first one that serves it.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Status> {
    let core: Versions = read(client, "/api".into()).await?;
    let groups: Groups = read(client, "/apis".into()).await?;
    let mut found = Discovered::default();
    add_group(client, &mut found, "", &core.versions).await;
    for group in groups.groups {
        let preferred = group.preferred_version.map(|v| v.version);
        let others = group
            .versions
            .into_iter()
            .map(|v| v.version)
            .filter(|v| Some(v) != preferred.as_ref());
        let versions: Vec<String> = preferred.iter().cloned().chain(others).collect();
        add_group(client, &mut found, &group.name, &versions).await;
    }
    Ok(found)
}

async fn add_group(client: &Client, found: &mut Discovered, group: &str, versions: &[String]) {
    for version in versions {
        let path = if group.is_empty() {
            format!("/api/{version}")
        } else {
            format!("/apis/{group}/{version}")
        };
        match read::<Resources>(client, path).await {
            Ok(list) => {
                for resource in list.resources.into_iter().filter(|r| !r.name.contains('/')) {
                    if found
                        .resources
                        .iter()
                        .any(|known| known.group == group && known.plural == resource.name)
                    {
                        continue;
                    }
                    found.resources.push(ApiResource {
                        group: group.into(),
                        version: version.clone(),
                        plural: resource.name,
                        kind: resource.kind,
                        namespaced: resource.namespaced,
                        verbs: resource.verbs,
                    });
                }
            }
            Err(status) => found
                .failed_groups
                .push((format!("{group}/{version}"), status)),
        }
    }
}

async fn read<T: DeserializeOwned>(client: &Client, path: String) -> Result<T, Status> {
    let body = client
        .raw(Verb::Get, path.clone(), "application/json", Bytes::new())
        .await?;
    serde_json::from_slice(&body)
        .map_err(|error| Status::internal_error(format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::ApiResource;

    #[test]
    fn paths_are_those_of_the_rest_api() {
        let resource = |group: &str, namespaced| ApiResource {
            group: group.into(),
            version: "v1".into(),
            plural: "things".into(),
            kind: "Thing".into(),
            namespaced,
            verbs: vec![],
        };
        assert_eq!(
            resource("", true).path(Some("ns"), "a"),
            "/api/v1/namespaces/ns/things/a"
        );
        assert_eq!(
            resource("x.io", false).path(Some("ns"), ""),
            "/apis/x.io/v1/things"
        );
    }
}
