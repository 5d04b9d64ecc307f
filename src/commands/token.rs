//! `xebec token`: bootstrap tokens, kept as Secrets in `kube-system` in the form that kubeadm gives them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};

use crate::cli::{TokenArgs, TokenCommand, TokenRole};
use crate::join_token::{BootstrapToken, JoinToken, is_id};

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const NAME_PREFIX: &str = "bootstrap-token-";
/// The group that may ask for a node's certificate.
const AGENT_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";
/// The group that may become a master and is given the cluster's keys.
const SERVER_GROUP: &str = "system:bootstrappers:xebec:masters";

pub async fn run(args: TokenArgs) -> Result<()> {
    let client = args.cluster.client().await?;
    let api: Api<Secret> = Api::namespaced(client, NAMESPACE);
    match args.command {
        TokenCommand::Create {
            role,
            ttl,
            description,
        } => {
            let ca_hash = args.cluster.ca_hash().await?;
            let expires = expiration(&ttl, Timestamp::now())?;
            let bootstrap = BootstrapToken::random();
            let secret = secret(&bootstrap, role, expires, &description);
            api.create(&PostParams::default(), &secret).await?;
            println!("{}", JoinToken { ca_hash, bootstrap });
            Ok(())
        }
        TokenCommand::List => list(&api).await,
        TokenCommand::Delete { token } => delete(&api, &token).await,
    }
}

/// When a token that is made now ends; never for 0.
fn expiration(ttl: &str, now: Timestamp) -> Result<Option<Timestamp>> {
    if ttl == "0" {
        return Ok(None);
    }
    let wrong = || format!("--ttl: {ttl:?} is no time like 30m or 24h");
    let ttl: SignedDuration = ttl.parse().with_context(wrong)?;
    if ttl <= SignedDuration::ZERO {
        bail!(wrong());
    }
    let end = now.checked_add(ttl).with_context(wrong)?;
    Ok(Some(Timestamp::from_second(end.as_second())?))
}

fn secret(
    token: &BootstrapToken,
    role: TokenRole,
    expires: Option<Timestamp>,
    description: &str,
) -> Secret {
    let group = match role {
        TokenRole::Agent => AGENT_GROUP,
        TokenRole::Server => SERVER_GROUP,
    };
    let mut data = BTreeMap::from([
        ("token-id", token.id.clone()),
        ("token-secret", token.secret.clone()),
        ("usage-bootstrap-authentication", "true".to_owned()),
        ("auth-extra-groups", group.to_owned()),
    ]);
    if role == TokenRole::Agent {
        data.insert("usage-bootstrap-signing", "true".to_owned());
    }
    if let Some(expires) = expires {
        data.insert("expiration", expires.to_string());
    }
    if !description.is_empty() {
        data.insert("description", description.to_owned());
    }
    let bytes = |(key, value): (&str, String)| (key.to_owned(), ByteString(value.into_bytes()));
    Secret {
        metadata: ObjectMeta {
            name: Some(format!("{NAME_PREFIX}{}", token.id)),
            ..ObjectMeta::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        data: Some(data.into_iter().map(bytes).collect()),
        ..Secret::default()
    }
}

async fn list(api: &Api<Secret>) -> Result<()> {
    let of_type = ListParams::default().fields(&format!("type={SECRET_TYPE}"));
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "TOKEN",
        "TTL",
        "EXPIRES",
        "USAGES",
        "DESCRIPTION",
        "EXTRA GROUPS",
    ]);
    let now = Timestamp::now();
    for secret in api.list(&of_type).await?.items {
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key)
                .map(|value| String::from_utf8_lossy(&value.0).into_owned())
        };
        let uses = [
            ("usage-bootstrap-authentication", "authentication"),
            ("usage-bootstrap-signing", "signing"),
        ];
        let usages: Vec<&str> = uses
            .iter()
            .filter(|(key, _)| text(key).as_deref() == Some("true"))
            .map(|(_, usage)| *usage)
            .collect();
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "<none>".to_owned());
        let expires = text("expiration");
        table.add_row([
            // The id says which one it is; the secret is nobody's business.
            or_none(text("token-id")),
            time_left(expires.as_deref(), now),
            expires.unwrap_or_else(|| "<never>".to_owned()),
            usages.join(","),
            or_none(text("description")),
            or_none(text("auth-extra-groups")),
        ]);
    }
    println!("{table}");
    Ok(())
}

/// The rest of a token's life in its largest unit.
fn time_left(expires: Option<&str>, now: Timestamp) -> String {
    let Some(expires) = expires else {
        return "<forever>".to_owned();
    };
    let Ok(expires) = expires.parse::<Timestamp>() else {
        return "<invalid>".to_owned();
    };
    if expires <= now {
        return "<expired>".to_owned();
    }
    match expires.duration_since(now).as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ ..3600 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

async fn delete(api: &Api<Secret>, token: &str) -> Result<()> {
    let id = match token.parse::<JoinToken>() {
        Ok(token) => token.bootstrap.id,
        Err(_) => token.split('.').next().unwrap_or_default().to_owned(),
    };
    if !is_id(&id) {
        bail!("{token:?} is neither a token nor a token's id of six letters or digits");
    }
    let name = format!("{NAME_PREFIX}{id}");
    match api.get_opt(&name).await? {
        None => bail!("there is no token {id:?}"),
        Some(found) => {
            api.delete(&found.name_any(), &DeleteParams::default())
                .await?;
            println!("token {id:?} deleted");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_added_to_now() {
        let now = Timestamp::from_second(1_000).unwrap();
        let at = |ttl| expiration(ttl, now).map(|end| end.map(|end| end.as_second()));
        assert_eq!(at("24h").unwrap(), Some(1_000 + 86_400));
        assert_eq!(at("1h30m").unwrap(), Some(1_000 + 5_400));
        assert_eq!(at("0").unwrap(), None);
        for wrong in ["", "-1h", "tomorrow", "0s"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_is_told_in_one_unit() {
        let now = Timestamp::from_second(0).unwrap();
        assert_eq!(time_left(None, now), "<forever>");
        assert_eq!(time_left(Some("1970-01-01T23:00:00Z"), now), "23h");
        assert_eq!(time_left(Some("1970-01-01T00:05:01Z"), now), "5m");
        assert_eq!(time_left(Some("1970-01-01T00:00:00.5Z"), now), "0s");
        assert_eq!(time_left(Some("1969-01-01T00:00:00Z"), now), "<expired>");
    }
}
