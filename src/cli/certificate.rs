//! Flags of `xebec certificate`.

use clap::{Args, Subcommand};

use super::ClusterArgs;

/// `xebec certificate`.
#[derive(Args, Debug, Clone)]
pub struct CertificateArgs {
    #[command(subcommand)]
    pub command: CertificateCommand,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Subcommand, Debug, Clone)]
pub enum CertificateCommand {
    /// Show the cluster's CA and service-account key, and which masters have them.
    Status,
    /// Issue the certificates of all masters again, with new keys, while they run.
    ///
    /// They are renewed by themselves long before they end; this is for when a key may have been seen.
    Rotate,
    /// Change the cluster's CA for all masters at once, while they run.
    ///
    /// The new CA signs from now on, the old one stays trusted, and whoever trusts only the old one believes the new one's
    /// certificates: nothing has to be done in a certain order or time. --finish ends the trust in the old CA.
    RotateCa(StepArgs),
    /// Change the key that signs service-account tokens, while all masters run.
    ///
    /// Tokens of the old key are believed until --finish; pods get new ones by themselves within the hour.
    RotateServiceAccountKey(StepArgs),
}

/// Which step of a change.
#[derive(Args, Debug, Clone)]
pub struct StepArgs {
    /// End the change: what the old one signed is good no more. Kubeconfigs, nodes and pods must have new ones by then.
    #[arg(long, conflicts_with = "revert")]
    pub finish: bool,
    /// Take the change back: the old one signs again, and what the new one has signed meanwhile stays good.
    #[arg(long)]
    pub revert: bool,
    /// Finish although a master does not answer or has not taken the change over. It does so when it starts.
    #[arg(long, requires = "finish")]
    pub force: bool,
}
