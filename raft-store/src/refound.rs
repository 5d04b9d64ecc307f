//! Founding a cluster anew from old data, offline: from a snapshot file, or from what one surviving member has.
//!
//! Cluster and members get new ids, so that no member of the old cluster can join or be joined. Everything is built
//! aside and put in place by one rename: a crash leaves what was there before, or all of the new.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::OpenError;
use crate::data_dir::DataDir;
use crate::engine::Engine;
use crate::log::{LogStorage, Offline};
use crate::mvcc::alarm;
use crate::mvcc::apply::{Effects, Mvcc};
use crate::mvcc::engine::{EngineError, WriteSet};
use crate::raft::{
    LogId, MemberInfo, Membership, Payload, StoredMembership, load_applied, log_id, save_applied,
};
use crate::snapshot::{self, SnapshotError, Summary};
use crate::{SnapshotStatus, limits};

/// Why a cluster could not be founded anew.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("data-dir {:?} not empty or could not be read", .0)]
    DataDirInUse(PathBuf),
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NameNotInCluster(String),
    #[error(
        "--initial-cluster has {name}={found} but missing from --initial-advertise-peer-urls={advertised}"
    )]
    PeerUrlsDiffer {
        name: String,
        found: String,
        advertised: String,
    },
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the revision cannot be raised by {0}")]
    Bump(i64),
    #[error("{} holds no member of a store", .0.display())]
    NoMember(PathBuf),
}

impl From<EngineError> for RestoreError {
    fn from(error: EngineError) -> Self {
        RestoreError::Open(OpenError::State(error.to_string()))
    }
}

/// What [`restore`] makes of a snapshot; named as the flags of `etcdutl snapshot restore`.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Must be absent or empty.
    pub data_dir: PathBuf,
    pub name: String,
    /// Name → peer URLs of every member of the new cluster. Each restores the same snapshot with the same values.
    pub initial_cluster: BTreeMap<String, Vec<String>>,
    pub initial_cluster_token: String,
    pub initial_advertise_peer_urls: Vec<String>,
    /// The checksum at the end of the file may be absent or wrong.
    pub skip_hash_check: bool,
    /// Added to the revision, so that no client has seen a newer one.
    pub bump_revision: i64,
    /// Make the history unreadable, so that every watcher and cache starts over.
    pub mark_compacted: bool,
}

/// Reads a snapshot file through, checks it, and says what is in it.
pub fn snapshot_status(path: &Path) -> Result<SnapshotStatus, SnapshotError> {
    let summary = snapshot::verify(path, false)?;
    Ok(SnapshotStatus {
        hash: summary.hash,
        revision: summary.header.revision,
        total_key: summary.versions,
        total_size: summary.size,
        cluster_id: summary.header.cluster_id,
    })
}

/// Makes the data directory of one member of a new cluster from a snapshot file.
pub fn restore(path: &Path, options: &RestoreOptions) -> Result<(), RestoreError> {
    check_members(options)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    let data_dir = &options.data_dir;
    let in_use = match fs::read_dir(data_dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    };
    if in_use {
        return Err(RestoreError::DataDirInUse(data_dir.clone()));
    }
    let mut aside = data_dir.clone().into_os_string();
    aside.push(".restoring");
    let aside = PathBuf::from(aside);
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(failed(&aside))?;
    }
    // The file is looked through first: a damaged one leaves no trace.
    let summary = snapshot::verify(path, options.skip_hash_check)?;
    let ids = NewIds::of(options, &summary);
    let made = build(path, &aside, options, &ids);
    if let Err(error) = made {
        // What is left of it says by its name that it is unfinished.
        let _ = fs::remove_dir_all(&aside);
        return Err(error);
    }
    fs::rename(&aside, data_dir).map_err(failed(data_dir))?;
    let parent = data_dir.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(failed(parent))
}

fn check_members(options: &RestoreOptions) -> Result<(), RestoreError> {
    let Some(urls) = options.initial_cluster.get(&options.name) else {
        return Err(RestoreError::NameNotInCluster(options.name.clone()));
    };
    let sorted = |urls: &[String]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    if sorted(urls) != sorted(&options.initial_advertise_peer_urls) {
        return Err(RestoreError::PeerUrlsDiffer {
            name: options.name.clone(),
            found: urls.join(","),
            advertised: options.initial_advertise_peer_urls.join(","),
        });
    }
    if options.bump_revision < 0 {
        return Err(RestoreError::Bump(options.bump_revision));
    }
    Ok(())
}

/// The ids of the new cluster: the same for all who restore the same file with the same flags, and no others.
struct NewIds {
    cluster: u64,
    members: BTreeMap<String, u64>,
}

impl NewIds {
    fn of(options: &RestoreOptions, summary: &Summary) -> Self {
        let hash = |what: &str, parts: &[&[u8]]| {
            let mut sum = Sha256::new();
            for part in [what.as_bytes(), options.initial_cluster_token.as_bytes()]
                .iter()
                .chain(parts)
            {
                sum.update((part.len() as u64).to_le_bytes());
                sum.update(part);
            }
            let sum: [u8; 32] = sum.finalize().into();
            u64::from_le_bytes(sum[..8].try_into().expect("eight bytes")).max(1)
        };
        let old = summary.header.cluster_id.to_le_bytes();
        let state = summary.hash.to_le_bytes();
        let members = options.initial_cluster.iter().map(|(name, urls)| {
            let mut urls = urls.clone();
            urls.sort();
            let urls = urls.join(",");
            let id = hash("member", &[&old, &state, name.as_bytes(), urls.as_bytes()]);
            (name.clone(), id)
        });
        let members: BTreeMap<_, _> = members.collect();
        let ids: Vec<u8> = members.values().flat_map(|id| id.to_le_bytes()).collect();
        Self {
            cluster: hash("cluster", &[&old, &state, &ids]),
            members,
        }
    }
}

fn build(
    path: &Path,
    aside: &Path,
    options: &RestoreOptions,
    ids: &NewIds,
) -> Result<(), RestoreError> {
    let own = ids.members[&options.name];
    let data_dir = DataDir::open(aside, None, || (ids.cluster, own))?;
    let cache = limits::BLOCK_CACHE_BYTES;
    let (engine, summary) =
        snapshot::load(path, options.skip_hash_check, &data_dir.state(), cache)?;
    let members = options.initial_cluster.iter().map(|(name, urls)| {
        let info = MemberInfo {
            name: name.clone(),
            peer_urls: urls.clone(),
            ..Default::default()
        };
        (ids.members[name], info)
    });
    let applied = log_id(summary.header.term, summary.header.index);
    let mut mvcc = Mvcc::load(&engine)?;
    mvcc.horizon.revision = mvcc
        .horizon
        .revision
        .checked_add(options.bump_revision)
        .ok_or(RestoreError::Bump(options.bump_revision))?;
    if options.mark_compacted {
        mvcc.horizon.compacted = mvcc.horizon.revision;
    }
    let mut writes = WriteSet::default();
    mvcc.save(&mut writes);
    adopt_members(&engine, &mut writes, applied, members.collect())?;
    LogStorage::found(&data_dir.log(), own, applied)?;
    Ok(())
}

/// Gives the state the members of a new cluster, and makes it durable.
fn adopt_members(
    engine: &Engine,
    writes: &mut WriteSet,
    applied: LogId,
    members: BTreeMap<u64, MemberInfo>,
) -> Result<(), EngineError> {
    let voters = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], members)
        .map_err(|error| EngineError::Io(error.to_string()))?;
    save_applied(
        writes,
        applied,
        &StoredMembership::new(Some(applied), membership),
    );
    // They are of members that are no more.
    alarm::clear(engine, writes)?;
    engine.commit(writes)?;
    engine.flush()
}

/// Makes a surviving member's data a new cluster of one, with new ids. Everything that is in its log is kept, also
/// what it does not know to be committed: it may have been acknowledged. Whether there was anything to do; a member
/// that is alone already is left as it is.
pub fn force_new_cluster(path: &Path) -> Result<bool, RestoreError> {
    if !path.is_dir() {
        return Err(RestoreError::NoMember(path.to_owned()));
    }
    let data_dir =
        DataDir::open_existing(path)?.ok_or_else(|| RestoreError::NoMember(path.to_owned()))?;
    let failed = |source| RestoreError::Io {
        path: path.to_owned(),
        source,
    };
    let old = data_dir.identity.member_id;
    let engine = Engine::open(&data_dir.state(), limits::BLOCK_CACHE_BYTES)?;
    let mut log = LogStorage::open_offline(&data_dir.log(), old)?;
    let (applied, stored) = load_applied(&engine)?;
    let members = newest_membership(&mut log, applied, stored).map_err(failed)?;
    if members.nodes().map(|(id, _)| *id).eq([old]) {
        return Ok(false);
    }
    let info = members.get_node(&old).cloned().unwrap_or_default();
    let info = MemberInfo {
        becomes_voter: false,
        incarnation: 0,
        ..info
    };
    let next = data_dir.next_state().map_err(failed)?;
    engine.copy_to(&next)?;
    drop(engine);
    let engine = Engine::open(&next, limits::BLOCK_CACHE_BYTES)?;
    let last = replay(&engine, &mut log, applied).map_err(failed)?;
    let term = log.term().max(last.leader_id.term);
    drop(log);
    let mut random = rand::rng();
    let (cluster, member) = {
        use rand::Rng;
        (
            random.random_range(1..u64::MAX),
            random.random_range(1..u64::MAX),
        )
    };
    let mut writes = WriteSet::default();
    adopt_members(&engine, &mut writes, last, BTreeMap::from([(member, info)]))?;
    drop(engine);
    let vote = log_id(term, last.index);
    LogStorage::found(&data_dir.next_log().map_err(failed)?, member, vote)?;
    data_dir.adopt_identity(cluster, member).map_err(failed)?;
    tracing::warn!(
        cluster = format!("{cluster:x}"),
        member = format!("{member:x}"),
        revision_of_entry = last.index,
        "made a new cluster of one from this member's data; members of the old one cannot join it"
    );
    Ok(true)
}

/// The members as the newest entry has them, committed or not.
fn newest_membership(
    log: &mut Offline,
    applied: Option<LogId>,
    stored: StoredMembership,
) -> std::io::Result<Membership> {
    let mut newest = stored.membership().clone();
    log.read_after(applied, &mut |entry| {
        if let Payload::Membership(membership) = entry.payload {
            newest = membership;
        }
        Ok(())
    })?;
    Ok(newest)
}

/// Applies all that the log holds; the id of its last entry.
fn replay(engine: &Engine, log: &mut Offline, applied: Option<LogId>) -> std::io::Result<LogId> {
    let failed = |error: EngineError| std::io::Error::other(error);
    let mut mvcc = Mvcc::load(engine).map_err(failed)?;
    let mut last = applied;
    let mut writes = WriteSet::default();
    log.read_after(applied, &mut |entry| {
        last = Some(entry.log_id);
        let Payload::Normal(proposal) = entry.payload else {
            return Ok(());
        };
        for command in proposal.into_batch().commands {
            let (term, mut effects) = (entry.log_id.leader_id.term, Effects::default());
            // Refusals are answers, and nobody waits for one.
            let _ = mvcc
                .apply(engine, &mut writes, &mut effects, term, command)
                .map_err(failed)?;
        }
        mvcc.save(&mut writes);
        engine.commit(&writes).map_err(failed)?;
        writes.clear();
        Ok(())
    })?;
    last.ok_or_else(|| std::io::Error::other("the member holds no state"))
}
