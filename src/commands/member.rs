//! `xebec member`: the masters' members of the store, through the API of any master.

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use http::Request;
use kube::Client;
use serde::Deserialize;

use crate::cli::{MemberArgs, MemberCommand};
use crate::masters::PATH;

/// What a master answers about all of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    pub members: Vec<Member>,
    /// The one that answered.
    #[serde(rename = "self")]
    pub own: Own,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub id: String,
    /// Empty until it has started.
    pub name: String,
    #[serde(rename = "peerURLs")]
    pub peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    pub client_urls: Vec<String>,
    /// Where its API answers, if it lives.
    #[serde(rename = "apiURL")]
    pub api_url: Option<String>,
    pub votes: bool,
    pub leads: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Own {
    pub revision: i64,
    pub raft_term: u64,
    pub db_size_bytes: u64,
}

impl Member {
    pub fn role(&self) -> &'static str {
        match (self.leads, self.votes, self.name.is_empty()) {
            (true, ..) => "leader",
            (_, true, _) => "voter",
            (_, _, true) => "unstarted",
            _ => "learner",
        }
    }

    /// Where its API answers, as people are shown it.
    pub fn api(&self) -> &str {
        self.api_url.as_deref().unwrap_or("<none>")
    }
}

pub async fn run(args: MemberArgs) -> Result<()> {
    let client = args.cluster.client().await?;
    let members = match &args.command {
        MemberCommand::List => list(&client).await?,
        MemberCommand::Remove { member } => {
            let request = Request::delete(format!("{PATH}/{member}")).body(Vec::new())?;
            let left = ask(&client, request).await?;
            println!(
                "Master {member} is removed. Its process ends; its Node goes with `kubectl delete node`."
            );
            left
        }
        MemberCommand::Promote { member } => {
            let request = Request::post(format!("{PATH}/{member}/promote")).body(Vec::new())?;
            ask(&client, request).await?
        }
    };
    println!("{}", table(&members));
    Ok(())
}

/// All masters, as the one that answers knows them.
pub async fn list(client: &Client) -> Result<Members> {
    ask(client, Request::get(PATH).body(Vec::new())?).await
}

async fn ask(client: &Client, request: Request<Vec<u8>>) -> Result<Members> {
    match client.request(request).await {
        Ok(members) => Ok(members),
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        Err(error) => Err(error).context("the API does not answer"),
    }
}

fn table(members: &Members) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "ID",
        "NAME",
        "ROLE",
        "API",
        "PEER ADDRS",
        "CLIENT ADDRS",
    ]);
    for member in &members.members {
        table.add_row([
            member.id.clone(),
            member.name.clone(),
            member.role().to_owned(),
            member.api().to_owned(),
            member.peer_urls.join(","),
            member.client_urls.join(","),
        ]);
    }
    table
}
