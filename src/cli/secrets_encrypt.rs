//! Flags of `xebec secrets-encrypt`.

use clap::{Args, Subcommand};

use super::ClusterArgs;

/// `xebec secrets-encrypt`.
#[derive(Args, Debug, Clone)]
pub struct SecretsEncryptArgs {
    #[command(subcommand)]
    pub command: SecretsEncryptCommand,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Subcommand, Debug, Clone)]
pub enum SecretsEncryptCommand {
    /// Show the keys, and how many Secrets lie in the datastore under each.
    Status,
    /// Make a new key and encrypt every Secret again under it.
    ///
    /// May be interrupted at any point and called again: the old key is kept until nothing needs it.
    RotateKeys,
}
