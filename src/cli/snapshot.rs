//! The flags of `xebec snapshot`, named as those of etcdctl and etcdutl.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Backups of the datastore.
#[derive(Args, Debug, Clone)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

#[derive(Subcommand, Debug, Clone)]
pub enum SnapshotCommand {
    /// Save the state of a running member to a file. The store goes on meanwhile.
    Save(SaveArgs),
    /// Check a snapshot file and show what is in it.
    Status(FileStatusArgs),
    /// Make the data directory of a member of a new cluster from a snapshot file.
    ///
    /// Each member of the new cluster restores the same file with the same --initial-cluster and
    /// --initial-cluster-token. Cluster and members get new ids: members of the old cluster cannot join.
    Restore(RestoreArgs),
}

#[derive(Args, Debug, Clone)]
pub struct SaveArgs {
    /// Where to; replaced if it is there already.
    pub file: PathBuf,
    /// The member to save from: exactly one.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2379")]
    pub endpoints: String,
    /// CA of the member's certificate.
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<PathBuf>,
    /// Certificate to show to it.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub struct FileStatusArgs {
    pub file: PathBuf,
    /// How it is shown.
    #[arg(short, long, value_enum, default_value_t = WriteOut::Simple)]
    pub write_out: WriteOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteOut {
    Simple,
    Json,
    Table,
    Fields,
}

#[derive(Args, Debug, Clone)]
pub struct RestoreArgs {
    pub file: PathBuf,
    /// Name of this member.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Directory to make; must be absent or empty [default: NAME.etcd].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Members of the new cluster and their peer URLs: NAME=URL,NAME=URL.
    #[arg(
        long,
        value_name = "MEMBERS",
        default_value = "default=http://localhost:2380"
    )]
    pub initial_cluster: String,
    /// Tells clusters apart that are made from one file.
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Peer URLs of this member.
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    pub initial_advertise_peer_urls: Vec<String>,
    /// Do not compare the checksum at the end of the file (those of its blocks are compared all the same).
    #[arg(long)]
    pub skip_hash_check: bool,
    /// How much to raise the revision, so that no client has seen a newer one.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        requires = "mark_compacted"
    )]
    pub bump_revision: u64,
    /// Mark all history as compacted, so that watchers and caches start over.
    #[arg(long, requires = "bump_revision")]
    pub mark_compacted: bool,
}
