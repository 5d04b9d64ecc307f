//! Flags of etcd 3.4 to 3.7 that `xebec store` knows and has no use for: one row each, with what becomes of it.
//!
//! Flags that mean something here are fields of `StoreArgs`. `docs/etcd-differences.md` shows this table; a test compares them.

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Value,
    /// A switch in Go's syntax: `--flag` or `--flag=BOOL`.
    Bool,
}

/// What becomes of a flag with a value that asks for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It changes nothing that matters.
    Ignored,
    /// The store does well without, but whoever set it should know.
    Warned,
    /// The store would not be what was asked for.
    Refused,
}

/// One flag.
#[derive(Debug)]
pub struct Row {
    /// Without dashes.
    pub name: &'static str,
    pub takes: Takes,
    pub then: Then,
    /// Values that ask for nothing: defaults, and what holds anyway.
    pub usual: &'static [&'static str],
    /// Whether a value that is not listed asks for nothing, either.
    also_usual: Option<fn(&str) -> bool>,
    /// Why, and what to do instead.
    pub why: &'static str,
}

impl Row {
    /// What becomes of the flag with this value; none if it asks for nothing.
    pub fn judge(&self, value: &str) -> Option<Then> {
        let listed = self.usual.contains(&value);
        let usual = listed || self.also_usual.is_some_and(|holds| holds(value));
        (!usual).then_some(self.then)
    }
}

/// The row of a flag by its name without dashes.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

const fn row(name: &'static str, takes: Takes, then: Then, why: &'static str) -> Row {
    Row {
        name,
        takes,
        then,
        usual: &[],
        also_usual: None,
        why,
    }
}

const fn ignored(name: &'static str, takes: Takes, why: &'static str) -> Row {
    row(name, takes, Then::Ignored, why)
}

type Usual = &'static [&'static str];

const fn warned(name: &'static str, takes: Takes, usual: Usual, why: &'static str) -> Row {
    Row {
        usual,
        ..row(name, takes, Then::Warned, why)
    }
}

const fn refused(name: &'static str, takes: Takes, usual: Usual, why: &'static str) -> Row {
    Row {
        usual,
        ..row(name, takes, Then::Refused, why)
    }
}

const VALUE: Takes = Takes::Value;
const BOOL: Takes = Takes::Bool;
const UNSET: Usual = &[""];
const OFF: Usual = &["false"];
const ON: Usual = &["true"];
const STDERR: Usual = &["", "default", "stderr"];

const LOG_IS_CUT: &str = "The log is cut by itself, once the state on disk holds what is in it.";
const OWN_DISK: &str = "The log lies in `--data-dir`: put that on the fast disk.";
const NO_BBOLT: &str = "Tuning of etcd's database file: there is none, and nothing to defragment.";
const NOT_LOCKED: &str = "Memory is not locked: swap is better off on the machine of a store.";
const ALWAYS_ON: &str = "Always on.";
const SYNCED: &str = "What was acknowledged is on the disk, always.";
const ONE_LEARNER: &str =
    "A cluster has one learner at a time: promote it before the next is added.";
const CONNECTIONS: &str = "Connections are watched by themselves, with etcd's default times.";
const ONE_PROCESS: &str = "A port is served by one process: stop the other one first.";
const GATEWAY: &str = "The JSON gateway is always served, at the same port as gRPC.";
const SAME_PORT: &str = "gRPC and HTTP share a port: list the URL in `--listen-client-urls`.";
const NO_DISCOVERY: &str = "No discovery: name the members in `--initial-cluster`.";
const OF_DISCOVERY: &str = "Of use with discovery only.";
const NO_V2: &str = "No v2 API, as in etcd 3.6: use clients of v3.";
const NO_PROXY: &str = "No v2 proxy: clients take several endpoints.";
const OF_PROXY: &str = "Of use with a v2 proxy only.";
const ONE_FORMAT: &str = "There is one format of data.";
const NO_CALLS: &str = "The gateway makes no connection of its own.";
const NO_LISTS: &str = "Revocation lists are not looked at: give certificates a short life.";
const OWN_CA: &str =
    "Every certificate of the trusted CA is let in: use a CA for these clients alone.";
const OWN_PEER_CA: &str =
    "Every certificate of the members' CA is let in: use a CA for the members alone.";
const NO_AUTO_TLS: &str = "Make certificates, and name them in `--cert-file` and `--key-file`.";
const NO_PEER_AUTO_TLS: &str = "Make certificates, and name them in `--peer-cert-file`, `--peer-key-file` and `--peer-trusted-ca-file`.";
const OF_AUTO_TLS: &str = "Of use with certificates that etcd makes only.";
const ONE_IDENTITY: &str = "`--peer-cert-file` and `--peer-key-file` are shown in both directions.";
const NO_NAMES: &str =
    "Names in the certificates of members that connect are not looked at, only the CA.";
const CIPHERS: &str =
    "TLS 1.2 has the six suites of ECDHE with AES-GCM or ChaCha20: a list must hold them all.";
const TLS_VERSIONS: &str = "TLS 1.2 and 1.3 are served, both.";
const NO_CORS: &str = "No CORS headers are sent.";
const ANY_HOST: &str = "Every `Host` is answered: use TLS.";
const NO_USERS: &str = "No users and roles: restrict clients by certificates.";
const OF_USERS: &str = "Of use with users only.";
const NO_PPROF: &str = "No Go runtime that could be profiled: see `/metrics`.";
const ALL_METRICS: &str = "All metrics are always there.";
const TO_STDERR: &str = "Logs go to standard error, as `--log-format` says: who starts the store keeps and rotates them.";
const NO_ZAP: &str = "See `--log-format`.";
const LOG_LEVEL: &str = "Use `--log-level`, such as `--log-level=debug`.";
const IN_METRICS: &str = "Slow requests show in `/metrics`.";
const NO_TRACES: &str = "No traces are sent: see `/metrics`.";
const OF_TRACES: &str = "Of use with tracing only.";
const COMPARED: &str = "`--corrupt-check-time` compares the members' hashes.";
const FULL_TIME: &str = "A new leader gives each lease its full time again.";

/// Every flag, those of one kind together.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    ignored("snapshot-count", VALUE, LOG_IS_CUT),
    ignored("max-snapshots", VALUE, LOG_IS_CUT),
    ignored("max-wals", VALUE, LOG_IS_CUT),
    ignored("snapshot-catchup-entries", VALUE, LOG_IS_CUT),
    ignored("experimental-snapshot-catchup-entries", VALUE, LOG_IS_CUT),
    warned("wal-dir", VALUE, UNSET, OWN_DISK),
    ignored("backend-bbolt-freelist-type", VALUE, NO_BBOLT),
    ignored("experimental-backend-bbolt-freelist-type", VALUE, NO_BBOLT),
    ignored("backend-batch-interval", VALUE, NO_BBOLT),
    ignored("backend-batch-limit", VALUE, NO_BBOLT),
    ignored("compaction-batch-limit", VALUE, NO_BBOLT),
    ignored("experimental-compaction-batch-limit", VALUE, NO_BBOLT),
    ignored("compaction-sleep-interval", VALUE, NO_BBOLT),
    ignored("experimental-compaction-sleep-interval", VALUE, NO_BBOLT),
    ignored("bootstrap-defrag-threshold-megabytes", VALUE, NO_BBOLT),
    ignored("experimental-bootstrap-defrag-threshold-megabytes", VALUE, NO_BBOLT),
    ignored("experimental-stop-grpc-service-on-defrag", BOOL, NO_BBOLT),
    ignored("experimental-txn-mode-write-with-shared-buffer", BOOL, NO_BBOLT),
    warned("memory-mlock", BOOL, OFF, NOT_LOCKED),
    warned("experimental-memory-mlock", BOOL, OFF, NOT_LOCKED),
    warned("unsafe-no-fsync", BOOL, OFF, SYNCED),

    ignored("initial-election-tick-advance", BOOL, ALWAYS_ON),
    warned("pre-vote", BOOL, ON, ALWAYS_ON),
    warned("strict-reconfig-check", BOOL, ON, ALWAYS_ON),
    refused("max-learners", VALUE, &["1"], ONE_LEARNER),
    ignored("raft-read-timeout", VALUE, CONNECTIONS),
    ignored("raft-write-timeout", VALUE, CONNECTIONS),
    ignored("grpc-keepalive-min-time", VALUE, CONNECTIONS),
    ignored("grpc-keepalive-interval", VALUE, CONNECTIONS),
    ignored("grpc-keepalive-timeout", VALUE, CONNECTIONS),
    refused("socket-reuse-port", BOOL, OFF, ONE_PROCESS),
    ignored("socket-reuse-address", BOOL, ALWAYS_ON),
    refused("enable-grpc-gateway", BOOL, ON, GATEWAY),
    refused("listen-client-http-urls", VALUE, UNSET, SAME_PORT),

    refused("discovery", VALUE, UNSET, NO_DISCOVERY),
    refused("discovery-srv", VALUE, UNSET, NO_DISCOVERY),
    refused("discovery-endpoints", VALUE, UNSET, NO_DISCOVERY),
    refused("discovery-token", VALUE, UNSET, NO_DISCOVERY),
    ignored("discovery-fallback", VALUE, OF_DISCOVERY),
    ignored("discovery-proxy", VALUE, OF_DISCOVERY),
    ignored("discovery-srv-name", VALUE, OF_DISCOVERY),
    ignored("discovery-dial-timeout", VALUE, OF_DISCOVERY),
    ignored("discovery-request-timeout", VALUE, OF_DISCOVERY),
    ignored("discovery-keepalive-time", VALUE, OF_DISCOVERY),
    ignored("discovery-keepalive-timeout", VALUE, OF_DISCOVERY),
    ignored("discovery-insecure-transport", BOOL, OF_DISCOVERY),
    ignored("discovery-insecure-skip-tls-verify", BOOL, OF_DISCOVERY),
    ignored("discovery-cert", VALUE, OF_DISCOVERY),
    ignored("discovery-key", VALUE, OF_DISCOVERY),
    ignored("discovery-cacert", VALUE, OF_DISCOVERY),
    ignored("discovery-user", VALUE, OF_DISCOVERY),
    ignored("discovery-password", VALUE, OF_DISCOVERY),

    refused("enable-v2", BOOL, OFF, NO_V2),
    refused("experimental-enable-v2v3", VALUE, UNSET, NO_V2),
    refused("proxy", VALUE, &["", "off"], NO_PROXY),
    ignored("proxy-failure-wait", VALUE, OF_PROXY),
    ignored("proxy-refresh-interval", VALUE, OF_PROXY),
    ignored("proxy-dial-timeout", VALUE, OF_PROXY),
    ignored("proxy-write-timeout", VALUE, OF_PROXY),
    ignored("proxy-read-timeout", VALUE, OF_PROXY),
    ignored("v2-deprecation", VALUE, ONE_FORMAT),
    ignored("next-cluster-version-compatible", BOOL, ONE_FORMAT),
    ignored("downgrade-check-time", VALUE, ONE_FORMAT),
    ignored("experimental-downgrade-check-time", VALUE, ONE_FORMAT),

    ignored("client-cert-file", VALUE, NO_CALLS),
    ignored("client-key-file", VALUE, NO_CALLS),
    refused("client-crl-file", VALUE, UNSET, NO_LISTS),
    refused("peer-crl-file", VALUE, UNSET, NO_LISTS),
    refused("client-cert-allowed-hostname", VALUE, UNSET, OWN_CA),
    refused("peer-cert-allowed-cn", VALUE, UNSET, OWN_PEER_CA),
    refused("peer-cert-allowed-hostname", VALUE, UNSET, OWN_PEER_CA),
    refused("auto-tls", BOOL, OFF, NO_AUTO_TLS),
    refused("peer-auto-tls", BOOL, OFF, NO_PEER_AUTO_TLS),
    ignored("self-signed-cert-validity", VALUE, OF_AUTO_TLS),
    refused("peer-client-cert-file", VALUE, UNSET, ONE_IDENTITY),
    refused("peer-client-key-file", VALUE, UNSET, ONE_IDENTITY),
    ignored("peer-skip-client-san-verification", BOOL, NO_NAMES),
    ignored("experimental-peer-skip-client-san-verification", BOOL, NO_NAMES),
    Row { also_usual: Some(holds_all_suites), ..refused("cipher-suites", VALUE, UNSET, CIPHERS) },
    refused("tls-min-version", VALUE, &["", "TLS1.2"], TLS_VERSIONS),
    refused("tls-max-version", VALUE, &["", "TLS1.3"], TLS_VERSIONS),
    refused("cors", VALUE, &["", "*"], NO_CORS),
    refused("host-whitelist", VALUE, &["", "*"], ANY_HOST),
    refused("auth-token", VALUE, &["", "simple"], NO_USERS),
    ignored("auth-token-ttl", VALUE, OF_USERS),
    ignored("bcrypt-cost", VALUE, OF_USERS),

    warned("enable-pprof", BOOL, OFF, NO_PPROF),
    ignored("metrics", VALUE, ALL_METRICS),
    warned("log-outputs", VALUE, STDERR, TO_STDERR),
    warned("log-output", VALUE, STDERR, TO_STDERR),
    warned("enable-log-rotation", BOOL, OFF, TO_STDERR),
    ignored("log-rotation-config-json", VALUE, TO_STDERR),
    ignored("logger", VALUE, NO_ZAP),
    warned("debug", BOOL, OFF, LOG_LEVEL),
    warned("log-package-levels", VALUE, UNSET, LOG_LEVEL),
    ignored("warning-apply-duration", VALUE, IN_METRICS),
    ignored("experimental-warning-apply-duration", VALUE, IN_METRICS),
    ignored("warning-unary-request-duration", VALUE, IN_METRICS),
    ignored("experimental-warning-unary-request-duration", VALUE, IN_METRICS),
    refused("enable-distributed-tracing", BOOL, OFF, NO_TRACES),
    refused("experimental-enable-distributed-tracing", BOOL, OFF, NO_TRACES),
    ignored("distributed-tracing-address", VALUE, OF_TRACES),
    ignored("experimental-distributed-tracing-address", VALUE, OF_TRACES),
    ignored("distributed-tracing-service-name", VALUE, OF_TRACES),
    ignored("experimental-distributed-tracing-service-name", VALUE, OF_TRACES),
    ignored("distributed-tracing-instance-id", VALUE, OF_TRACES),
    ignored("experimental-distributed-tracing-instance-id", VALUE, OF_TRACES),
    ignored("distributed-tracing-sampling-rate", VALUE, OF_TRACES),
    ignored("experimental-distributed-tracing-sampling-rate", VALUE, OF_TRACES),
    warned("experimental-compact-hash-check-enabled", BOOL, OFF, COMPARED),
    ignored("compact-hash-check-time", VALUE, COMPARED),
    ignored("experimental-compact-hash-check-time", VALUE, COMPARED),
    warned("experimental-enable-lease-checkpoint", BOOL, OFF, FULL_TIME),
    warned("experimental-enable-lease-checkpoint-persist", BOOL, OFF, FULL_TIME),
];

/// All suites that TLS 1.2 has here, by Go's names.
const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
];

/// Whether a list allows all that is used: then it changes nothing. Go knows ChaCha20's suites by two names.
fn holds_all_suites(list: &str) -> bool {
    let listed = |suite: &&str| {
        let mut listed = list.split(',').map(str::trim);
        listed.any(|named| {
            named.strip_suffix("POLY1305_SHA256").map_or_else(
                || named == *suite,
                |stem| suite.strip_suffix("POLY1305") == Some(stem),
            )
        })
    };
    SUITES.iter().all(listed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_asks_for_nothing_is_never_refused() {
        let check = |name: &str, value: &str, expect: Option<Then>| {
            let row = find(name).expect("a row");
            assert_eq!(row.judge(value), expect, "--{name}={value}");
        };
        check("snapshot-count", "10000", Some(Then::Ignored));
        check("pre-vote", "true", None);
        check("pre-vote", "false", Some(Then::Warned));
        check("discovery", "", None);
        check("discovery", "https://x", Some(Then::Refused));
        check("proxy", "off", None);
        check("proxy", "on", Some(Then::Refused));
        check("auth-token", "jwt,sign-method=RS256", Some(Then::Refused));
        let all = SUITES.join(",");
        check("cipher-suites", "", None);
        check("cipher-suites", &all, None);
        check(
            "cipher-suites",
            &all.replace("POLY1305", "POLY1305_SHA256"),
            None,
        );
        check(
            "cipher-suites",
            &all.replace("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "x"),
            Some(Then::Refused),
        );
    }

    #[test]
    fn no_flag_has_two_meanings() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    /// The rows as the page shows them: flags that have all but their names in common share a line.
    fn table() -> String {
        let mut lines: Vec<(String, String)> = Vec::new();
        for row in ROWS {
            let values: Vec<_> = row.usual.iter().map(|value| format!("`{value}`")).collect();
            let values = values.join(", ").replace("``", "unset");
            let fate = match (row.then, values.is_empty()) {
                (Then::Ignored, _) => "ignored".to_owned(),
                (Then::Warned, _) => format!("ignored with a warning, but for {values}"),
                (Then::Refused, _) => format!("refused, but for {values}"),
            };
            let rest = format!("{fate} | {}", row.why);
            match lines.iter_mut().find(|(_, known)| *known == rest) {
                Some((names, _)) => *names += &format!(", --{}", row.name),
                None => lines.push((format!("--{}", row.name), rest)),
            }
        }
        let lines = lines.iter();
        lines
            .map(|(names, rest)| format!("| {names} | {rest} |\n"))
            .collect()
    }

    #[test]
    fn the_page_shows_this_table() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/etcd-differences.md");
        let page = std::fs::read_to_string(page).unwrap();
        let shown = page.lines().filter(|line| line.starts_with("| --"));
        let shown: String = shown.map(|line| format!("{line}\n")).collect();
        let wanted = table();
        assert_eq!(
            shown, wanted,
            "the rows of docs/etcd-differences.md should be:\n{wanted}"
        );
    }
}
