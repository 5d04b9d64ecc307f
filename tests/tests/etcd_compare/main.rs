//! The same calls to etcd 3.4, etcd 3.5 and `xebec store`, answers compared field by field and error by error.
//!
//! A case is one function and one row in its file's list under `cases/`. What differs must be listed, with a reason, in
//! `docs/etcd-differences.md`; a listed difference that is no longer there fails as well.

mod cases;
mod differences;
mod http;
mod semantics;
mod session;
mod streams;
mod three;
mod watching;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Program, StoreProcess};

use differences::Differences;
use session::{Case, Session};

const PROGRAMS: [Program; 3] = [Program::Xebec, Program::Etcd34, Program::Etcd35];
/// Small limits, so that they are cheap to reach; the same flags for all.
const FLAGS: &[&str] = &[
    "--max-txn-ops=128",
    "--max-request-bytes=1572864",
    "--experimental-watch-progress-notify-interval=500ms",
];
/// How long a case may take on a busy machine.
const CASE_LIMIT: Duration = Duration::from_secs(40);

/// What a trace ends with that was not gone through.
const ENDED: &str = "the case ended";

/// What a store at a port answers in a case.
async fn trace(case: &Case, port: u16) -> Result<Vec<String>> {
    let mut session = Session::open(port, case.name).await?;
    let ended = tokio::time::timeout(CASE_LIMIT, (case.run)(&mut session)).await;
    let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("after {CASE_LIMIT:?}")));
    let mut lines = session.into_lines();
    // An answer that the case did not expect is a difference like any other.
    lines.extend(ended.err().map(|error| format!("{ENDED}: {error:#}")));
    ensure!(
        !lines.is_empty(),
        "{}: the case compares nothing",
        case.name
    );
    Ok(lines)
}

/// Runs one case on every store and returns what differs from `xebec store`, per etcd.
async fn compare(case: &Case, stores: &[StoreProcess]) -> Result<Vec<(Program, String)>> {
    let run = async |store: &StoreProcess| {
        let traced = trace(case, store.port()).await;
        traced.with_context(|| store.log())
    };
    let traces = futures::future::try_join_all(stores.iter().map(run)).await?;
    let (ours, theirs) = traces.split_first().expect("there are stores");
    let different = PROGRAMS[1..].iter().zip(theirs);
    Ok(different
        .filter(|(_, theirs)| *theirs != ours)
        .map(|(program, theirs)| (*program, session::first_difference(ours, theirs)))
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_etcd() -> Result<()> {
    let only = std::env::var("XEBEC_COMPARE").unwrap_or_default();
    let mut differences = Differences::read()?;
    let mut findings = Vec::new();
    let mut stores = Vec::new();
    for program in PROGRAMS {
        stores.push(StoreProcess::start(program, FLAGS)?);
    }
    let mut count = 0;
    for case in cases::all().filter(|case| case.name.contains(&only)) {
        count += 1;
        println!("{}", case.name);
        // Some requests make an etcd panic, which then is a difference.
        stores.iter_mut().try_for_each(StoreProcess::revive)?;
        let different = compare(case, &stores).await?;
        for program in &PROGRAMS[1..] {
            let found = different.iter().find(|(found, _)| found == program);
            let listed = differences.take(case.name, program.name());
            match (found, listed) {
                (Some((_, found)), false) => findings.push(format!(
                    "{} differs from etcd {}:\n{found}",
                    case.name,
                    program.name()
                )),
                (None, true) => findings.push(format!(
                    "{} no longer differs from etcd {}: remove it from the list",
                    case.name,
                    program.name()
                )),
                _ => {}
            }
        }
    }
    for case in cases::PROMISES {
        println!("{}", case.name);
        let broken = trace(case, stores[0].port()).await?;
        let broken = broken.into_iter().filter(|line| line.starts_with(ENDED));
        findings.extend(broken.map(|line| format!("{}: {line}", case.name)));
    }
    if only.is_empty() {
        findings.extend(differences.unknown(false));
    }
    ensure!(count > 0, "no case is called {only:?}");
    ensure!(findings.is_empty(), "\n{}", findings.join("\n\n"));
    println!("{count} cases");
    Ok(())
}
