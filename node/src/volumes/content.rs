//! The files of configMap, secret, downwardAPI and projected volumes. Pure but for tokens, which are asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection};
use k8s_openapi::jiff;

use super::Tokens;
use super::atomic::{File, Files};
use crate::container_config;
use crate::env::Sources;
use crate::fieldref::{self, NodeFields};
use crate::pod::spec;

/// Permission bits of a volume's files unless the pod says otherwise.
const DEFAULT_MODE: i32 = 0o644;

/// The volume's files, and when a token in them must be renewed.
pub(super) async fn files(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    node: &NodeFields,
    tokens: &Tokens,
) -> Result<(Files, Option<Timestamp>), String> {
    if let Some(v) = &volume.config_map {
        let optional = v.optional == Some(true);
        let mode = v.default_mode.unwrap_or(DEFAULT_MODE);
        let items = v.items.as_deref().unwrap_or_default();
        return Ok((config_map(sources, &v.name, items, optional, mode)?, None));
    }
    if let Some(v) = &volume.secret {
        let optional = v.optional == Some(true);
        let mode = v.default_mode.unwrap_or(DEFAULT_MODE);
        let name = v.secret_name.as_deref().unwrap_or_default();
        return Ok((
            secret(
                sources,
                name,
                v.items.as_deref().unwrap_or_default(),
                optional,
                mode,
            )?,
            None,
        ));
    }
    if let Some(v) = &volume.downward_api {
        let mode = v.default_mode.unwrap_or(DEFAULT_MODE);
        return Ok((
            downward(pod, v.items.as_deref().unwrap_or_default(), mode, node)?,
            None,
        ));
    }
    let projected = volume.projected.clone().unwrap_or_default();
    let mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
    let mut all = Files::new();
    let mut refresh_at: Option<Timestamp> = None;
    for source in projected.sources.iter().flatten() {
        let (files, at) = projection(pod, source, mode, sources, node, tokens).await?;
        all.extend(files);
        refresh_at = [refresh_at, at].into_iter().flatten().min();
    }
    Ok((all, refresh_at))
}

async fn projection(
    pod: &Pod,
    source: &VolumeProjection,
    mode: i32,
    sources: &Sources,
    node: &NodeFields,
    tokens: &Tokens,
) -> Result<(Files, Option<Timestamp>), String> {
    if let Some(s) = &source.config_map {
        let items = s.items.as_deref().unwrap_or_default();
        return Ok((
            config_map(sources, &s.name, items, s.optional == Some(true), mode)?,
            None,
        ));
    }
    if let Some(s) = &source.secret {
        let items = s.items.as_deref().unwrap_or_default();
        return Ok((
            secret(sources, &s.name, items, s.optional == Some(true), mode)?,
            None,
        ));
    }
    if let Some(s) = &source.downward_api {
        return Ok((
            downward(pod, s.items.as_deref().unwrap_or_default(), mode, node)?,
            None,
        ));
    }
    if let Some(s) = &source.service_account_token {
        let (token, refresh_at) = tokens.get(pod, s).await?;
        let user = common_user(pod);
        let group = pod
            .spec
            .as_ref()
            .and_then(|s| s.security_context.as_ref())
            .and_then(|c| c.fs_group);
        // Only those who need it may read it, where it is known who they are.
        let mode = if user.is_some() || group.is_some() {
            0o600
        } else {
            mode
        };
        let file = File {
            data: token.into_bytes(),
            mode: mode as u32,
            uid: user,
        };
        return Ok((Files::from([(s.path.clone(), file)]), Some(refresh_at)));
    }
    Err("projected volume source is not supported".to_string())
}

/// The user that all containers run as, if it is the same for all.
fn common_user(pod: &Pod) -> Option<i64> {
    let mut users = spec::all_containers(pod).map(|c| container_config::run_as_user(pod, c));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then_some(first)
}

/// Picks items, or everything where no items are named.
fn pick(
    data: &BTreeMap<String, Vec<u8>>,
    items: &[KeyToPath],
    optional: bool,
    mode: i32,
    kind: &str,
) -> Result<Files, String> {
    let file = |data: &[u8], mode: i32| File {
        data: data.to_vec(),
        mode: mode as u32,
        uid: None,
    };
    if items.is_empty() {
        return Ok(data
            .iter()
            .map(|(key, value)| (key.clone(), file(value, mode)))
            .collect());
    }
    let mut files = Files::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => {
                files.insert(item.path.clone(), file(value, item.mode.unwrap_or(mode)));
            }
            None if optional => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(files)
}

fn config_map(
    sources: &Sources,
    name: &str,
    items: &[KeyToPath],
    optional: bool,
    mode: i32,
) -> Result<Files, String> {
    let Some(map) = sources.config_maps.get(name) else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("configmap \"{name}\" not found"))
        };
    };
    let texts = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()));
    pick(
        &texts.chain(binary).collect(),
        items,
        optional,
        mode,
        "config",
    )
}

fn secret(
    sources: &Sources,
    name: &str,
    items: &[KeyToPath],
    optional: bool,
    mode: i32,
) -> Result<Files, String> {
    let Some(secret) = sources.secrets.get(name) else {
        return if optional {
            Ok(Files::new())
        } else {
            Err(format!("secret \"{name}\" not found"))
        };
    };
    let data = secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect();
    pick(&data, items, optional, mode, "secret")
}

fn downward(
    pod: &Pod,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    node: &NodeFields,
) -> Result<Files, String> {
    let mut files = Files::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => fieldref::field(pod, selector, node)?,
            (None, Some(selector)) => fieldref::resource(
                pod,
                selector,
                selector.container_name.as_deref().unwrap_or_default(),
                node,
            )?,
            (None, None) => continue,
        };
        let mode = item.mode.unwrap_or(mode) as u32;
        files.insert(
            item.path.clone(),
            File {
                data: text.into_bytes(),
                mode,
                uid: None,
            },
        );
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    #[test]
    fn items_modes_and_what_is_missing() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1", "b": "2"}})).expect("a map");
        let sources = Sources {
            config_maps: [("m".to_string(), map.into())].into(),
            ..Default::default()
        };
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: format!("p/{key}"),
            mode: Some(0o600),
        };
        let all = config_map(&sources, "m", &[], false, 0o644).expect("files");
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        let one = config_map(&sources, "m", &[item("a")], false, 0o644).expect("files");
        assert_eq!(one.get("p/a").map(|f| f.mode), Some(0o600));
        let missing = config_map(&sources, "m", &[item("x")], false, 0o644);
        assert_eq!(missing, Err("references non-existent config key: x".into()));
        assert_eq!(
            config_map(&sources, "x", &[], false, 0o644),
            Err("configmap \"x\" not found".into())
        );
        assert_eq!(
            config_map(&sources, "x", &[], true, 0o644),
            Ok(Files::new())
        );
    }
}
