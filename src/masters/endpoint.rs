//! The API under `/xebec/masters`: a master joins with POST, masters are listed with GET, removed with DELETE. Who may do
//! so is RBAC's matter: tokens of masters may join, administrators may do the rest.

use std::path::PathBuf;
use std::time::Duration;

use api_machinery::{Reason, Status};
use api_server::{Extension, ExtensionRequest};
use async_trait::async_trait;
use control_plane::LivingMasters;
use http::Method;
use http::header::AUTHORIZATION;
use raft_store::{Error, Member, Store};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::bundle::Bundle;
use super::join::{JoinAnswer, JoinRequest};
use super::settings::ClusterSettings;
use super::{PATH, seal};
use crate::join_token::BootstrapToken;

/// A member that takes no connection within this is not running.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// As whom tokens of masters are known.
const JOINING_USER: &str = "system:bootstrap:";

/// Answers for the masters, on each of them.
pub struct Masters {
    pub store: Store,
    /// `DATA_DIR/server`
    pub server: PathBuf,
    pub living: LivingMasters,
}

#[async_trait]
impl Extension for Masters {
    fn path(&self) -> &'static str {
        PATH
    }

    async fn call(&self, request: ExtensionRequest<'_>) -> Result<Value, Status> {
        let parts: Vec<&str> = request.rest.split('/').filter(|p| !p.is_empty()).collect();
        match (request.method, parts.as_slice()) {
            (&Method::POST, []) => self.join(&request).await,
            // As this master knows them: without a majority as well.
            (&Method::GET, []) => {
                let members = self.store.members(false).await.map_err(status)?;
                Ok(self.list(&members))
            }
            (&Method::DELETE, [member]) => {
                let id = self.find(member).await?;
                let left = self.store.member_remove(id).await.map_err(status)?;
                Ok(self.list(&left))
            }
            (&Method::POST, [member, "promote"]) => {
                let id = self.find(member).await?;
                let members = self.store.member_promote(id).await.map_err(status)?;
                Ok(self.list(&members))
            }
            (_, [] | [_] | [_, "promote"]) => Err(Status::method_not_allowed()),
            _ => Err(Status::no_such_path()),
        }
    }
}

impl Masters {
    async fn members(&self) -> Result<Vec<Member>, Status> {
        self.store.members(true).await.map_err(status)
    }

    fn list(&self, members: &[Member]) -> Value {
        let own = self.store.status();
        let living = self.living.borrow().clone();
        let members = members.iter().map(|member| {
            json!({
                "id": format!("{:x}", member.id),
                "name": member.name,
                "peerURLs": member.peer_urls,
                "clientURLs": member.client_urls,
                "apiURL": living.get(&member.name).map(|api| format!("https://{api}")),
                "votes": self.store.has_vote(member.id),
                "leads": own.leader == Some(member.id),
            })
        });
        json!({
            "clusterID": format!("{:x}", own.cluster_id),
            "members": members.collect::<Vec<_>>(),
            "self": {
                "id": format!("{:x}", own.member_id),
                "revision": own.revision,
                "raftTerm": own.raft_term,
                "raftAppliedIndex": own.raft_applied_index,
                "dbSizeBytes": own.db_size,
            },
        })
    }

    /// The member of that id, or of that name.
    async fn find(&self, wanted: &str) -> Result<u64, Status> {
        let members = self.members().await?;
        let named: Vec<u64> = members
            .iter()
            .filter(|member| member.name == wanted || format!("{:x}", member.id) == wanted)
            .map(|member| member.id)
            .collect();
        match named.as_slice() {
            [id] => Ok(*id),
            [] => Err(Status::new(
                404,
                Reason::NotFound,
                format!("there is no master with the name or id {wanted:?}"),
            )),
            _ => Err(Status::bad_request(format!(
                "there are several masters with the name {wanted:?}: give the id"
            ))),
        }
    }

    async fn join(&self, request: &ExtensionRequest<'_>) -> Result<Value, Status> {
        let secret = token_secret(request)?;
        let master: JoinRequest = serde_json::from_slice(&request.body)
            .map_err(|error| Status::bad_request(error.to_string()))?;
        if master.name.is_empty() {
            return Err(Status::bad_request("a master needs a name"));
        }
        ClusterSettings::settle(master.settings.clone(), &self.server)
            .map_err(|error| refused(error.to_string()))?;
        let own = self.store.status().member_id;
        if self
            .members()
            .await?
            .iter()
            .any(|member| member.id == own && member.peer_urls.is_empty())
        {
            return Err(refused(
                "this master listens for no others: it runs with --store-peer-port 0",
            ));
        }
        let members = self.add(&master).await?;
        let bundle = Bundle::read(&self.server).map_err(Status::internal_error)?;
        let sealed = seal::seal(&secret, &bundle.to_json()).map_err(Status::internal_error)?;
        let named = members.into_iter().flat_map(|member| {
            let name = member.name;
            let urls = member.peer_urls.into_iter();
            urls.map(move |url| (name.clone(), url))
        });
        tracing::info!(
            name = master.name,
            peer_url = master.peer_url,
            "a further master joins"
        );
        super::warn_about_two(&self.store);
        let answer = JoinAnswer {
            sealed: hex::encode(sealed),
            members: named.collect(),
        };
        serde_json::to_value(answer).map_err(Status::internal_error)
    }

    /// Adds the master, or takes it as the one that was added before and broke off.
    async fn add(&self, master: &JoinRequest) -> Result<Vec<Member>, Status> {
        let members = self.members().await?;
        let at_url = |member: &&Member| member.peer_urls.contains(&master.peer_url);
        let held = members.iter().find(at_url);
        let held = held.or_else(|| members.iter().find(|member| member.name == master.name));
        match held {
            None => {}
            Some(member) if member.name.is_empty() => return Ok(members),
            Some(member) if runs(member).await => {
                return Err(refused(format!(
                    "a master {:?} runs at {}: give this one another name and address, or remove that one first with \
                     `xebec member remove {:x}`",
                    member.name,
                    member.peer_urls.join(", "),
                    member.id
                )));
            }
            Some(member) if self.store.has_vote(member.id) => {
                return Err(refused(format!(
                    "there is a master {:?} already, at {}; if its data is lost, remove it first with `xebec member remove \
                     {:x}`",
                    member.name,
                    member.peer_urls.join(", "),
                    member.id
                )));
            }
            Some(member) => {
                // It never got so far as to vote: nothing is lost with it.
                self.store
                    .member_remove(member.id)
                    .await
                    .map(drop)
                    .map_err(status)?;
            }
        }
        let urls = vec![master.peer_url.clone()];
        let added = self.store.member_add(urls, false).await;
        added.map(|(_, members)| members).map_err(status)
    }
}

/// The secret of the token that the request came with.
fn token_secret(request: &ExtensionRequest<'_>) -> Result<String, Status> {
    let header = request.headers.get(AUTHORIZATION);
    let bearer = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .and_then(|(_, token)| token.trim().parse::<BootstrapToken>().ok());
    let bearer = bearer.filter(|token| request.user.name == format!("{JOINING_USER}{}", token.id));
    let bearer = bearer.ok_or_else(|| refused("masters join with a token of their own"))?;
    Ok(bearer.secret)
}

/// Whether something listens where the member should.
async fn runs(member: &Member) -> bool {
    for url in &member.peer_urls {
        let address = url
            .rsplit_once("://")
            .map_or(url.as_str(), |(_, rest)| rest);
        let connected = TcpStream::connect(address.trim_end_matches('/'));
        if let Ok(Ok(_)) = tokio::time::timeout(SIGN_OF_LIFE, connected).await {
            return true;
        }
    }
    false
}

fn refused(why: impl Into<String>) -> Status {
    Status::new(409, Reason::Conflict, why.into())
}

fn status(error: Error) -> Status {
    match error {
        Error::NoLeader | Error::Timeout | Error::LeaderChanged | Error::Stopped => {
            Status::service_unavailable(error.to_string())
        }
        Error::NotEnoughStarted => Status::service_unavailable(
            "another master is joining that has not started yet, or too many are down",
        ),
        Error::MemberNotFound => Status::new(404, Reason::NotFound, error.to_string()),
        error => refused(error.to_string()),
    }
}
