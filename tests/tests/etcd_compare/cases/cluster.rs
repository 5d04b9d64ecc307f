//! The Cluster service on one member.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use crate::session::Session;

crate::cases!("cluster":
    list, bad_urls, unknown_members, promote_a_voter, own_url, remove_the_only_member, update_itself, learners_come_and_go,
);

async fn list(s: &mut Session) -> Result<()> {
    for linearizable in [false, true] {
        let answer = s
            .cluster()
            .member_list(pb::MemberListRequest { linearizable })
            .await;
        s.record("list", answer)?;
    }
    Ok(())
}

fn add(urls: &[&str], is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest {
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner,
    }
}

async fn bad_urls(s: &mut Session) -> Result<()> {
    for urls in [
        &[][..],
        &[""],
        &["nonsense"],
        &["127.0.0.1:1"],
        &["http://127.0.0.1"],
        &["ftp://127.0.0.1:1"],
        &["http://127.0.0.1:1/path"],
    ] {
        let answer = s.cluster().member_add(add(urls, true)).await;
        s.record("add", answer)?;
        s.settle().await?;
    }
    Ok(())
}

async fn unknown_members(s: &mut Session) -> Result<()> {
    let id = 12_345;
    let answer = s
        .cluster()
        .member_remove(pb::MemberRemoveRequest { id })
        .await;
    s.record("remove", answer)?;
    s.settle().await?;
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let answer = s
        .cluster()
        .member_update(pb::MemberUpdateRequest { id, peer_ur_ls })
        .await;
    s.record("update", answer)?;
    s.settle().await?;
    Ok(())
}

async fn own(s: &mut Session) -> Result<pb::Member> {
    let answer = s
        .cluster()
        .member_list(pb::MemberListRequest::default())
        .await?
        .into_inner();
    Ok(answer.members.into_iter().next().unwrap_or_default())
}

async fn promote_a_voter(s: &mut Session) -> Result<()> {
    let id = own(s).await?.id;
    let answer = s
        .cluster()
        .member_promote(pb::MemberPromoteRequest { id })
        .await;
    s.record("promote", answer)?;
    s.settle().await?;
    Ok(())
}

async fn own_url(s: &mut Session) -> Result<()> {
    let member = own(s).await?;
    let request = pb::MemberAddRequest {
        peer_ur_ls: member.peer_ur_ls,
        is_learner: true,
    };
    let answer = s.cluster().member_add(request).await;
    s.record("add", answer)?;
    s.settle().await?;
    Ok(())
}

async fn remove_the_only_member(s: &mut Session) -> Result<()> {
    let id = own(s).await?.id;
    let answer = s
        .cluster()
        .member_remove(pb::MemberRemoveRequest { id })
        .await;
    s.record("remove", answer)?;
    s.settle().await?;
    Ok(())
}

async fn update_itself(s: &mut Session) -> Result<()> {
    let member = own(s).await?;
    let request = pb::MemberUpdateRequest {
        id: member.id,
        peer_ur_ls: member.peer_ur_ls,
    };
    let answer = s.cluster().member_update(request).await;
    s.record("update", answer)?;
    s.settle().await?;
    Ok(())
}

async fn learners_come_and_go(s: &mut Session) -> Result<()> {
    let answer = s
        .cluster()
        .member_add(add(&["http://127.0.0.1:1"], true))
        .await;
    let added = s.record("add", answer)?.and_then(|answer| answer.member);
    s.settle().await?;
    let Some(added) = added else { return Ok(()) };
    let answer = s
        .cluster()
        .member_list(pb::MemberListRequest { linearizable: true })
        .await;
    s.record("list", answer)?;
    let answer = s
        .cluster()
        .member_promote(pb::MemberPromoteRequest { id: added.id })
        .await;
    s.record("promote", answer)?;
    s.settle().await?;
    for _ in 0..2 {
        let answer = s
            .cluster()
            .member_remove(pb::MemberRemoveRequest { id: added.id })
            .await;
        s.record("remove", answer)?;
        s.settle().await?;
    }
    Ok(())
}
