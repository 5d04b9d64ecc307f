//! The same cases with three members of etcd 3.5 and of `xebec store`: asked through followers, and those that change who
//! is a member.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Program, StoreCluster, eventually_async};
use xebec_proto::etcdserverpb as pb;

use crate::answers::Answers;
use crate::differences::{Differences, OF_THREE};
use crate::session::{self, Case, Session};
use crate::{CASE_LIMIT, ENDED, FLAGS, cases, trace};

const LIMIT: Duration = Duration::from_secs(60);
/// The member that is made to lead.
const LEADER: usize = 0;
/// Cases after which the member that was asked is gone: removed, or an etcd that has panicked.
const FATAL: &[&str] = &[
    "cluster::remove_the_only_member",
    "range::unknown_sort",
    "txn::bad_operations",
];
/// A case that an election fell into is gone through again, so many times at most.
const TRIES: usize = 3;

/// A case that may end, start and remove members.
pub struct MembersCase {
    pub name: &'static str,
    pub run: for<'a> fn(
        &'a mut Session,
        &'a mut StoreCluster,
    ) -> futures::future::BoxFuture<'a, Result<()>>,
}

async fn status(cluster: &StoreCluster, at: usize) -> Result<pb::StatusResponse> {
    let session = Session::at(cluster.port(at)).await?;
    let status = session.maintenance().status(pb::StatusRequest {}).await?;
    Ok(status.into_inner())
}

/// Has the first member lead; the term it does so in.
pub async fn lead(cluster: &StoreCluster) -> Result<u64> {
    eventually_async("the first member leads", LIMIT, async || {
        let own = status(cluster, LEADER).await?;
        let target_id = own.header.context("a header")?.member_id;
        if own.leader == target_id {
            return Ok(own.raft_term);
        }
        for at in 0..cluster.members.len() {
            // Only the leader does it; some are gone.
            if let Ok(session) = Session::at(cluster.port(at)).await {
                let request = pb::MoveLeaderRequest { target_id };
                let _ = session.maintenance().move_leader(request).await;
            }
        }
        anyhow::bail!("another leads")
    })
    .await
}

/// Waits until etcd takes changes of members: it wants all connected for some seconds first.
pub async fn healthy(session: &Session) -> Result<()> {
    let list = pb::MemberListRequest::default();
    let members = session.cluster().member_list(list).await?.into_inner();
    let known = members.members.first().context("a member")?;
    eventually_async("members may be changed", LIMIT, async || {
        let request = pb::MemberAddRequest {
            peer_ur_ls: known.peer_ur_ls.clone(),
            is_learner: false,
        };
        let refused = session.cluster().member_add(request).await;
        let refused = refused.err().context("a known URL was taken")?;
        ensure!(refused.message().contains("already exists"), "{refused}");
        Ok(())
    })
    .await
}

/// One case at a follower of each; again if an election came between.
async fn at_followers(
    case: &Case,
    clusters: &[StoreCluster],
    at: usize,
) -> Result<Vec<Vec<String>>> {
    for _ in 0..TRIES {
        let terms = futures::future::try_join_all(clusters.iter().map(lead)).await?;
        let traces = clusters.iter().map(|cluster| trace(case, cluster.port(at)));
        let traces = futures::future::try_join_all(traces).await?;
        let after = futures::future::try_join_all(clusters.iter().map(lead)).await?;
        if terms == after || traces.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(traces);
        }
    }
    anyhow::bail!("{}: members elect all the time", case.name)
}

/// All that change the members, one after the other, on one cluster.
async fn changes(program: Program) -> Result<Vec<Vec<String>>> {
    let mut cluster = StoreCluster::found_of(program, FLAGS)?;
    let mut traces = Vec::new();
    for case in cases::MEMBERS {
        if cluster.members[LEADER].process.is_some() {
            lead(&cluster).await?;
        }
        let mut session = Session::open(cluster.port(1), case.name).await?;
        healthy(&session).await?;
        let ended = tokio::time::timeout(CASE_LIMIT, (case.run)(&mut session, &mut cluster)).await;
        let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("after {CASE_LIMIT:?}")));
        let mut lines = session.into_lines();
        let failed = ended.is_err();
        lines.extend(ended.err().map(|error| format!("{ENDED}: {error:#}")));
        traces.push(lines);
        if failed {
            // What follows builds on it.
            break;
        }
    }
    Ok(traces)
}

/// What to complain of when a case was gone through by both.
fn judge(
    case: &str,
    traces: [&[String]; 2],
    differences: &mut Differences,
    answers: &mut Answers,
) -> Result<Vec<String>> {
    let [ours, theirs] = traces;
    let etcd = format!("{}{OF_THREE}", Program::Etcd35.name());
    let mut findings = Vec::new();
    // What one member answers otherwise, three may.
    let with_one = differences.take(case, Program::Etcd35.name());
    let with_three = differences.take(case, &etcd);
    if with_one || with_three {
        findings.extend(answers.check(case, ours)?);
    }
    match (ours == theirs, with_three) {
        (false, false) if !with_one => findings.push(format!(
            "{case} differs from etcd {etcd}:\n{}",
            session::first_difference(ours, theirs)
        )),
        (true, true) => findings.push(format!(
            "{case} no longer differs from etcd {etcd}: remove it from the list"
        )),
        _ => {}
    }
    Ok(findings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_answer_as_those_of_etcd() -> Result<()> {
    let only = std::env::var("XEBEC_COMPARE").unwrap_or_default();
    let mut differences = Differences::read()?;
    let mut answers = Answers::of("followers")?;
    let mut findings = Vec::new();
    let clusters = [
        StoreCluster::found_of(Program::Xebec, FLAGS)?,
        StoreCluster::found_of(Program::Etcd35, FLAGS)?,
    ];
    let asked = cases::all().filter(|case| case.name.contains(&only));
    for (number, case) in asked.enumerate() {
        if FATAL.contains(&case.name) {
            continue;
        }
        println!("{}", case.name);
        let traces = at_followers(case, &clusters, 1 + number % 2).await?;
        let traces = [&*traces[0], &*traces[1]];
        let found = judge(case.name, traces, &mut differences, &mut answers)?;
        findings.extend(found);
    }
    if only.is_empty() {
        findings.extend(answers.unknown());
    }
    ensure!(findings.is_empty(), "\n{}", findings.join("\n\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_change_as_those_of_etcd() -> Result<()> {
    let mut differences = Differences::read()?;
    let mut answers = Answers::of("members")?;
    let mut findings = Vec::new();
    let ours = tokio::spawn(changes(Program::Xebec));
    let theirs = tokio::spawn(changes(Program::Etcd35));
    let (ours, theirs) = (ours.await??, theirs.await??);
    for (case, (ours, theirs)) in cases::MEMBERS.iter().zip(ours.iter().zip(&theirs)) {
        let traces = [&**ours, &**theirs];
        let found = judge(case.name, traces, &mut differences, &mut answers)?;
        findings.extend(found);
    }
    let gone_through = ours.len().min(theirs.len());
    if gone_through < cases::MEMBERS.len() && findings.is_empty() {
        findings.push(format!("only {gone_through} cases were gone through"));
    }
    findings.extend(differences.unknown(true));
    findings.extend(answers.unknown());
    ensure!(findings.is_empty(), "\n{}", findings.join("\n\n"));
    Ok(())
}
