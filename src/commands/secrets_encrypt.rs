//! `xebec secrets-encrypt`: the keys that Secrets lie under in the datastore. The server does the work.

use anyhow::{Context, Result};
use comfy_table::{Table, presets::NOTHING};
use serde_json::Value;

use crate::cli::secrets_encrypt::{SecretsEncryptArgs, SecretsEncryptCommand};

const PATH: &str = "/xebec/secrets-encryption";
/// Plain values are counted under this name.
const PLAIN: &str = "identity";

pub async fn run(args: SecretsEncryptArgs) -> Result<()> {
    let client = args.cluster.client().await?;
    let (request, failed) = match args.command {
        SecretsEncryptCommand::Status => (http::Request::get(PATH), "cannot tell the keys"),
        SecretsEncryptCommand::RotateKeys => (http::Request::post(PATH), "the key was not changed"),
    };
    let text = client.request_text(request.body(Vec::new())?).await;
    let encryption: Value = serde_json::from_str(&text.context(failed)?)?;
    println!("{}", table(&encryption));
    Ok(())
}

fn table(encryption: &Value) -> Table {
    let mut table = Table::new();
    table
        .load_preset(NOTHING)
        .set_header(["KEY", "STATE", "SECRETS"]);
    let count = |name: &str| encryption["values"][name].as_u64().unwrap_or(0);
    for key in encryption["keys"].as_array().into_iter().flatten() {
        let (name, state) = (key["name"].as_str(), key["state"].as_str());
        let name = name.unwrap_or_default();
        table.add_row([name, state.unwrap_or_default(), &count(name).to_string()]);
    }
    if count(PLAIN) > 0 {
        table.add_row(["<none>", "Plain", &count(PLAIN).to_string()]);
    }
    table
}
