//! One file per command.

mod agent;
mod certificate;
mod cluster;
mod member;
mod secrets_encrypt;
mod server;
mod snapshot;
mod status;
mod store;
mod token;

use anyhow::{Context, Result};

use crate::cli::{Cli, Command};

/// Runs the command to its end.
pub fn run(cli: Cli) -> Result<()> {
    // The only provider in this process; installing it can only fail if it is there already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Server(args) => runtime()?.block_on(server::run(*args)),
        Command::Agent(args) => runtime()?.block_on(agent::run(*args)),
        Command::Token(args) => runtime()?.block_on(token::run(args)),
        Command::Member(args) => runtime()?.block_on(member::run(args)),
        Command::Store(args) => runtime()?.block_on(store::run(*args)),
        Command::Snapshot(args) => runtime()?.block_on(snapshot::run(args)),
        Command::SecretsEncrypt(args) => runtime()?.block_on(secrets_encrypt::run(args)),
        Command::Certificate(args) => runtime()?.block_on(certificate::run(args)),
        Command::Status(args) => runtime()?.block_on(status::run(args)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
