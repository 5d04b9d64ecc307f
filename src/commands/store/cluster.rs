//! From the cluster's flags to the store's configuration. A flag that contradicts another is refused here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use raft_store::{Bootstrap, Config, PeerTls};

use crate::cli::peers::{ClusterState, PeerArgs};

/// Milliseconds, as in etcd.
const LONGEST_ELECTION_TIMEOUT: u64 = 50_000;
const DEFAULT_PEER_ADDRESS: &str = "localhost:2380";

/// Takes the flags over into `config`, whose name is set.
pub fn configure(args: &PeerArgs, config: &mut Config) -> Result<()> {
    config.peer_urls = args.initial_advertise_peer_urls.clone();
    config.listen_peer_urls = listen_urls(args);
    config.bootstrap = bootstrap(args, &config.name)?;
    config.peer_tls = PeerTls {
        cert_file: args.peer_cert_file.clone(),
        key_file: args.peer_key_file.clone(),
        trusted_ca_file: args.peer_trusted_ca_file.clone(),
        // As in etcd: who names a CA wants certificates by it.
        client_cert_auth: args.peer_client_cert_auth || args.peer_trusted_ca_file.is_some(),
    };
    config.heartbeat = Duration::from_millis(args.heartbeat_interval);
    config.election_timeout = Duration::from_millis(args.election_timeout);
    check_times(args.heartbeat_interval, args.election_timeout)
}

/// Both in milliseconds; words and limits are etcd's.
fn check_times(heartbeat: u64, election: u64) -> Result<()> {
    ensure!(
        heartbeat > 0,
        "--heartbeat-interval must be >0 (set to {heartbeat}ms)"
    );
    ensure!(
        election > 0,
        "--election-timeout must be >0 (set to {election}ms)"
    );
    ensure!(
        election / 5 >= heartbeat,
        "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
    );
    ensure!(
        election <= LONGEST_ELECTION_TIMEOUT,
        "--election-timeout[{election}ms] is too long, and should be set less than {LONGEST_ELECTION_TIMEOUT}ms"
    );
    Ok(())
}

/// A member that was not told where to listen does so where etcd does, if it can: it may stay alone as well.
fn listen_urls(args: &PeerArgs) -> Vec<String> {
    if !args.listen_peer_urls.is_empty() || !args.initial_cluster.is_empty() {
        let given = args.listen_peer_urls.clone();
        return if given.is_empty() {
            vec![format!("http://{DEFAULT_PEER_ADDRESS}")]
        } else {
            given
        };
    }
    match std::net::TcpListener::bind(DEFAULT_PEER_ADDRESS) {
        Ok(_) => vec![format!("http://{DEFAULT_PEER_ADDRESS}")],
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot listen on {DEFAULT_PEER_ADDRESS}: no other member can join (see --listen-peer-urls)"
            );
            Vec::new()
        }
    }
}

fn bootstrap(args: &PeerArgs, name: &str) -> Result<Bootstrap> {
    let mut members = Vec::new();
    for item in &args.initial_cluster {
        let named = item
            .split_once('=')
            .filter(|(name, url)| !name.is_empty() && url.contains("://"));
        let (name, url) =
            named.with_context(|| format!("--initial-cluster: {item} is not NAME=URL"))?;
        members.push((name.to_owned(), url.to_owned()));
    }
    if members.is_empty() {
        let own = args.initial_advertise_peer_urls.iter();
        members.extend(own.map(|url| (name.to_owned(), url.clone())));
    }
    Ok(match args.initial_cluster_state {
        ClusterState::New => Bootstrap::Static {
            members,
            token: args.initial_cluster_token.clone(),
        },
        ClusterState::Existing => Bootstrap::Existing { members },
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        peers: PeerArgs,
    }

    #[test]
    fn times_are_those_of_etcd() {
        let check = |heartbeat, election, expect: &str| {
            let found = check_times(heartbeat, election).map_err(|error| error.to_string());
            assert_eq!(found.err().unwrap_or_default(), expect);
        };
        check(100, 1000, "");
        check(100, 500, "");
        check(10_000, 50_000, "");
        check(0, 1000, "--heartbeat-interval must be >0 (set to 0ms)");
        check(100, 0, "--election-timeout must be >0 (set to 0ms)");
        check(
            100,
            499,
            "--election-timeout[499ms] should be at least as 5 times as --heartbeat-interval[100ms]",
        );
        check(
            u64::MAX,
            1000,
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[18446744073709551615ms]",
        );
        check(
            100,
            50_001,
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        );
    }

    #[test]
    fn the_initial_cluster_is_read_as_etcd_reads_it() {
        let check = |flags: &[&str], expect: &str| {
            let flags = Flags::parse_from([&["store"], flags].concat()).peers;
            let found = match bootstrap(&flags, "a") {
                Ok(bootstrap) => format!("{bootstrap:?}"),
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{flags:?}: {found}");
        };
        check(
            &[],
            r#"Static { members: [("a", "http://localhost:2380")], token: "etcd-cluster" }"#,
        );
        check(
            &[
                "--initial-cluster",
                "a=http://1:2380,b=http://2:2380,a=http://3:2380",
            ],
            r#"[("a", "http://1:2380"), ("b", "http://2:2380"), ("a", "http://3:2380")]"#,
        );
        check(&["--initial-cluster", "a"], "a is not NAME=URL");
        check(
            &["--initial-cluster-state", "existing"],
            "Existing { members",
        );
    }
}
