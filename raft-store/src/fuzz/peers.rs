//! What other members may send: frames, messages in the encoding of the log, and rare ones that are JSON.

use bytes::Bytes;
use openraft::raft::{
    SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Target;
use super::disk::batch;
use super::files::Folder;
use crate::codec::{Reader, put_bytes};
use crate::peer::{self, Hello, Refusal};
use crate::raft::{
    AboutLease, Change, End, Incoming, Introduction, MemberInfo, TypeConfig, Verdict, Vote, log_id,
};
use crate::store::leader_leases::{decode_time_to_live, encode_time_to_live};
use crate::{Error, HashKvResponse, LeaseTimeToLiveResponse, Member};

type C = TypeConfig;

pub const TARGETS: &[Target] = &[
    Target::new(
        "frames",
        || vec![peer::sample_frame()],
        peer::decode_foreign_frame,
    ),
    Target::new("appends", appends, append),
    Target::new("answers to appends", append_answers, append_answer),
    Target::new("proposals", proposals, proposal),
    Target::new("times to live", times_to_live, time_to_live),
    Target::new("snapshots in chunks", chunks, incoming).slow(),
    Target::new("greeting", || one(&Hello::stranger()), json::<Hello>),
    Target::new(
        "answer to a greeting",
        refusals,
        json::<Result<(), Refusal>>,
    ),
    Target::new("vote request", vote_requests, json::<VoteRequest<C>>),
    Target::new("vote response", vote_responses, json::<VoteResponse<C>>),
    Target::new(
        "leader transfer",
        transfers,
        json::<TransferLeaderRequest<C>>,
    ),
    Target::new(
        "answer to a leader transfer",
        || one::<TransferLeaderResponse<C>>(&Ok(())),
        json::<TransferLeaderResponse<C>>,
    ),
    Target::new("question about a lease", about_leases, json::<AboutLease>),
    Target::new("change of members", changes, json::<Change>),
    Target::new("introduction", introductions, json::<Introduction>),
    Target::new("list of members", members, json::<Vec<Member>>),
    Target::new("verdict", verdicts, json::<Verdict>),
    Target::new(
        "hash",
        || one(&HashKvResponse::default()),
        json::<HashKvResponse>,
    ),
    Target::new("index or offset", || one(&u64::MAX), json::<u64>),
    Target::new(
        "time to live of a lease kept alive",
        || one(&i64::MIN),
        json::<i64>,
    ),
    Target::new("end of a snapshot", ends, json::<End>),
    Target::new(
        "answer to a snapshot",
        snapshot_answers,
        json::<SnapshotResponse<C>>,
    ),
    Target::new("error", errors, json::<Error>),
];

/// JSON of one type.
pub fn json<T: Serialize + DeserializeOwned>(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(data) else {
        return false;
    };
    let encoded = serde_json::to_vec(&value).expect("what was JSON is JSON");
    let again: T = serde_json::from_slice(&encoded).expect("it was just encoded");
    assert_eq!(serde_json::to_vec(&again).ok(), Some(encoded));
    true
}

pub fn one<T: Serialize>(value: &T) -> Vec<Vec<u8>> {
    many(std::slice::from_ref(value))
}

fn many<T: Serialize>(values: &[T]) -> Vec<Vec<u8>> {
    let encode = |value: &T| serde_json::to_vec(value).expect("it is JSON");
    values.iter().map(encode).collect()
}

fn append(data: &[u8]) -> bool {
    let Ok(request) = peer::decode_append(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let again = peer::decode_append(peer::encode_append(&request)).expect("it was just encoded");
    assert_eq!(again.entries, request.entries);
    true
}

fn append_answer(data: &[u8]) -> bool {
    let Ok(answer) = peer::decode_append_answer(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let again = peer::decode_append_answer(peer::encode_append_answer(&answer));
    assert_eq!(again, Ok(answer));
    true
}

fn proposal(data: &[u8]) -> bool {
    let Ok((term, proposal)) = peer::decode_proposal(Bytes::copy_from_slice(data)) else {
        return false;
    };
    let again = peer::decode_proposal(peer::encode_proposal(term, &proposal));
    assert_eq!(again, Ok((term, proposal)));
    true
}

fn time_to_live(data: &[u8]) -> bool {
    let Ok(answer) = decode_time_to_live(Bytes::copy_from_slice(data)) else {
        return false;
    };
    assert_eq!(
        decode_time_to_live(encode_time_to_live(&answer)),
        Ok(answer)
    );
    true
}

/// Calls of a member that sends its state: each a byte that says which, and a body. All were taken if it is true.
fn incoming(data: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime that needs nothing");
    let folder = Folder::new();
    let incoming = Incoming::new(folder.path.clone(), 7);
    let mut reader = Reader::new(Bytes::copy_from_slice(data));
    let mut all_taken = true;
    while let (Ok(call), Ok(body)) = (reader.u8(), reader.bytes()) {
        let is_begin = call % 2 == 0;
        let answer = async {
            match is_begin {
                true => incoming.begin(body).await,
                false => incoming.chunk(body).await,
            }
        };
        let answer = runtime.block_on(answer);
        if let Ok(offset) = &answer
            && is_begin
        {
            let offset: u64 = serde_json::from_slice(offset).expect("an offset is JSON");
            assert_eq!(offset, folder.bytes(), "what is there is what was taken");
        }
        all_taken &= answer.is_ok();
    }
    all_taken
}

fn chunks() -> Vec<Vec<u8>> {
    let id = 5_u64.to_le_bytes();
    let chunk = |offset: u64, content: &[u8]| [&id[..], &offset.to_le_bytes(), content].concat();
    let calls = [
        (0, id.to_vec()),
        (1, chunk(0, b"XBCSNAP\n")),
        (0, id.to_vec()),
        (1, chunk(8, b"more of it")),
    ];
    let mut out = Vec::new();
    for (call, body) in calls {
        out.push(call);
        put_bytes(&mut out, &body);
    }
    vec![out]
}

fn appends() -> Vec<Vec<u8>> {
    vec![peer::encode_append(&peer::sample_append(&batch())).into()]
}

fn append_answers() -> Vec<Vec<u8>> {
    use openraft::raft::AppendEntriesResponse as Answer;
    let answers: [Answer<C>; 4] = [
        Answer::Success,
        Answer::PartialSuccess(Some(log_id(3, 300))),
        Answer::Conflict,
        Answer::HigherVote(Vote::new(9, 77)),
    ];
    let encode = |answer| peer::encode_append_answer(answer).into();
    answers.iter().map(encode).collect()
}

fn proposals() -> Vec<Vec<u8>> {
    vec![peer::encode_proposal(3, &batch().into()).into()]
}

fn times_to_live() -> Vec<Vec<u8>> {
    let answer = LeaseTimeToLiveResponse {
        revision: 9,
        id: -7,
        ttl: 60,
        granted_ttl: 600,
        keys: vec!["a".into(), "".into()],
    };
    vec![encode_time_to_live(&answer).into()]
}

fn refusals() -> Vec<Vec<u8>> {
    let protocol = Refusal::Protocol {
        theirs: 1,
        yours: 2,
    };
    many(&[Ok(()), Err(protocol), Err(Refusal::Removed)])
}

fn vote_requests() -> Vec<Vec<u8>> {
    one(&VoteRequest::<C>::new(Vote::new(5, 6), Some(log_id(4, 9))))
}

fn vote_responses() -> Vec<Vec<u8>> {
    one(&VoteResponse::<C>::new(Vote::new(5, 6), None, true))
}

fn transfers() -> Vec<Vec<u8>> {
    let leader = Vote::new_committed(5, 6);
    one(&TransferLeaderRequest::<C>::new(
        leader,
        7,
        Some(log_id(5, 9)),
    ))
}

fn about_leases() -> Vec<Vec<u8>> {
    one(&AboutLease { id: -7, keys: true })
}

fn changes() -> Vec<Vec<u8>> {
    let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
    many(&[
        Change::Add {
            id: 7,
            peer_urls: peer_urls.clone(),
            is_learner: true,
        },
        Change::Remove { id: 7 },
        Change::Update {
            id: 7,
            peer_urls: peer_urls.clone(),
        },
        Change::Promote { id: 7 },
        Change::Publish {
            id: 7,
            name: "m0".to_owned(),
            client_urls: Vec::new(),
            incarnation: 3,
            peer_urls: Some(peer_urls),
        },
    ])
}

fn introductions() -> Vec<Vec<u8>> {
    one(&Introduction {
        cluster: 1,
        members: vec![(7, MemberInfo::default())],
        removed: vec![8],
    })
}

fn members() -> Vec<Vec<u8>> {
    one(&vec![Member::default()])
}

fn verdicts() -> Vec<Vec<u8>> {
    many(&[Verdict::Accepted, Verdict::Refused, Verdict::Unknown])
}

fn ends() -> Vec<Vec<u8>> {
    one(&End {
        id: 5,
        vote: Vote::new_committed(5, 6),
    })
}

fn snapshot_answers() -> Vec<Vec<u8>> {
    one(&SnapshotResponse::<C>::new(Vote::new_committed(5, 6)))
}

fn errors() -> Vec<Vec<u8>> {
    many(&[
        Error::EmptyKey,
        Error::Compacted {
            compact_revision: 5,
        },
        Error::NotLeader { leader: Some(7) },
        Error::Storage("text".to_owned()),
    ])
}
