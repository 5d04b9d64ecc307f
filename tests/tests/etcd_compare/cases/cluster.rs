//! The Cluster service on one member.

use anyhow::Result;
use serde::Serialize;
use xebec_proto::etcdserverpb as pb;

use crate::session::Session;

crate::cases!("cluster":
    list, bad_urls, unknown_members, promote_a_voter, own_url, remove_the_only_member, learners_come_and_go,
);

/// Records a list of members without what must differ.
fn members<T: Serialize + Clone>(
    s: &mut Session,
    what: &str,
    answer: Result<tonic::Response<T>, tonic::Status>,
    list: impl Fn(&mut T) -> &mut Vec<pb::Member>,
) -> Result<Option<T>> {
    let whole = answer.as_ref().ok().map(|answer| answer.get_ref().clone());
    let answer = answer.map(|answer| {
        let mut answer = answer.into_inner();
        for member in list(&mut answer) {
            member.id = 1;
            for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
                *url = if url.contains("127.0.0.1") { "http://127.0.0.1".to_owned() } else { url.clone() };
            }
        }
        tonic::Response::new(answer)
    });
    s.record(what, answer)?;
    Ok(whole)
}

async fn list(s: &mut Session) -> Result<()> {
    for linearizable in [false, true] {
        let answer = s.cluster().member_list(pb::MemberListRequest { linearizable }).await;
        members(s, "list", answer, |answer| &mut answer.members)?;
    }
    Ok(())
}

fn add(urls: &[&str], is_learner: bool) -> pb::MemberAddRequest {
    pb::MemberAddRequest { peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(), is_learner }
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
        members(s, "add", answer, |answer| &mut answer.members)?;
    }
    Ok(())
}

async fn unknown_members(s: &mut Session) -> Result<()> {
    let id = 12_345;
    let answer = s.cluster().member_remove(pb::MemberRemoveRequest { id }).await;
    members(s, "remove", answer, |answer| &mut answer.members)?;
    let answer = s.cluster().member_promote(pb::MemberPromoteRequest { id }).await;
    members(s, "promote", answer, |answer| &mut answer.members)?;
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let answer = s.cluster().member_update(pb::MemberUpdateRequest { id, peer_ur_ls }).await;
    members(s, "update", answer, |answer| &mut answer.members)?;
    Ok(())
}

async fn own(s: &mut Session) -> Result<pb::Member> {
    let answer = s.cluster().member_list(pb::MemberListRequest::default()).await?.into_inner();
    Ok(answer.members.into_iter().next().unwrap_or_default())
}

async fn promote_a_voter(s: &mut Session) -> Result<()> {
    let id = own(s).await?.id;
    let answer = s.cluster().member_promote(pb::MemberPromoteRequest { id }).await;
    members(s, "promote", answer, |answer| &mut answer.members)?;
    Ok(())
}

async fn own_url(s: &mut Session) -> Result<()> {
    let member = own(s).await?;
    let request = pb::MemberAddRequest { peer_ur_ls: member.peer_ur_ls, is_learner: true };
    let answer = s.cluster().member_add(request).await;
    members(s, "add", answer, |answer| &mut answer.members)?;
    Ok(())
}

async fn remove_the_only_member(s: &mut Session) -> Result<()> {
    let id = own(s).await?.id;
    let answer = s.cluster().member_remove(pb::MemberRemoveRequest { id }).await;
    members(s, "remove", answer, |answer| &mut answer.members)?;
    Ok(())
}

async fn learners_come_and_go(s: &mut Session) -> Result<()> {
    let answer = s.cluster().member_add(add(&["http://127.0.0.1:1"], true)).await;
    let added = members(s, "add", answer, |answer| &mut answer.members).map(|answer| answer.and_then(|a| a.member))?;
    let Some(added) = added else { return Ok(()) };
    let answer = s.cluster().member_list(pb::MemberListRequest { linearizable: true }).await;
    members(s, "list", answer, |answer| &mut answer.members)?;
    let answer = s.cluster().member_promote(pb::MemberPromoteRequest { id: added.id }).await;
    members(s, "promote", answer, |answer| &mut answer.members)?;
    let request = pb::MemberUpdateRequest { id: added.id, peer_ur_ls: vec!["http://127.0.0.1:2".to_owned()] };
    let answer = s.cluster().member_update(request).await;
    members(s, "update", answer, |answer| &mut answer.members)?;
    for _ in 0..2 {
        let answer = s.cluster().member_remove(pb::MemberRemoveRequest { id: added.id }).await;
        members(s, "remove", answer, |answer| &mut answer.members)?;
    }
    Ok(())
}
