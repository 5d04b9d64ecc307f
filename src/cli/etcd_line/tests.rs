//! What becomes of command lines, variables and files.

use clap::CommandFactory;

use super::*;

fn known() -> KnownFlags {
    let command = crate::cli::Cli::command();
    KnownFlags::of(command.find_subcommand("store").unwrap())
}

/// What clap is given, or the error; then what is said.
fn heard(arguments: &[&str], environment: &[(&str, &str)]) -> (String, Heard) {
    let known = known();
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let arguments = arguments.iter().map(OsString::from);
    match Line::read(&known, arguments, environment) {
        Ok(line) => {
            let arguments = line.arguments(&known);
            let text: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
            (text.join(" "), line.heard)
        }
        Err(error) => (format!("{error:#}"), Heard::default()),
    }
}

#[test]
fn flags_are_read_as_go_reads_them() {
    let check = |arguments: &[&str], expect: &str| {
        assert_eq!(heard(arguments, &[]).0, expect, "{arguments:?}");
    };
    check(&[], "");
    check(
        &["--name", "a", "--data-dir=d", "-listen-peer-urls", "p"],
        "--name=a --data-dir=d --listen-peer-urls=p",
    );
    check(
        &[
            "--client-cert-auth",
            "--peer-client-cert-auth=false",
            "-force-new-cluster=1",
        ],
        "--client-cert-auth=true --peer-client-cert-auth=false --force-new-cluster=1",
    );
    check(&["--quota-backend-bytes", "-1"], "--quota-backend-bytes=-1");
    check(
        &["--listen-client-urls=a", "--listen-client-urls=b,c"],
        "--listen-client-urls=b,c",
    );
    check(
        &["--experimental-watch-progress-notify-interval=5s"],
        "--watch-progress-notify-interval=5s",
    );
    check(&["--initial-cluster=", "--name=a"], "--name=a");
    check(&["--name"], "--name needs a value");
    check(&["--name=a", "-h"], "--name=a --help");
    check(&["-version"], "--version");
    check(&["-bogus=1", "--name=a"], "--bogus=1 --name=a");
    check(
        &["--name=a", "extra", "--wal-dir=x"],
        "--name=a extra --wal-dir=x",
    );
    check(&["--", "extra"], "-- extra");
}

#[test]
fn what_only_etcd_has_is_told_or_refused() {
    let (line, heard_of) = heard(
        &[
            "--snapshot-count=10000",
            "--name=a",
            "--pre-vote=t",
            "--strict-reconfig-check=F",
            "--wal-dir",
            "w",
            "-initial-election-tick-advance",
        ],
        &[("ETCD_MAX_WALS", "5")],
    );
    assert_eq!(line, "--name=a");
    assert_eq!(
        heard_of.ignored,
        [
            "--max-wals",
            "--snapshot-count",
            "--initial-election-tick-advance"
        ]
    );
    assert_eq!(heard_of.warnings.len(), 2, "{heard_of:?}");
    assert!(heard_of.warnings[0].starts_with("--strict-reconfig-check=false is ignored: "));
    assert!(heard_of.warnings[1].starts_with("--wal-dir=w is ignored: "));

    let check = |arguments: &[&str], environment: &[(&str, &str)], expect: &str| {
        let (said, _) = heard(arguments, environment);
        assert!(said.starts_with(expect), "{said}");
    };
    check(
        &["--discovery=https://x"],
        &[],
        "--discovery=https://x, from the command line, is refused: ",
    );
    check(
        &[],
        &[("ETCD_AUTO_TLS", "true")],
        "--auto-tls=true, from ETCD_AUTO_TLS, is refused: ",
    );
    check(
        &["--pre-vote=maybe"],
        &[],
        "--pre-vote, from the command line: \"maybe\" is neither true nor false",
    );
    check(&["--wal-dir"], &[], "--wal-dir needs a value");
    check(&["--auto-tls=false"], &[("ETCD_AUTO_TLS", "true")], "");
}

#[test]
fn variables_set_what_flags_leave_open() {
    let (line, heard) = heard(
        &["--name=flag"],
        &[
            ("ETCD_NAME", "variable"),
            ("ETCD_DATA_DIR", "d"),
            ("ETCD_INITIAL_CLUSTER", ""),
            ("ETCD_CLIENT_CERT_AUTH", "true"),
            ("ETCD_CONFIG", "not ours"),
            ("ETCD_PORT_2379_TCP", "tcp://192.0.2.1:2379"),
            ("ETCD_lower", "x"),
            ("ETCDCTL_API", "3"),
            ("PATH", "/bin"),
        ],
    );
    assert_eq!(line, "--client-cert-auth=true --data-dir=d --name=flag");
    assert_eq!(
        heard.warnings,
        [
            "ETCD_CONFIG is no variable of etcd's, and ignored",
            "ETCD_PORT_2379_TCP is no variable of etcd's, and ignored",
            "ETCD_lower is no variable of etcd's, and ignored",
            "--name counts, ETCD_NAME does not",
        ]
    );
    assert_eq!(heard.ignored, [""; 0]);
}

#[test]
fn a_file_of_etcds_counts_alone_and_one_of_ours_counts_least() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = path.display().to_string();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("name: file\nwatch-progress-notify-interval: 5000000000\nmax-wals: 5\n");

    let (line, heard_of) = heard(&["--config-file", &file], &[]);
    assert_eq!(
        line,
        "--name=file --watch-progress-notify-interval=5000000000ns"
    );
    assert_eq!(heard_of.ignored, ["--max-wals"]);
    assert_eq!(heard_of.warnings, [""; 0]);

    let environment = [("ETCD_CONFIG_FILE", file.as_str()), ("ETCD_DATA_DIR", "d")];
    let (line, heard_of) = heard(&["--name=flag"], &environment);
    assert!(line.starts_with("--name=file --watch"), "{line}");
    let warning =
        format!("only the configuration file {file} counts; ignored: --name, ETCD_DATA_DIR");
    assert_eq!(heard_of.warnings, [warning]);

    let environment = [("ETCD_DATA_DIR", "d"), ("ETCD_NAME", "variable")];
    let (line, _) = heard(&["--config", &file], &environment);
    let ours = format!(
        "--watch-progress-notify-interval=5000000000ns --data-dir=d --name=variable --config={file}"
    );
    assert_eq!(line, ours);

    let (said, _) = heard(&["--config", &file, "--config-file", &file], &[]);
    assert_eq!(said, "--config and --config-file exclude each other");

    write("name: file\nnothing: 1\n");
    let (line, heard_of) = heard(&["--config-file", &file], &[]);
    assert_eq!(line, "--name=file");
    assert_eq!(
        heard_of.warnings,
        [format!("{file}: nothing is not known, and ignored")]
    );
    let (said, _) = heard(&["--config", &file], &[]);
    assert_eq!(said, format!("{file}: nothing is no flag of xebec store"));

    write("client-transport-security: {auto-tls: true}");
    let (said, _) = heard(&["--config-file", &file], &[]);
    assert!(
        said.starts_with(&format!("--auto-tls=true, from {file}, is refused: ")),
        "{said}"
    );
    let (said, _) = heard(&["--config-file", "absent"], &[]);
    assert!(
        said.starts_with("cannot read the configuration file absent"),
        "{said}"
    );
}
