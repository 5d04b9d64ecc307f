//! Signs the kubeconfig in `kube-public/cluster-info` with every token that is good for it, so that whoever holds a token
//! can tell the cluster's CA from a stranger's (kubeadm's discovery). Signatures of tokens that are gone go too.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::{Informer, ObjectKey};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;

use super::{TOKEN_NAMESPACE, data, has_expired, is_token};
use crate::context::{Context, Controller, Queue};
use crate::error::Outcome;
use crate::support::Meta;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";
const TOKEN_NAME_PREFIX: &str = "bootstrap-token-";

/// There is one key only: the ConfigMap's.
pub(crate) fn start(context: &Context, queue: &Queue) -> Arc<dyn Controller> {
    let secrets = context.informer::<Secret>();
    let config_maps = context.informer::<ConfigMap>();
    let keys = queue.clone();
    secrets.on_change(move |change| {
        if is_token(change.object()) {
            keys.add(ObjectKey::new(NAMESPACE, NAME));
        }
    });
    let keys = queue.clone();
    config_maps.on_change(move |change| {
        let map = change.object();
        if map.name() == NAME && map.namespace() == NAMESPACE {
            keys.add(ObjectKey::new(NAMESPACE, NAME));
        }
    });
    Arc::new(Signer {
        context: context.clone(),
        secrets,
        config_maps,
    })
}

struct Signer {
    context: Context,
    secrets: Informer<Secret>,
    config_maps: Informer<ConfigMap>,
}

#[async_trait]
impl Controller for Signer {
    async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(map) = self.config_maps.get(key) else {
            return Ok(());
        };
        let secrets = self.secrets.list_namespace(TOKEN_NAMESPACE);
        let tokens = secrets.iter().map(|secret| secret.as_ref());
        if let Some(signed) = signed(&map, tokens, self.context.now()) {
            self.context.client.update(&signed).await?;
        }
        Ok(())
    }
}

/// The map with the signatures that it should have; none if it has them, or nothing to sign.
fn signed<'a>(
    map: &ConfigMap,
    secrets: impl Iterator<Item = &'a Secret>,
    now: Timestamp,
) -> Option<ConfigMap> {
    let held = map.data.as_ref()?;
    let content = held.get(KUBECONFIG)?;
    let mut wanted: BTreeMap<String, String> = held
        .iter()
        .filter(|(key, _)| !key.starts_with(SIGNATURE_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (id, secret) in secrets.filter_map(|secret| signing_token(secret, now)) {
        let signature = detached_signature(content, id, secret);
        wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature);
    }
    (wanted != *held).then(|| ConfigMap {
        data: Some(wanted),
        ..map.clone()
    })
}

/// Id and secret of a token that may sign now.
fn signing_token(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, key) = (data(secret, "token-id"), data(secret, "token-secret"));
    let good = is_token(secret)
        && !id.is_empty()
        && secret.name().strip_prefix(TOKEN_NAME_PREFIX) == Some(id)
        && !key.is_empty()
        && !has_expired(secret, now)
        && data(secret, "usage-bootstrap-signing") == "true";
    good.then_some((id, key))
}

/// A compact JWS (HS256) without its content, as RFC 7515's appendix F describes.
fn detached_signature(content: &str, id: &str, secret: &str) -> String {
    // An id is six letters or digits: nothing in it needs escaping.
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":"{id}"}}"#));
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> Secret {
        let mut secret = json!({
            "metadata": {"namespace": "kube-system", "name": format!("bootstrap-token-{id}")},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true"},
        });
        change(&mut secret);
        let encode = |text: &serde_json::Value| {
            json!(
                base64::engine::general_purpose::STANDARD.encode(text.as_str().unwrap_or_default())
            )
        };
        let data: serde_json::Map<_, _> = secret["stringData"]
            .as_object()
            .expect("data")
            .iter()
            .map(|(key, value)| (key.clone(), encode(value)))
            .collect();
        secret["data"] = data.into();
        serde_json::from_value(secret).expect("a secret")
    }

    fn map(data: serde_json::Value) -> ConfigMap {
        let metadata = json!({"namespace": NAMESPACE, "name": NAME});
        serde_json::from_value(json!({"metadata": metadata, "data": data})).expect("a map")
    }

    #[test]
    fn signatures_are_those_that_kubeadm_expects() {
        let check = |content: &str, expect: &str| {
            let signature = detached_signature(content, "joshua", "my voice is my passcode");
            assert_eq!(
                signature,
                format!("eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..{expect}")
            );
        };
        check(
            "Hello from the other side. I must have called a thousand times.",
            "VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8",
        );
        check("", "7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk");
    }

    #[test]
    fn only_good_tokens_sign() {
        let now = Timestamp::from_second(1000).expect("a time");
        let signs = |secret: Secret| signing_token(&secret, now).is_some();
        assert!(signs(token("abcdef", |_| {})));
        let refused: [fn(&mut serde_json::Value); 6] = [
            |s| s["metadata"]["namespace"] = json!("default"),
            |s| s["metadata"]["name"] = json!("bootstrap-token-ghijkl"),
            |s| s["type"] = json!("Opaque"),
            |s| s["stringData"]["usage-bootstrap-signing"] = json!("false"),
            |s| s["stringData"]["token-secret"] = json!(""),
            |s| s["stringData"]["expiration"] = json!("1970-01-01T00:10:00Z"),
        ];
        for change in refused {
            assert!(!signs(token("abcdef", change)));
        }
    }

    #[test]
    fn signatures_follow_the_tokens() {
        let now = Timestamp::from_second(1000).expect("a time");
        let secrets = [token("abcdef", |_| {})];
        let first = map(json!({"kubeconfig": "x", "other": "kept", "jws-kubeconfig-gone00": "y"}));
        let made = signed(&first, secrets.iter(), now).expect("changed");
        let data = made.data.clone().expect("data");
        assert_eq!(
            data.keys().collect::<Vec<_>>(),
            ["jws-kubeconfig-abcdef", "kubeconfig", "other"]
        );
        assert_eq!(signed(&made, secrets.iter(), now), None);
        assert!(signed(&made, [].iter(), now).is_some());
        assert_eq!(signed(&map(json!({})), secrets.iter(), now), None);
    }
}
