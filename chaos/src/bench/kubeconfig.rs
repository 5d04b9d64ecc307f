//! What a benchmark needs of a kubeconfig: server, CA, and a client certificate or token.

use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// How to reach an API server and who to be there.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    pub host: String,
    pub port: u16,
    pub ca_pem: Vec<u8>,
    /// Certificate chain and key.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
    pub token: Option<String>,
}

impl Kubeconfig {
    /// Reads the current context.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let document: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("{}", path.display()))?;
        let context = named(
            &document,
            "contexts",
            document["current-context"].as_str().unwrap_or_default(),
        )?;
        let cluster = named(
            &document,
            "clusters",
            context["context"]["cluster"].as_str().unwrap_or_default(),
        )?;
        let user = named(
            &document,
            "users",
            context["context"]["user"].as_str().unwrap_or_default(),
        )?;
        let (cluster, user) = (&cluster["cluster"], &user["user"]);
        let url = cluster["server"]
            .as_str()
            .context("the cluster has no server")?;
        let address = url
            .strip_prefix("https://")
            .context("the server's URL is not https")?
            .trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
        let certificate = data(user, "client-certificate")?;
        let key = data(user, "client-key")?;
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().with_context(|| format!("port of {url}"))?,
            ca_pem: data(cluster, "certificate-authority")?
                .context("the cluster has no certificate authority")?,
            client: certificate.zip(key),
            token: user["token"].as_str().map(str::to_owned),
        })
    }
}

fn named<'a>(document: &'a Value, list: &str, name: &str) -> Result<&'a Value> {
    let entries = document[list].as_array();
    match entries
        .into_iter()
        .flatten()
        .find(|entry| entry["name"] == name)
    {
        Some(entry) => Ok(entry),
        None => bail!("the kubeconfig has no entry {name:?} in {list}"),
    }
}

/// Either `NAME-data` in base64, or the file `NAME`.
fn data(entry: &Value, name: &str) -> Result<Option<Vec<u8>>> {
    if let Some(encoded) = entry[format!("{name}-data")].as_str() {
        return Ok(Some(STANDARD.decode(encoded)?));
    }
    let Some(file) = entry[name].as_str() else {
        return Ok(None);
    };
    Ok(Some(
        std::fs::read(file).with_context(|| format!("cannot read {file}"))?,
    ))
}
