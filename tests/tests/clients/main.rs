//! Clients that others wrote for etcd, unchanged, against `xebec store`: the Rust crate `etcd-client`, Python's `etcd3`, and
//! Patroni's client of etcd, which speaks to the JSON gateway. `scripts/setup-tests.sh` installs Python's.

mod rust;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::{Program, StoreProcess, contains, python_clients, repository, run};

/// Runs a script of this folder with the clients in one of the installed folders; what it says ends with `last`.
fn python(clients: &str, script: &str, last: &str) -> Result<()> {
    let store = StoreProcess::start(Program::Xebec, &[])?;
    let script = repository().join("tests/tests/clients").join(script);
    let mut python = Command::new("python3");
    python
        .env("PYTHONPATH", python_clients(clients)?)
        // The sources' folder stays as it is.
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(&script)
        .arg(format!("127.0.0.1:{}", store.port()));
    let output = run(&mut python, "")?;
    println!("{}{}", output.stdout, output.stderr);
    ensure!(output.success, "{} ended with an error", script.display());
    contains(&output.stdout, last).with_context(|| store.log())
}

#[test]
fn etcd3_of_python() -> Result<()> {
    python("etcd3", "etcd3_client.py", "etcd3: a snapshot")
}

#[test]
fn patroni() -> Result<()> {
    python("patroni", "patroni_dcs.py", "patroni: nothing is left")
}
