//! Faults as effects: a schedule is carried out on a cluster, and undone.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use xebec_proto::etcdserverpb as pb;

use super::links::Links;
use super::{Kind, Step, Strike, Target};
use crate::cluster::{Cluster, Drop, ask, set_clock, set_delay};
use crate::observe::{Note, Observed};
use crate::random::Random;

/// How long [`Kind::SlowFsync`] delays each, milliseconds.
const DELAYS_MS: [u64; 3] = [50, 200, 1000];
/// How far [`Kind::Clock`] sets a clock wrong, seconds: certificates and leases must not mind.
const CLOCK_SECONDS: [i64; 5] = [-60, -3, 3, 60, 3600];
/// Between the changes of a flapping link.
const FLAP_EVERY: Duration = Duration::from_millis(700);
/// How long a member may take to come back before the run goes on without it.
const BACK_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to end on SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// What a fault needs of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    pub links: bool,
    pub slow_fsync: bool,
    pub clock_offset: bool,
    pub small_disk: bool,
    pub delay: bool,
}

impl Kind {
    /// Why it cannot be done on this machine.
    pub fn missing(self, has: Needs) -> Option<&'static str> {
        let (there, what) = match self {
            Self::Isolate
            | Self::CutOff
            | Self::OneWay
            | Self::Bridge
            | Self::Flap
            | Self::Loss => (has.links, "needs network namespaces (root)"),
            Self::Delay => (has.delay, "needs a kernel with netem"),
            Self::SlowFsync => (
                has.slow_fsync,
                "needs the library slow-fsync beside this program (cargo build -p slow-fsync)",
            ),
            Self::Clock => (
                has.clock_offset,
                "needs the library clock-offset beside this program (cargo build -p clock-offset)",
            ),
            Self::FullDisk => (has.small_disk, "needs to mount small disks (root)"),
            _ => (true, ""),
        };
        (!there).then_some(what)
    }
}

pub struct Nemesis {
    pub observed: Rc<RefCell<Observed>>,
    pub start: Instant,
}

impl Nemesis {
    /// Carries the schedule out. What takes longer than planned moves what comes after it, and what would then end after
    /// `length` is left.
    pub async fn run(&self, cluster: &mut Cluster, steps: &[Step], length: Duration) -> Result<()> {
        let mut late = Duration::ZERO;
        for step in steps {
            let begin = self.start + step.at + late;
            let until = begin + step.lasts;
            if until > self.start + length {
                break;
            }
            sleep_until(begin).await;
            let text = self.step(cluster, step, until).await?;
            let note = Note {
                from: begin - self.start,
                to: self.start.elapsed(),
                text,
            };
            println!("{:6.1} s: {}", note.from.as_secs_f64(), note.text);
            self.observed.borrow_mut().notes.push(note);
            late += Instant::now().saturating_duration_since(until);
        }
        Ok(())
    }

    /// What it did to whom.
    async fn step(&self, cluster: &mut Cluster, step: &Step, until: Instant) -> Result<String> {
        let mut texts = Vec::new();
        let mut drops = vec![Vec::new(); cluster.members.len()];
        for strike in &step.strikes {
            let targets = self.targets(cluster, strike);
            texts.push(format!("{} {} {targets:?}", strike.kind, strike.target));
            let struck = self.strike(cluster, strike, &targets, until, &mut drops);
            struck.await.with_context(|| texts.join(", "))?;
        }
        sleep_until(until).await;
        heal(cluster).await?;
        Ok(texts.join(", "))
    }

    fn targets(&self, cluster: &Cluster, strike: &Strike) -> Vec<usize> {
        let count = cluster.members.len();
        let mut random = Random::new(strike.random);
        let leader = self
            .observed
            .borrow()
            .leader
            .unwrap_or_else(|| random.index(count));
        let mut others: Vec<usize> = (0..count).filter(|number| *number != leader).collect();
        random.shuffle(&mut others);
        match strike.target {
            Target::Leader => vec![leader],
            Target::Follower => vec![others.first().copied().unwrap_or(leader)],
            Target::Random => vec![random.index(count)],
            Target::Majority => {
                let others = others.into_iter().take(count / 2);
                std::iter::once(leader).chain(others).collect()
            }
        }
    }

    async fn strike(
        &self,
        cluster: &mut Cluster,
        strike: &Strike,
        targets: &[usize],
        until: Instant,
        drops: &mut [Vec<Drop>],
    ) -> Result<()> {
        let random = Random::new(strike.random);
        match strike.kind {
            Kind::Kill => kill(cluster, targets).await,
            Kind::All => kill(cluster, &(0..cluster.members.len()).collect::<Vec<_>>()).await,
            Kind::Pause => targets
                .iter()
                .try_for_each(|target| cluster.members[*target].signal(Signal::SIGSTOP)),
            Kind::SlowFsync => {
                let delay = *random.clone().pick(&DELAYS_MS);
                targets
                    .iter()
                    .try_for_each(|target| set_delay(&cluster.members[*target], delay))
            }
            Kind::Clock => {
                let offset = *random.clone().pick(&CLOCK_SECONDS);
                targets
                    .iter()
                    .try_for_each(|target| set_clock(&cluster.members[*target], offset))
            }
            Kind::FullDisk => targets.iter().try_for_each(|target| fill(cluster, *target)),
            Kind::Members => replace(cluster, targets[0]).await,
            Kind::RollingRestart => rolling_restart(cluster).await,
            Kind::Flap => flap(cluster, targets, until, drops).await,
            Kind::Isolate | Kind::CutOff | Kind::OneWay | Kind::Bridge | Kind::Loss => {
                cut(cluster, strike.kind, targets, drops)
            }
            Kind::Delay => targets
                .iter()
                .try_for_each(|target| cluster.network.set_delay(*target, true)),
        }
    }
}

async fn kill(cluster: &mut Cluster, targets: &[usize]) -> Result<()> {
    for target in targets {
        cluster.members[*target].kill().await?;
    }
    Ok(())
}

/// Adds to the drops that other faults of the same step have set.
fn cut(cluster: &Cluster, kind: Kind, targets: &[usize], drops: &mut [Vec<Drop>]) -> Result<()> {
    let links = Links {
        hosts: (0..cluster.members.len())
            .map(|number| cluster.address(number))
            .collect(),
        clients: cluster.network.gateway(),
    };
    for (host, more) in links.drops(kind, targets).into_iter().enumerate() {
        drops[host].extend(more);
        cluster.network.set_drops(host, &drops[host])?;
    }
    Ok(())
}

async fn flap(
    cluster: &Cluster,
    targets: &[usize],
    until: Instant,
    drops: &mut [Vec<Drop>],
) -> Result<()> {
    let steady: Vec<Vec<Drop>> = drops.to_vec();
    while Instant::now() < until {
        cut(cluster, Kind::Flap, targets, drops)?;
        sleep(FLAP_EVERY).await;
        drops.clone_from_slice(&steady);
        for (host, drops) in steady.iter().enumerate() {
            cluster.network.set_drops(host, drops)?;
        }
        sleep(FLAP_EVERY).await;
    }
    Ok(())
}

/// A busy cluster may refuse a change of members; then this was no fault.
async fn replace(cluster: &mut Cluster, target: usize) -> Result<()> {
    if let Err(error) = cluster.replace(target).await {
        println!("        the member was not replaced: {error:#}");
        if !cluster.members[target].runs()? {
            cluster.start_member(target)?;
        }
    }
    // Until it is back, another loss would be that of the majority.
    cluster.await_answer(target, BACK_LIMIT).await
}

async fn rolling_restart(cluster: &mut Cluster) -> Result<()> {
    for number in 0..cluster.members.len() {
        cluster.members[number].signal(Signal::SIGTERM)?;
        if timeout(STOP_LIMIT, cluster.members[number].ended())
            .await
            .is_err()
        {
            cluster.members[number].kill().await?;
        }
        cluster.members[number].upgraded = true;
        cluster.start_member(number)?;
        cluster.await_answer(number, BACK_LIMIT).await?;
    }
    Ok(())
}

/// Where the file that fills a disk lies.
fn filler(cluster: &Cluster, number: usize) -> std::path::PathBuf {
    cluster.members[number].folder.join("data").join("filler")
}

fn fill(cluster: &Cluster, number: usize) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(filler(cluster, number))?;
    let block = vec![0; 1 << 20];
    while file.write_all(&block).is_ok() {}
    Ok(())
}

/// Undoes all faults: every member runs, hears the others, and has its disk.
pub async fn heal(cluster: &mut Cluster) -> Result<()> {
    let mut was_full = false;
    for number in 0..cluster.members.len() {
        if cluster.network.has_links() {
            cluster.network.set_drops(number, &[])?;
            cluster.network.set_delay(number, false)?;
        }
        cluster.members[number].signal(Signal::SIGCONT)?;
        if cluster.members[number].delay_file().exists() {
            set_delay(&cluster.members[number], 0)?;
        }
        if cluster.members[number].clock_file().exists() {
            set_clock(&cluster.members[number], 0)?;
        }
        if std::fs::remove_file(filler(cluster, number)).is_ok() {
            was_full = true;
        }
        if !cluster.members[number].runs()? {
            cluster.start_member(number)?;
        }
    }
    if was_full {
        disarm(cluster).await;
    }
    Ok(())
}

/// Takes the alarms back, as whoever made space would; members may be busy coming back, so any that can does it.
async fn disarm(cluster: &mut Cluster) {
    let request = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate.into(),
        member_id: 0,
        alarm: pb::AlarmType::Nospace.into(),
    };
    for url in cluster.urls() {
        let _ = ask::<pb::AlarmResponse>(&url, "Maintenance/Alarm", &request).await;
    }
}
