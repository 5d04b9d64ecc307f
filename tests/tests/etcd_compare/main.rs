//! The same calls to etcd 3.4, etcd 3.5 and `xebec store`, answers compared field by field and error by error.
//!
//! A case is one function and one row in its file's list under `cases/`. What differs must be listed, with a reason, in
//! `docs/etcd-differences.md`; a listed difference that is no longer there fails as well, and so does any answer to it but the
//! one that `answers/` holds.

mod answers;
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

use answers::Answers;
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

/// What `xebec store` answered in a case, and where each etcd that answered otherwise parts from it.
struct Compared {
    ours: Vec<String>,
    different: Vec<(Program, String)>,
}

/// Runs one case on every store.
async fn compare(case: &Case, stores: &[StoreProcess]) -> Result<Compared> {
    let run = async |store: &StoreProcess| {
        let traced = trace(case, store.port()).await;
        traced.with_context(|| store.log())
    };
    let mut traces = futures::future::try_join_all(stores.iter().map(run)).await?;
    let ours = traces.remove(0);
    let theirs = PROGRAMS[1..].iter().zip(traces);
    let different = theirs
        .filter(|(_, theirs)| *theirs != ours)
        .map(|(program, theirs)| (*program, session::first_difference(&ours, &theirs)))
        .collect();
    Ok(Compared { ours, different })
}

/// What to complain of in a case that was gone through by all.
fn judge(
    case: &str,
    compared: &Compared,
    differences: &mut Differences,
    answers: &mut Answers,
) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut any_listed = false;
    for program in &PROGRAMS[1..] {
        let mut different = compared.different.iter();
        let found = different.find(|(found, _)| found == program);
        let listed = differences.take(case, program.name());
        any_listed |= listed;
        match (found, listed) {
            (Some((_, found)), false) => findings.push(format!(
                "{case} differs from etcd {}:\n{found}",
                program.name()
            )),
            (None, true) => findings.push(format!(
                "{case} no longer differs from etcd {}: remove it from the list",
                program.name()
            )),
            _ => {}
        }
    }
    if any_listed {
        findings.extend(answers.check(case, &compared.ours)?);
    }
    Ok(findings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_etcd() -> Result<()> {
    let only = std::env::var("XEBEC_COMPARE").unwrap_or_default();
    let mut differences = Differences::read()?;
    let mut answers = Answers::of("alone")?;
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
        let compared = compare(case, &stores).await?;
        let found = judge(case.name, &compared, &mut differences, &mut answers)?;
        findings.extend(found);
    }
    for case in cases::PROMISES {
        println!("{}", case.name);
        let broken = trace(case, stores[0].port()).await?;
        let broken = broken.into_iter().filter(|line| line.starts_with(ENDED));
        findings.extend(broken.map(|line| format!("{}: {line}", case.name)));
    }
    if only.is_empty() {
        findings.extend(differences.unknown(false));
        findings.extend(answers.unknown());
    }
    ensure!(count > 0, "no case is called {only:?}");
    ensure!(findings.is_empty(), "\n{}", findings.join("\n\n"));
    println!("{count} cases");
    Ok(())
}
