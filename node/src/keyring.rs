//! Credentials for image registries out of pull Secrets. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

/// The registry of an image without one.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The registry's host in an image's name.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => DEFAULT_REGISTRY,
    }
}

/// The host of an entry, which may be written as a URL.
fn host(entry: &str) -> &str {
    let rest = entry
        .strip_prefix("https://")
        .or_else(|| entry.strip_prefix("http://"))
        .unwrap_or(entry);
    let host = rest.split('/').next().unwrap_or_default();
    if host == "index.docker.io" || host == "registry-1.docker.io" {
        DEFAULT_REGISTRY
    } else {
        host
    }
}

/// The first credentials that the secrets hold for the image's registry.
pub(crate) fn credentials<'a>(
    image: &str,
    secrets: impl Iterator<Item = &'a Secret>,
) -> Option<AuthConfig> {
    let wanted = registry(image);
    secrets
        .filter_map(entries)
        .flatten()
        .find(|(name, _)| host(name) == wanted)
        .map(|(_, auth)| auth)
}

fn entries(secret: &Secret) -> Option<Vec<(String, AuthConfig)>> {
    let data = secret.data.as_ref()?;
    let modern = data
        .get(".dockerconfigjson")
        .and_then(|d| serde_json::from_slice::<Value>(&d.0).ok());
    let list = match modern {
        Some(config) => config.get("auths")?.clone(),
        None => serde_json::from_slice(&data.get(".dockercfg")?.0).ok()?,
    };
    Some(
        list.as_object()?
            .iter()
            .map(|(name, entry)| (name.clone(), auth(entry)))
            .collect(),
    )
}

fn auth(entry: &Value) -> AuthConfig {
    let text = |key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string()
    };
    let decoded = STANDARD
        .decode(text("auth"))
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let (username, password) = match decoded.as_deref().and_then(|d| d.split_once(':')) {
        Some((username, password)) => (username.to_string(), password.to_string()),
        None => (text("username"), text("password")),
    };
    AuthConfig {
        username,
        password,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn by_registry() {
        let config = json!({"auths": {"https://index.docker.io/v1/": {"auth": STANDARD.encode("u:p")},
            "r.example:5000": {"username": "v", "password": "q"}}});
        let secret: Secret = serde_json::from_value(
            json!({"data": {".dockerconfigjson": STANDARD.encode(config.to_string())}}),
        )
        .expect("a secret");
        let user = |image| credentials(image, std::iter::once(&secret)).map(|a| a.username);
        assert_eq!(user("busybox"), Some("u".into()));
        assert_eq!(user("r.example:5000/a/b:1"), Some("v".into()));
        assert_eq!(user("quay.io/a/b"), None);
    }
}
