//! How a server begins: as what its data directory says, as the first master of a new cluster, or by joining one.
//!
//! A master that joins trusts the cluster by the hash in its token, before anything secret is sent. It is given the masters'
//! keys sealed under the token's secret, and becomes a member of the store. A join that broke off is repeated whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api_server::CA_RETIRED;
use http::header::CONTENT_TYPE;
use kube::config::AuthInfo;
use raft_store::Bootstrap;
use serde::{Deserialize, Serialize};

use super::bundle::{self, Bundle, knows_ca};
use super::member::{Member, peer_url};
use super::settings::Given;
use super::{kept, seal};
use crate::cli::ServerArgs;
use crate::join_token::JoinToken;

/// Kept below `DATA_DIR/server` of a master that joined: whom its member asks who it is.
const FILE: &str = "joined.json";
/// How often a cluster that cannot decide is asked again, and the first wait; each further one is twice as long.
const ATTEMPTS: u32 = 5;
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// What a master that wants to join says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRequest {
    pub name: String,
    pub peer_url: String,
    /// The cluster must have these.
    #[serde(default)]
    pub settings: Given,
}

/// What it is given.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinAnswer {
    /// The masters' keys, sealed under the token's secret; hexadecimal digits.
    pub sealed: String,
    /// Name and peer URL of every member.
    pub members: Vec<(String, String)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Joined {
    /// Whether all files of the cluster are there.
    complete: bool,
    members: Vec<(String, String)>,
}

/// Finds out how this server begins, joins if it is to, and answers how its member does.
pub async fn begin(args: &ServerArgs, server: &Path, member: &Member<'_>) -> Result<Bootstrap> {
    // A variable of the environment may be there and hold nothing.
    let token = args.token.as_deref().filter(|token| !token.is_empty());
    let token = token.map(str::parse::<JoinToken>);
    let token = token.transpose().context("--token")?;
    if let Some(token) = &token {
        check_cluster(server, token)?;
    }
    let has_store = server.join("store/store.json").exists();
    let has_keys = server.join("tls/ca.crt").exists();
    let joined = Joined::read(server)?;
    match (has_store, &args.join, joined) {
        (true, _, _) if !has_keys => {
            let token = token.with_context(|| {
                format!(
                    "{} has a store, but not the keys that belong to it: they lie in the store under the server token, so give \
                     that with --token (it was in DATA_DIR/server/token)",
                    server.display()
                )
            })?;
            kept::recover(server, &token).await?;
            Ok(Bootstrap::Alone)
        }
        (true, _, Some(joined)) => Ok(joined.bootstrap()),
        (true, _, None) => Ok(Bootstrap::Alone),
        (false, Some(first), _) => {
            let token = token.context(
                "--join needs --token: make one with `xebec token create --role server` on a master",
            )?;
            Ok(join(args, first, &token, server, member).await?.bootstrap())
        }
        (false, None, Some(joined)) if joined.complete => Ok(joined.bootstrap()),
        (false, None, Some(_)) => bail!(
            "the join of this master broke off: give --join and --token again, or remove {}",
            server.display()
        ),
        (false, None, None) => {
            if token.is_some() {
                bail!(
                    "--token says which cluster to join, but not where it is: give --join https://MASTER:6443"
                );
            }
            Ok(Bootstrap::Alone)
        }
    }
}

impl Joined {
    fn path(server: &Path) -> PathBuf {
        server.join(FILE)
    }

    fn read(server: &Path) -> Result<Option<Self>> {
        let path = Self::path(server);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn write(&self, server: &Path) -> Result<()> {
        let path = Self::path(server);
        let text = serde_json::to_vec(self).expect("texts are JSON");
        bundle::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn bootstrap(self) -> Bootstrap {
        Bootstrap::Existing {
            members: self.members,
        }
    }
}

/// A data directory of another cluster than the token's is left alone.
fn check_cluster(server: &Path, token: &JoinToken) -> Result<()> {
    let read = |name: &str| std::fs::read_to_string(server.join("tls").join(name));
    let Ok(ca) = read("ca.crt") else {
        return Ok(());
    };
    let found = node::pem_key_hash(ca.as_bytes()).map_err(anyhow::Error::msg)?;
    // Tokens that are kept for ever name the cluster by the CA that it had then.
    let all = ca + &read(CA_RETIRED).unwrap_or_default();
    ensure!(
        knows_ca(&all, &token.ca_hash),
        "{} belongs to another cluster than the token: its CA has the hash {}, the token says {}; use another --data-dir, or \
         move this one away",
        server.display(),
        hex::encode(found),
        hex::encode(token.ca_hash)
    );
    Ok(())
}

async fn join(
    args: &ServerArgs,
    first: &str,
    token: &JoinToken,
    server: &Path,
    member: &Member<'_>,
) -> Result<Joined> {
    ensure!(
        member.peer_port != 0,
        "--store-peer-port: a master that joins must be reached by the others, so it cannot be 0"
    );
    let first = first.trim_end_matches('/');
    // Nothing secret is sent before this has found the cluster that the token names.
    let ca = node::cluster_ca(first, &token.ca_hash).await?;
    let request = JoinRequest {
        name: member.name.to_owned(),
        peer_url: peer_url(member.advertise_address, member.peer_port),
        settings: args.into(),
    };
    let answer = ask(first, &ca, token, &request).await?;
    let sealed = hex::decode(&answer.sealed).context("the answer is not whole")?;
    let bundle = Bundle::from_json(&seal::open(&token.bootstrap.secret, &sealed)?)?;
    ensure!(
        bundle.had_ca(&token.ca_hash)?,
        "{first} hands out the keys of another cluster"
    );
    let mut joined = Joined {
        complete: false,
        members: answer.members,
    };
    joined.write(server)?;
    bundle.write(server)?;
    joined.complete = true;
    joined.write(server)?;
    tracing::info!(cluster = first, "joining as a further master");
    Ok(joined)
}

/// Asks until the cluster can decide: it may be electing, or have another master that joins.
async fn ask(
    first: &str,
    ca: &str,
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<JoinAnswer> {
    let mut config = kube::Config::new(first.parse().context("--join")?);
    config.root_cert = Some(vec![
        node::pem_der(ca.as_bytes()).map_err(anyhow::Error::msg)?,
    ]);
    config.auth_info = AuthInfo {
        token: Some(token.bootstrap.to_string().into()),
        ..AuthInfo::default()
    };
    let client = kube::Client::try_from(config)?;
    let body = serde_json::to_vec(request)?;
    let mut delay = FIRST_RETRY;
    for _ in 0..ATTEMPTS {
        match ask_once(&client, body.clone()).await {
            Err(kube::Error::Api(status)) if status.code == 503 => {
                tracing::info!(reason = status.message, retry_in = ?delay, "not yet a master");
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
            answer => return answer.map_err(|error| explained(first, error)),
        }
    }
    let last = ask_once(&client, body).await;
    last.map_err(|error| explained(first, error))
}

async fn ask_once(client: &kube::Client, body: Vec<u8>) -> Result<JoinAnswer, kube::Error> {
    let request = http::Request::post(super::PATH)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request(request).await
}

/// What a person is told of a refusal.
fn explained(first: &str, error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 401 => anyhow::anyhow!(
            "the cluster does not know this token: it is wrong, was deleted or has expired; make a new one with `xebec token \
             create --role server`"
        ),
        kube::Error::Api(status) if status.code == 403 => anyhow::anyhow!(
            "this token is not for masters: make one with `xebec token create --role server`"
        ),
        kube::Error::Api(status) => {
            anyhow::anyhow!("the cluster refuses this master: {}", status.message)
        }
        other => anyhow::Error::new(other).context(format!("{first} does not answer")),
    }
}
