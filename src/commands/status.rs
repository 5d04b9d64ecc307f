//! `xebec status`: the cluster at a glance, or one readiness check for scripts.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};

use super::{certificate, member};
use crate::cli::{Check, ClusterArgs, StatusArgs};

/// A server that does not answer within this is not ready.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A master that does not answer within this is shown without its store.
const MASTER_LIMIT: Duration = Duration::from_secs(2);

pub async fn run(args: StatusArgs) -> Result<()> {
    let client = args.cluster.client().await?;
    tokio::time::timeout(ANSWER_LIMIT, async {
        match args.check {
            Some(Check::Api) => api(&client).await.map(drop),
            Some(Check::Node) => match nodes(&client).await?.iter().any(is_ready) {
                true => Ok(()),
                false => bail!("no node is Ready"),
            },
            None => show(&args.cluster, &client).await,
        }
    })
    .await
    .context("the API does not answer")?
}

async fn api(client: &Client) -> Result<String> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    client
        .request_text(request)
        .await
        .context("the API is not ready")
}

async fn nodes(client: &Client) -> Result<Vec<Node>> {
    let nodes = Api::<Node>::all(client.clone())
        .list(&Default::default())
        .await;
    Ok(nodes.context("the API does not list nodes")?.items)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The masters, and how far the store of each is.
async fn masters(cluster: &ClusterArgs, client: &Client) -> Result<Table> {
    let masters = member::list(client).await?;
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["MASTER", "ROLE", "API", "REVISION", "TERM", "STORE"]);
    let asked = masters.members.iter().map(|member| async {
        let client = cluster.client_of(member.api_url.as_deref()?).await.ok()?;
        let answer = tokio::time::timeout(MASTER_LIMIT, member::list(&client)).await;
        Some(answer.ok()?.ok()?.own)
    });
    let answers = futures::future::join_all(asked).await;
    for (member, own) in masters.members.iter().zip(answers) {
        let [revision, term, size] = match own {
            Some(own) => [
                own.revision.to_string(),
                own.raft_term.to_string(),
                format!("{} MB", own.db_size_bytes.div_ceil(1_000_000)),
            ],
            None => ["<none>", "", ""].map(str::to_owned),
        };
        let (name, role) = (member.name.clone(), member.role().to_owned());
        table.add_row([name, role, member.api().to_owned(), revision, term, size]);
    }
    Ok(table)
}

async fn show(cluster: &ClusterArgs, client: &Client) -> Result<()> {
    let version = client
        .apiserver_version()
        .await
        .context("the API does not answer")?;
    api(client).await?;
    println!("API: ready, {}", version.git_version);
    println!("{}\n", masters(cluster, client).await?);
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["NODE", "STATUS", "ADDRESS", "VERSION"]);
    for node in nodes(client).await? {
        let status = node.status.as_ref();
        let address = status
            .and_then(|s| s.addresses.as_ref())
            .and_then(|a| a.first())
            .map(|a| a.address.clone());
        let version = status
            .and_then(|s| s.node_info.as_ref())
            .map(|info| info.kubelet_version.clone());
        table.add_row([
            node.metadata.name.clone().unwrap_or_default(),
            if is_ready(&node) { "Ready" } else { "NotReady" }.to_owned(),
            address.unwrap_or_default(),
            version.unwrap_or_default(),
        ]);
    }
    println!("{table}\n");
    println!("{}", certificate::table(&certificate::ask(client).await?));
    Ok(())
}
