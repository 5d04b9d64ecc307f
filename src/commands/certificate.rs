//! `xebec certificate`: the cluster's CA and keys, through the API of the masters, which do the work.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde::Deserialize;

use super::member;
use crate::cli::ClusterArgs;
use crate::cli::certificate::{CertificateArgs, CertificateCommand, StepArgs};
use crate::masters::CERTIFICATES_PATH as PATH;

/// A master that does not answer within this has not taken anything over.
const MASTER_LIMIT: Duration = Duration::from_secs(5);

/// What one master says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificates {
    pub authorities: Vec<Issuing>,
    pub service_account_keys: Vec<Issuing>,
}

/// A CA or a key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issuing {
    pub id: String,
    pub state: String,
    pub not_after: Option<i64>,
}

pub async fn run(args: CertificateArgs) -> Result<()> {
    let client = args.cluster.client().await?;
    match &args.command {
        CertificateCommand::Status => show(&args.cluster, &client).await,
        CertificateCommand::Rotate => rotate(&args.cluster, &client).await,
        CertificateCommand::RotateCa(step) => {
            change(&args.cluster, &client, "ca", step).await?;
            if !step.finish {
                println!("\n{AFTER_CA}");
            }
            Ok(())
        }
        CertificateCommand::RotateServiceAccountKey(step) => {
            change(&args.cluster, &client, "service-account-key", step).await?;
            if !step.finish {
                println!("\n{AFTER_KEY}");
            }
            Ok(())
        }
    }
}

const AFTER_CA: &str = "Both CAs are trusted. Give people new kubeconfigs, restart pods that read their CA only once, make new tokens \
for whoever is to join; then `xebec certificate rotate-ca --finish`.";
const AFTER_KEY: &str = "Tokens of both keys are believed. Pods have new ones within the hour; make those anew that were handed out for \
longer; then `xebec certificate rotate-service-account-key --finish`.";

/// What the master at the end of this client says.
pub async fn ask(client: &Client) -> Result<Certificates> {
    let request = http::Request::get(PATH).body(Vec::new())?;
    client
        .request(request)
        .await
        .context("the API does not tell its certificates")
}

/// Each master, and what it says if it does.
async fn all(
    cluster: &ClusterArgs,
    client: &Client,
) -> Result<Vec<(String, Option<Certificates>)>> {
    let masters = member::list(client).await?.members;
    let asked = masters.into_iter().map(|master| async move {
        let ask = async {
            let client = cluster.client_of(master.api_url.as_deref()?).await.ok()?;
            ask(&client).await.ok()
        };
        let said = tokio::time::timeout(MASTER_LIMIT, ask).await.ok().flatten();
        (master.name, said)
    });
    Ok(join_all(asked).await)
}

async fn rotate(cluster: &ClusterArgs, client: &Client) -> Result<()> {
    let mut missed = Vec::new();
    for master in member::list(client).await?.members {
        let issued = async {
            let url = master.api_url.as_deref().context("it does not live")?;
            let client = cluster.client_of(url).await?;
            let request = http::Request::post(format!("{PATH}/leaves")).body(Vec::new())?;
            Ok::<Certificates, anyhow::Error>(client.request(request).await?)
        };
        match issued.await {
            Ok(_) => println!("{}: issued again", master.name),
            Err(error) => missed.push(format!("{}: {error:#}", master.name)),
        }
    }
    match missed.is_empty() {
        true => Ok(()),
        false => bail!("not on all masters: {}", missed.join("; ")),
    }
}

async fn change(cluster: &ClusterArgs, client: &Client, what: &str, step: &StepArgs) -> Result<()> {
    let step_name = match (step.finish, step.revert) {
        (true, _) => "finish",
        (_, true) => "revert",
        _ => "begin",
    };
    if step.finish && !step.force {
        let own = ask(client).await?;
        let said = all(cluster, client).await?;
        let behind = said.iter().filter(|(_, said)| said.as_ref() != Some(&own));
        let behind: Vec<&str> = behind.map(|(name, _)| name.as_str()).collect();
        if !behind.is_empty() {
            bail!(
                "not finished: {} does not answer or has not taken the change over yet; see `xebec certificate status`, or add \
                 --force",
                behind.join(", ")
            );
        }
    }
    let request = http::Request::post(format!("{PATH}/{what}/{step_name}")).body(Vec::new())?;
    let changed: Certificates = client
        .request(request)
        .await
        .context("nothing was changed")?;
    println!("{}", table(&changed));
    Ok(())
}

async fn show(cluster: &ClusterArgs, client: &Client) -> Result<()> {
    let own = ask(client).await?;
    println!("{}\n", table(&own));
    let mut masters = Table::new();
    masters
        .load_preset(NOTHING)
        .set_header(["MASTER", "CERTIFICATES"]);
    for (name, said) in all(cluster, client).await? {
        let state = match said {
            Some(said) if said == own => "these",
            Some(_) => "others",
            None => "<none>",
        };
        masters.add_row([name.as_str(), state]);
    }
    println!("{masters}");
    Ok(())
}

/// CAs and keys as people are shown them.
pub fn table(certificates: &Certificates) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["CERTIFICATES", "ID", "STATE", "EXPIRES"]);
    let authorities = certificates.authorities.iter().map(|row| ("CA", row));
    let keys = certificates.service_account_keys.iter();
    for (kind, row) in authorities.chain(keys.map(|row| ("service-account key", row))) {
        let end = row
            .not_after
            .and_then(|end| Timestamp::from_second(end).ok());
        let end = end.map_or("<never>".to_owned(), |end| {
            end.strftime("%Y-%m-%d").to_string()
        });
        table.add_row([kind, &row.id, &row.state, &end]);
    }
    table
}
