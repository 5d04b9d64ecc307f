//! Every command and flag, with the help that teaches them.

pub mod audit;
pub mod certificate;
mod etcd_file;
mod etcd_flags;
pub mod etcd_line;
mod feature_gates;
mod known_flags;
pub mod node_loss;
mod parse;
pub mod peers;
pub mod secrets_encrypt;
pub mod snapshot;
pub mod state;

pub use parse::parse;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Kubernetes in one binary: datastore, API server, scheduler, controllers and node agent.
#[derive(Parser, Debug)]
#[command(
    name = "xebec",
    version,
    max_term_width = 110,
    args_override_self = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a master: datastore, API server, scheduler and controllers, and a node agent beside them.
    ///
    /// The first start makes the cluster's certificates and prints where the admin kubeconfig is. Everything lives under
    /// --data-dir; the same command on the same directory continues where it stopped.
    Server(Box<ServerArgs>),
    /// Run a worker: join a cluster with a token and run its pods.
    ///
    /// `xebec token create` on a master prints the token. It is needed once; the node keeps its certificates under
    /// --data-dir and renews them by itself.
    Agent(Box<AgentArgs>),
    /// Run the datastore alone, as a drop-in etcd: etcd's v3 API, etcd's flags, variables and configuration file.
    ///
    /// Every flag may be given as etcd takes it, as a variable such as ETCD_DATA_DIR (flags win), or in etcd's configuration file.
    /// Flags of etcd that are not listed here are taken and change nothing, or are refused with a reason.
    Store(Box<StoreArgs>),
    /// Make, list and delete the tokens that nodes join with.
    Token(TokenArgs),
    /// List, remove and promote masters.
    Member(MemberArgs),
    /// Save, check and restore backups of the datastore.
    Snapshot(snapshot::SnapshotArgs),
    /// Show and change the keys that Secrets are encrypted under in the datastore.
    SecretsEncrypt(secrets_encrypt::SecretsEncryptArgs),
    /// Show and change the cluster's CA, its service-account key and the masters' certificates.
    Certificate(certificate::CertificateArgs),
    /// Show the cluster at a glance: API, nodes, certificates.
    Status(StatusArgs),
}

/// Flags of `xebec server`.
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct ServerArgs {
    /// Where all state lives. A directory of another cluster is refused.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/xebec")]
    pub data_dir: PathBuf,
    /// YAML file with the same names as these flags, e.g. `https-port: 6443`. Flags on the command line win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address that the API listens on.
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Address that others reach this master at [default: the address of the default route].
    #[arg(long, value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Name of the Node object [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of the node, its InternalIP [default: the advertise address].
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Port of the API.
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub https_port: u16,
    /// Port for the store members of other masters; 0 for a master that no other can join.
    #[arg(long, value_name = "PORT", default_value_t = 2380)]
    pub store_peer_port: u16,
    /// Port of the store's etcd API, for clients with a certificate of its CA; 0 turns it off.
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    pub store_client_port: u16,
    /// Join the cluster of this master as a further one; needs --token. Ignored once this master has joined.
    #[arg(long, value_name = "https://HOST:6443")]
    pub join: Option<String>,
    /// Token to join with, from `xebec token create --role server`; or, after `xebec snapshot restore`, the server token
    /// (DATA_DIR/server/token). Better given in the environment than here.
    #[arg(long, env = "XEBEC_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// After the loss of a majority of the masters: makes this master's data a cluster of one, and ends. The other masters cannot
    /// come back; join them, or new ones, after a start without this flag.
    #[arg(long)]
    pub cluster_reset: bool,
    /// Addresses of pods; each node gets a /24 of it [default: the cluster's, or 10.42.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Addresses of Services [default: the cluster's, or 10.43.0.0/16].
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Address of the cluster's DNS, inside the service CIDR [default: the cluster's, or 10.43.0.10].
    #[arg(long, value_name = "IP")]
    pub cluster_dns: Option<IpAddr>,
    /// Domain under which Services have their names [default: the cluster's, or cluster.local].
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Another name or address that the API's certificate is valid for. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// Also write the admin kubeconfig here (mode 600).
    #[arg(long, value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Run no node agent: this master runs no pods.
    #[arg(long)]
    pub disable_agent: bool,
    #[command(flatten)]
    pub audit: audit::AuditArgs,
    #[command(flatten)]
    pub node_loss: node_loss::NodeLossArgs,
    #[command(flatten)]
    pub agent: NodeArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// Flags of `xebec agent`.
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct AgentArgs {
    /// Any master of the cluster.
    #[arg(long, value_name = "https://HOST:6443")]
    pub server: String,
    /// The token to join with; not needed again once the node has joined. Better given in the environment than here.
    #[arg(long, env = "XEBEC_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Where all state lives.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/xebec")]
    pub data_dir: PathBuf,
    /// YAML file with the same names as these flags, e.g. `node-name: edge-1`. Flags on the command line win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the Node object [default: the host's name].
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Address of the node, its InternalIP [default: the address of the default route].
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    #[command(flatten)]
    pub agent: NodeArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

/// `xebec token`.
#[derive(Args, Debug, Clone)]
pub struct TokenArgs {
    #[command(subcommand)]
    pub command: TokenCommand,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Subcommand, Debug, Clone)]
pub enum TokenCommand {
    /// Make a token and print it. It is a secret: whoever has it can join.
    Create {
        /// Who may join with it.
        #[arg(long, value_enum, default_value_t = TokenRole::Agent)]
        role: TokenRole,
        /// How long it is good, e.g. 30m, 24h; 0 for ever.
        #[arg(long, value_name = "TIME", default_value = "24h")]
        ttl: String,
        /// What it is for, shown by `xebec token list`.
        #[arg(long, default_value = "")]
        description: String,
    },
    /// List the tokens, without their secrets.
    List,
    /// Delete a token, so that nobody can join with it any more. Nodes that have joined stay.
    Delete {
        /// The token, or the six characters of its id.
        token: String,
    },
}

/// `xebec member`.
#[derive(Args, Debug, Clone)]
pub struct MemberArgs {
    #[command(subcommand)]
    pub command: MemberCommand,
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

#[derive(Subcommand, Debug, Clone)]
pub enum MemberCommand {
    /// List the masters: who leads, who votes, where they are.
    List,
    /// Remove a master for good, running or lost. Its process ends; the others go on.
    Remove {
        /// Its id or name.
        member: String,
    },
    /// Let a master vote that does not yet. A master that joins is promoted by itself once it has caught up.
    Promote {
        /// Its id or name.
        member: String,
    },
}

/// Who may join with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TokenRole {
    Agent,
    Server,
}

/// How commands find the cluster.
#[derive(Args, Debug, Clone)]
pub struct ClusterArgs {
    /// Kubeconfig of the cluster [default: the server's admin kubeconfig under --data-dir].
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Data directory of a server on this machine.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/xebec",
        global = true
    )]
    pub data_dir: PathBuf,
}

/// Flags of `xebec store`, named as etcd's.
#[derive(Args, Debug, Clone)]
#[command(args_override_self = true)]
pub struct StoreArgs {
    /// Name of this member.
    #[arg(long, default_value = "default")]
    pub name: String,
    /// Where the data lives [default: NAME.etcd].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// YAML file with the same names as these flags. Flags on the command line and ETCD_… variables win.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// etcd's configuration file, in its own form. As in etcd, flags and variables count for nothing then.
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// URLs that clients connect to.
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    pub listen_client_urls: Vec<String>,
    /// URLs that clients are told.
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://localhost:2379"
    )]
    pub advertise_client_urls: Vec<String>,
    #[command(flatten)]
    pub state: state::StateArgs,
    #[command(flatten)]
    pub peers: peers::PeerArgs,
    /// Certificate of the client URLs.
    #[arg(long, value_name = "FILE")]
    pub cert_file: Option<PathBuf>,
    /// Its key.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// CA of clients' certificates: clients without one are refused.
    #[arg(long, value_name = "FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    /// Refuse clients without a certificate of that CA, as they are anyway.
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        value_parser = boolean,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub client_cert_auth: bool,
    /// Further URLs that serve metrics and health only.
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    pub listen_metrics_urls: Vec<String>,
    /// Largest write request, bytes.
    #[arg(long, value_name = "BYTES", default_value_t = raft_store::limits::MAX_REQUEST_BYTES)]
    pub max_request_bytes: usize,
    /// Most operations in a transaction.
    #[arg(long, value_name = "NUMBER", default_value_t = raft_store::limits::MAX_TXN_OPS)]
    pub max_txn_ops: usize,
    /// Most streams that a client's connection may have open at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = u32::MAX)]
    pub max_concurrent_streams: u32,
    /// How often idle watchers that asked for it are told the revision.
    #[arg(
        long,
        visible_alias = "experimental-watch-progress-notify-interval",
        value_name = "DURATION",
        default_value = "10m"
    )]
    pub watch_progress_notify_interval: String,
    /// What is to be said about flags that only etcd has a use for.
    #[arg(skip)]
    pub heard: etcd_line::Heard,
    #[command(flatten)]
    pub log: LogArgs,
}

/// A truth value as Go reads it.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Flags of the node agent.
#[derive(Args, Debug, Clone)]
pub struct NodeArgs {
    /// CRI socket of a runtime that is there already [default: a containerd of our own].
    #[arg(long, value_name = "URL")]
    pub container_runtime_endpoint: Option<String>,
    /// TLS port of the agent's API (logs, exec).
    #[arg(long, value_name = "PORT", default_value_t = node::DEFAULT_KUBELET_PORT)]
    pub kubelet_port: u16,
    /// Loopback port of the agent's health check; 0 turns it off.
    #[arg(long, value_name = "PORT", default_value_t = node::DEFAULT_HEALTHZ_PORT)]
    pub healthz_port: u16,
    /// How Service rules reach the kernel.
    #[arg(long, value_enum, default_value_t = ProxyMode::Nftables)]
    pub proxy_mode: ProxyMode,
    /// How much must stay free, or else the node reports pressure and gets no new pods, as SIGNAL<QUANTITY or
    /// SIGNAL<PERCENT%, separated by commas. Signals: memory.available, nodefs.available, nodefs.inodesFree,
    /// imagefs.available, imagefs.inodesFree, pid.available. What is not named is not watched.
    #[arg(long, value_name = "THRESHOLDS", default_value = node::EvictionHard::DEFAULT)]
    pub eviction_hard: node::EvictionHard,
    /// Ends this node's replaceable pods when no master can be reached for as long as the cluster waits before it replaces
    /// them, so that others may start safely, those of StatefulSets included.
    #[arg(long)]
    pub self_fence: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    Nftables,
    Iptables,
}

/// Flags that concern what is written to standard error.
#[derive(Args, Debug, Clone)]
pub struct LogArgs {
    /// What is logged: error, warn, info, debug, trace, or a filter such as `info,raft_store=debug`.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "XEBEC_LOG",
        value_parser = log_level
    )]
    pub log_level: String,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[value(alias = "console")]
    Text,
    Json,
}

/// A level or a filter. What etcd has above errors ends the process here, and is logged as an error.
fn log_level(text: &str) -> Result<String, String> {
    match text {
        "fatal" | "panic" | "dpanic" => Ok("error".to_owned()),
        "error" | "warn" | "info" | "debug" | "trace" | "off" => Ok(text.to_owned()),
        filter if filter.contains(['=', ',', '[']) => Ok(filter.to_owned()),
        _ => Err("neither a level nor a filter such as info,raft_store=debug".to_owned()),
    }
}

/// Flags of `xebec status`.
#[derive(Args, Debug, Clone)]
pub struct StatusArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Say nothing; exit with 0 only if this is ready.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub check: Option<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Check {
    /// The API answers `/readyz`.
    Api,
    /// At least one node is Ready.
    Node,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
