//! Several members over real connections: agreement, failures, and changes of who is a member.

#![allow(clippy::unwrap_used)]

#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/losses.rs"]
mod losses;
#[path = "cluster/room.rs"]
mod room;

use std::time::Duration;

use bytes::Bytes;
use harness::*;
use raft_store::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_writes_reads_and_watches() {
    let cluster = Cluster::found(3).await;
    let mut watcher = cluster
        .member(2)
        .watch(WatchRequest {
            range: KeyRange::prefix("k"),
            ..Default::default()
        })
        .unwrap();
    for round in 0..5 {
        for at in 0..3 {
            put(cluster.member(at), &format!("k{at}"), &round.to_string()).await;
            // What was acknowledged anywhere is seen everywhere.
            for reader in 0..3 {
                let found = get(cluster.member(reader), &format!("k{at}")).await;
                assert_eq!(found, Some((round.to_string(), round + 1)));
            }
        }
    }
    let mut seen = 0;
    while seen < 15 {
        let batch = within(watcher.next()).await.unwrap();
        seen += batch.events.len();
    }
    assert_eq!(seen, 15, "no event comes twice");
    cluster.check_equal().await;
    let members = cluster.member(1).members(true).await.unwrap();
    let mut names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    assert!(members.iter().all(|member| !member.client_urls.is_empty()));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_kept_through_any_member() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader(None).await;
    for at in 0..3 {
        let request = LeaseGrantRequest { id: 0, ttl: 60 };
        let lease = cluster.member(at).lease_grant(request).await.unwrap();
        let kept = cluster.member(at).lease_keep_alive(lease.id).await.unwrap();
        assert_eq!(kept.ttl, 60);
        let request = PutRequest {
            key: Bytes::from_static(b"leased"),
            lease: lease.id,
            ..Default::default()
        };
        cluster.member(leader).put(request).await.unwrap();
        let left = cluster
            .member(at)
            .lease_time_to_live(lease.id, true)
            .await
            .unwrap();
        assert_eq!((left.granted_ttl, left.keys.len()), (60, 1));
        let gone = cluster.member(at).lease_keep_alive(lease.id + 1).await;
        assert_eq!(gone.unwrap().ttl, 0);
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_is_followed_by_another_and_catches_up() {
    let mut cluster = Cluster::found(3).await;
    for round in 0..3 {
        let leader = cluster.leader(None).await;
        let writers: Vec<_> = cluster
            .running()
            .into_iter()
            .filter(|at| *at != leader)
            .map(|at| {
                let store = cluster.member(at).clone();
                tokio::spawn(async move {
                    for n in 0..50 {
                        // The leader dies meanwhile: nobody who writes elsewhere sees it.
                        put(&store, &format!("{round}/{at}/{n}"), "x").await;
                    }
                })
            })
            .collect();
        put(cluster.member(leader), "begun", "x").await;
        cluster.abort(leader).await;
        for writer in writers {
            within(writer).await.unwrap();
        }
        cluster.leader(Some(leader)).await;
        cluster.start(leader).await;
        put(cluster.member(leader), "back", "x").await;
        for at in cluster.running() {
            if at != leader {
                for n in 0..50 {
                    let found = get(cluster.member(leader), &format!("{round}/{at}/{n}")).await;
                    assert_eq!(found, Some(("x".to_owned(), 1)), "written once");
                }
            }
        }
        cluster.check_equal().await;
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_cut_off_loses_and_repeats_nothing() {
    let cluster = Cluster::found(3).await;
    let old = cluster.leader(None).await;
    cluster.switch.cut(&cluster.url(old));
    let store = cluster.member(old).clone();
    let cut_off = tokio::spawn(async move { try_put(&store, "cut", "x").await });
    let new = cluster.leader(Some(old)).await;
    put(cluster.member(new), "majority", "x").await;
    cluster.switch.mend(&cluster.url(old));
    // The connection comes back before the request's time is over, so that it is decided.
    let outcome = within(cut_off).await.unwrap();
    let found = get(cluster.member(new), "cut").await;
    match outcome {
        Ok(_) => assert_eq!(found, Some(("x".to_owned(), 1))),
        Err(Error::Timeout) => assert_eq!(found, None),
        Err(Error::TimeoutLeaderFailed) => assert!(found.is_none_or(|(_, version)| version == 1)),
        Err(error) => panic!("{error}"),
    }
    assert!(get(cluster.member(old), "majority").await.is_some());
    cluster.check_equal().await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_knows_of_no_leader() {
    let cluster = Cluster::found(3).await;
    let leader = cluster.leader(None).await;
    let url = cluster.url(leader);
    cluster.switch.cut(&url);
    let mut leadership = cluster.member(leader).leadership();
    within(leadership.wait_for(|now| now.leader.is_none()))
        .await
        .unwrap();
    assert_eq!(cluster.member(leader).status().leader, None);
    let next = cluster.leader(Some(leader)).await;
    let id = cluster.member(next).status().member_id;
    cluster.switch.mend(&url);
    within(leadership.wait_for(|now| now.leader == Some(id)))
        .await
        .unwrap();
    put(cluster.member(leader), "k", "v").await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_with_a_learner_that_is_promoted_when_asked() {
    let mut cluster = Cluster::found(5).await;
    let url = free_url();
    let added = cluster.member(1).member_add(vec![url.clone()], true);
    let (added, members) = within(added).await.unwrap();
    let known = members.iter().flat_map(|member| {
        let urls = member.peer_urls.iter();
        urls.map(|url| (member.name.clone(), url.clone()))
    });
    let members = known.collect();
    let at = cluster.add_config("m5", &url, Bootstrap::Existing { members });
    cluster.start(at).await;
    within(cluster.member(at).ready()).await.unwrap();
    assert!(cluster.member(at).is_learner());
    // It stays one, and has no vote, whatever it has caught up with.
    put(cluster.member(0), "k", "v").await;
    cluster.check_equal().await;
    assert!(cluster.member(at).is_learner());
    // The leader may not have heard yet that it has caught up.
    let promoted = loop {
        match within(cluster.member(2).member_promote(added.id)).await {
            Err(Error::LearnerNotReady) => tokio::time::sleep(Duration::from_millis(20)).await,
            answered => break answered.unwrap(),
        }
    };
    assert!(promoted.iter().all(|member| !member.is_learner));
    await_voter(&cluster, at).await;
    assert!(!cluster.member(at).is_learner());
    // Three of six are no majority, four are.
    for gone in 0..2 {
        cluster.abort(gone).await;
    }
    put(cluster.member(at), "k", "w").await;
    cluster.check_equal().await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_moves_on_request_and_at_shutdown() {
    let mut cluster = Cluster::found(3).await;
    let old = cluster.leader(None).await;
    let target = (old + 1) % 3;
    let id = cluster.member(target).status().member_id;
    let bystander = cluster.member(target).move_leader(id).await;
    assert!(matches!(bystander, Err(Error::NotLeader { .. })));
    let unknown = cluster.member(old).move_leader(7).await;
    assert_eq!(unknown, Err(Error::BadLeaderTransferee));
    within(cluster.member(old).move_leader(id)).await.unwrap();
    assert_eq!(cluster.leader(Some(old)).await, target);
    put(cluster.member(old), "after", "x").await;
    // A rolling restart: nobody who writes to another member notices.
    for at in 0..3 {
        let other = (at + 1) % 3;
        cluster.shutdown(at).await;
        put(cluster.member(other), "rolling", &at.to_string()).await;
        cluster.start(at).await;
        assert_eq!(
            get(cluster.member(at), "rolling").await.unwrap().0,
            at.to_string()
        );
    }
    cluster.check_equal().await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut cluster = Cluster::found(1).await;
    put(cluster.member(0), "old", "x").await;
    for name in ["m1", "m2"] {
        let url = free_url();
        let (added, _) = cluster
            .member(0)
            .member_add(vec![url.clone()], false)
            .await
            .unwrap();
        assert_eq!((added.name.as_str(), added.is_learner), ("", false));
        let members = vec![("m0".to_owned(), cluster.url(0))];
        let at = cluster.add_config(name, &url, Bootstrap::Existing { members });
        // Until it starts, the others go on without it.
        put(cluster.member(0), name, "x").await;
        cluster.start(at).await;
        assert_eq!(cluster.member(at).status().member_id, added.id);
        within(cluster.member(at).ready()).await.unwrap();
        assert!(get(cluster.member(at), "old").await.is_some());
        await_voter(&cluster, at).await;
    }
    let again = cluster
        .member(1)
        .member_add(vec![cluster.url(2)], true)
        .await;
    assert_eq!(again.unwrap_err(), Error::PeerUrlExists);
    // A member that is removed, here the leader itself, is let in no more.
    let gone = cluster.leader(None).await;
    let id = cluster.member(gone).status().member_id;
    let left = within(cluster.member(gone).member_remove(id))
        .await
        .unwrap();
    assert_eq!(left.len(), 2);
    let why = within(cluster.member(gone).ended()).await;
    assert_eq!(
        why,
        "the member has been permanently removed from the cluster"
    );
    let other = (gone + 1) % 3;
    put(cluster.member(other), "two", "x").await;
    let unknown = cluster.member(other).member_remove(id).await;
    assert_eq!(unknown.unwrap_err(), Error::MemberNotFound);
    cluster.members[gone] = None;
    cluster.check_equal().await;
    cluster.close().await;
}

/// Waits until a member votes.
async fn await_voter(cluster: &Cluster, at: usize) {
    while cluster.member(at).status().is_learner {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_was_wiped_does_not_come_back_under_its_old_id() {
    let mut cluster = Cluster::found(3).await;
    put(cluster.member(0), "k", "x").await;
    cluster.abort(2).await;
    // Moved away and not removed: what was aborted may still be closing its files.
    let data_dir = &cluster.configs[2].data_dir;
    std::fs::rename(data_dir, data_dir.with_extension("old")).unwrap();
    let refused = within(Store::open(cluster.configs[2].clone())).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("has already been bootstrapped"), "{error}");
    // With others' flags it is another cluster, which members of this one do not let in.
    let mut config = cluster.configs[2].clone();
    let Bootstrap::Static { members, .. } = config.bootstrap else {
        unreachable!("it was founded so");
    };
    config.bootstrap = Bootstrap::Static {
        members,
        token: "other".to_owned(),
    };
    let stranger = open(&config).await;
    put(cluster.member(1), "k", "y").await;
    assert_eq!(stranger.status().leader, None);
    assert_ne!(
        stranger.status().cluster_id,
        cluster.member(0).status().cluster_id
    );
    within(stranger.shutdown()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_for_long_takes_over_the_whole_state() {
    let mut cluster = Cluster::found(3).await;
    let shorten = |config: &mut Config| config.log_segment_bytes = 128 * 1024;
    cluster.configs.iter_mut().for_each(shorten);
    for at in 0..3 {
        cluster.shutdown(at).await;
        cluster.start(at).await;
    }
    cluster.abort(2).await;
    let value = "v".repeat(64 * 1024);
    for n in 0..60 {
        put(cluster.member(n % 2), &format!("k{}", n % 10), &value).await;
    }
    let revision = cluster.member(0).revision();
    cluster.start(2).await;
    let mut applied = cluster.member(2).applied();
    within(applied.wait_for(|applied| *applied >= revision))
        .await
        .unwrap();
    let found = get(cluster.member(2), "k9").await.unwrap();
    assert_eq!((found.0.len(), found.1), (value.len(), 6));
    cluster.check_equal().await;
    cluster.close().await;
}

/// A CA, and the TLS files of members that it vouches for.
fn tls_files(dir: &std::path::Path) -> PeerTls {
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    PeerTls {
        cert_file: file("cert.pem", certificate.pem()),
        key_file: file("key.pem", key.serialize_pem()),
        trusted_ca_file: file("ca.pem", ca.pem()),
        client_cert_auth: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_know_each_other_by_their_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let tls = tls_files(dir.path());
    let named = |at: usize| (format!("m{at}"), free_url().replace("http:", "https:"));
    let members: Vec<(String, String)> = (0..3).map(named).collect();
    let mut stores = Vec::new();
    for (name, url) in &members {
        let mut config = Config::new(dir.path().join(name));
        config.name = name.clone();
        config.peer_urls = vec![url.clone()];
        config.listen_peer_urls = vec![url.clone()];
        config.peer_tls = tls.clone();
        config.bootstrap = Bootstrap::Static {
            members: members.clone(),
            token: "tls".to_owned(),
        };
        stores.push(open(&config).await);
    }
    for store in &stores {
        within(store.ready()).await.unwrap();
        put(store, "k", "x").await;
    }
    // Who shows no certificate is not even told who the members are.
    let outsider = Tcp::new(PeerTls {
        trusted_ca_file: tls.trusted_ca_file.clone(),
        ..Default::default()
    });
    let mut config = Config::new(dir.path().join("outsider"));
    config.peer_urls = vec![free_url()];
    config.peer_network = Some(std::sync::Arc::new(outsider));
    config.bootstrap = Bootstrap::Existing {
        members: members.clone(),
    };
    let refused = within(Store::open(config)).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("none of the cluster's members answered"),
        "{refused}"
    );
    for store in stores {
        within(store.shutdown()).await;
    }
}
