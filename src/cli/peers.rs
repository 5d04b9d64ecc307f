//! Flags of `xebec store` about its cluster, named as etcd's.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

#[derive(Args, Debug, Clone)]
pub struct PeerArgs {
    /// URLs to listen on for other members [default: http://localhost:2380, unless something else listens there].
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub listen_peer_urls: Vec<String>,
    /// URLs that other members are told.
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2380"
    )]
    pub initial_advertise_peer_urls: Vec<String>,
    /// All members that the cluster begins with, NAME=URL each [default: this one].
    #[arg(long, value_name = "NAME=URL,…", value_delimiter = ',')]
    pub initial_cluster: Vec<String>,
    /// Whether this member founds the cluster with the others, or was added to one that exists.
    #[arg(long, value_enum, default_value_t = ClusterState::New)]
    pub initial_cluster_state: ClusterState,
    /// Keeps clusters apart that begin with the same URLs.
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    /// Certificate of the peer URLs, also shown to other members.
    #[arg(long, value_name = "FILE")]
    pub peer_cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub peer_key_file: Option<PathBuf>,
    /// CA of the members' certificates: who comes without one is refused.
    #[arg(long, value_name = "FILE")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    /// Refuse members without a certificate of that CA, as they are anyway.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = super::boolean,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub peer_client_cert_auth: bool,
    /// Time between a leader's heartbeats, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    pub heartbeat_interval: u64,
    /// Time after which another member takes over from a leader that is silent, milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub election_timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClusterState {
    New,
    Existing,
}
