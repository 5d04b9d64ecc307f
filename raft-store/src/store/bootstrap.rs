//! Who a member without data is: a founder of a cluster, or one that an existing cluster has added.
//!
//! A founder's id comes from its peer URLs and the cluster's token, the cluster's id from all founders' ids: each
//! founder computes the same, and other flags make another cluster. Ids of members that are added later are random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::Rng;
use sha2::{Digest, Sha256};

use crate::peer::{Kind, PeerNetwork, introduce};
use crate::raft::{Introduction, MemberInfo};
use crate::{Bootstrap, Config, OpenError};

/// How long members that are to be asked may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a cluster that should exist is asked before its absence is an error.
const ASK_ATTEMPTS: u32 = 6;

/// Ids of cluster and member for a data directory that is made now.
pub async fn identity(
    config: &Config,
    network: &Arc<dyn PeerNetwork>,
) -> Result<(u64, u64), OpenError> {
    match &config.bootstrap {
        Bootstrap::Alone => {
            let mut random = rand::rng();
            let cluster = config.expected_cluster_id;
            Ok((
                cluster.unwrap_or_else(|| random.random_range(1..u64::MAX)),
                random.random_range(1..u64::MAX),
            ))
        }
        Bootstrap::Static { members, token } => {
            let (cluster, ids) = founded(members, token);
            let me = own(config, members)?;
            let id = ids[&me];
            for introduction in ask_all(network, &others(config, members)).await {
                if introduction.cluster == cluster {
                    check_unused(config, &introduction, id)?;
                }
            }
            Ok((cluster, id))
        }
        Bootstrap::Existing { members } => joined(config, network, members).await,
    }
}

/// The founders' entries for the cluster's first configuration, if member `id` is one of them.
pub fn founders(config: &Config, id: u64, incarnation: u64) -> Option<BTreeMap<u64, MemberInfo>> {
    match &config.bootstrap {
        Bootstrap::Alone => {
            let info = MemberInfo {
                name: config.name.clone(),
                peer_urls: config.peer_urls.clone(),
                client_urls: config.client_urls.clone(),
                incarnation,
                ..Default::default()
            };
            Some(BTreeMap::from([(id, info)]))
        }
        Bootstrap::Static { members, token } => {
            let (_, ids) = founded(members, token);
            let urls = |name: &str| sorted_urls(members, name);
            // All founders must begin with the same: what only each knows of itself is published later.
            let founder = |(name, id): (&String, &u64)| {
                let info = MemberInfo {
                    name: name.clone(),
                    peer_urls: urls(name),
                    ..Default::default()
                };
                (*id, info)
            };
            let founders: BTreeMap<_, _> = ids.iter().map(founder).collect();
            founders.contains_key(&id).then_some(founders)
        }
        Bootstrap::Existing { .. } => None,
    }
}

type Named = [(String, String)];

fn sorted_urls(members: &Named, name: &str) -> Vec<String> {
    let mut urls: Vec<String> = members
        .iter()
        .filter(|(other, _)| other == name)
        .map(|(_, url)| url.clone())
        .collect();
    urls.sort();
    urls
}

/// Id of the cluster and of each founder by its name.
fn founded(members: &Named, token: &str) -> (u64, BTreeMap<String, u64>) {
    let mut ids = BTreeMap::new();
    for (name, _) in members {
        let urls = sorted_urls(members, name);
        let parts = urls.iter().map(String::as_bytes).chain([token.as_bytes()]);
        ids.insert(name.clone(), hash("member", parts));
    }
    let mut sorted: Vec<u64> = ids.values().copied().collect();
    sorted.sort_unstable();
    let bytes: Vec<_> = sorted.iter().map(|id| id.to_le_bytes()).collect();
    (hash("cluster", bytes.iter().map(<[u8; 8]>::as_slice)), ids)
}

fn hash<'a>(what: &str, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut digest = Sha256::new();
    digest.update(what.as_bytes());
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    // 0 means that an id is not known.
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes")).max(1)
}

/// This member's name, if the flags agree with each other.
fn own(config: &Config, members: &Named) -> Result<String, OpenError> {
    let wrong = |reason: String| Err(OpenError::InitialCluster(reason));
    let listed = sorted_urls(members, &config.name);
    if listed.is_empty() {
        return wrong(format!("it does not name this member, {:?}", config.name));
    }
    let mut advertised = config.peer_urls.clone();
    advertised.sort();
    if listed != advertised {
        return wrong(format!(
            "it has {listed:?} for this member, which advertises {advertised:?}"
        ));
    }
    Ok(config.name.clone())
}

fn others(config: &Config, members: &Named) -> Vec<String> {
    let others = members
        .iter()
        .filter(|(name, url)| *name != config.name && !config.peer_urls.contains(url));
    others.map(|(_, url)| url.clone()).collect()
}

async fn ask_all(network: &Arc<dyn PeerNetwork>, urls: &[String]) -> Vec<Introduction> {
    let asked: FuturesUnordered<_> = urls.iter().map(|url| ask(network, url)).collect();
    let answers: Vec<Option<Introduction>> = asked.collect().await;
    let known = answers.into_iter().flatten();
    known.filter(|answer| !answer.members.is_empty()).collect()
}

async fn ask(network: &Arc<dyn PeerNetwork>, url: &str) -> Option<Introduction> {
    let answer = introduce(&**network, url, Kind::Members, ASK_TIMEOUT).await;
    match answer {
        Ok(answer) => serde_json::from_slice(&answer).ok(),
        Err(error) => {
            tracing::debug!(%url, %error, "a member did not answer");
            None
        }
    }
}

fn check_unused(config: &Config, answer: &Introduction, id: u64) -> Result<(), OpenError> {
    if answer.removed.contains(&id) {
        return Err(OpenError::Removed { id });
    }
    let info = answer.members.iter().find(|(member, _)| *member == id);
    match info {
        Some((_, info)) if info.incarnation != 0 => Err(OpenError::AlreadyBootstrapped {
            id,
            path: config.data_dir.clone(),
        }),
        _ => Ok(()),
    }
}

/// As whom an existing cluster has added this member: it knows it by its peer URLs.
async fn joined(
    config: &Config,
    network: &Arc<dyn PeerNetwork>,
    members: &Named,
) -> Result<(u64, u64), OpenError> {
    let mut advertised = config.peer_urls.clone();
    advertised.sort();
    let urls = others(config, members);
    let mut delay = Duration::from_millis(200);
    let mut seen = Vec::new();
    for attempt in 0..ASK_ATTEMPTS {
        if attempt > 0 {
            // The cluster may be electing, or not have told all its members of this one yet.
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        seen = ask_all(network, &urls).await;
        for introduction in &seen {
            let me = introduction.members.iter().find(|(_, info)| {
                let mut known = info.peer_urls.clone();
                known.sort();
                known == advertised
            });
            if let Some((id, _)) = me {
                check_unused(config, introduction, *id)?;
                return Ok((introduction.cluster, *id));
            }
        }
    }
    Err(if seen.is_empty() {
        OpenError::NoCluster { urls }
    } else {
        OpenError::NotAdded { urls: advertised }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(urls: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = |(name, url): &(&str, &str)| ((*name).to_owned(), (*url).to_owned());
        urls.iter().map(own).collect()
    }

    #[test]
    fn founders_agree_on_their_ids_whatever_the_order_of_their_flags() {
        let (a, b, c) = (
            ("a", "http://10.0.0.1:2380"),
            ("b", "http://10.0.0.2:2380"),
            ("c", "http://10.0.0.3:2380"),
        );
        let (cluster, ids) = founded(&members(&[a, b, c]), "token");
        assert_eq!(
            founded(&members(&[c, a, b]), "token"),
            (cluster, ids.clone())
        );
        assert_eq!(ids.len(), 3);
        assert_ne!(founded(&members(&[a, b, c]), "other").0, cluster);
        assert_ne!(founded(&members(&[a, b]), "token").0, cluster);
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        let listed = members(&[("a", "http://10.0.0.1:2380")]);
        let check = |name: &str, url: &str, expect: &str| {
            let mut config = Config::new("/none");
            config.name = name.to_owned();
            config.peer_urls = vec![url.to_owned()];
            let found = match own(&config, &listed) {
                Ok(name) => name,
                Err(error) => error.to_string(),
            };
            assert!(found.contains(expect), "{found}");
        };
        check("a", "http://10.0.0.1:2380", "a");
        check("b", "http://10.0.0.1:2380", "does not name this member");
        check("a", "http://10.0.0.9:2380", "which advertises");
    }
}
