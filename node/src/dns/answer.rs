//! From a question to a message: what can be answered at once, what must be asked elsewhere, and how answers are cut to size.
//!
//! Pure. It must not know sockets.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::names::{Place, place};
use super::records::{Found, Zone, cname};
use crate::network::ServiceState;

/// The largest UDP answer in bytes: what crosses every network unfragmented (DNS Flag Day 2020).
pub(super) const MAX_UDP_BYTES: u16 = 1232;
/// The largest UDP answer in bytes to a client that says nothing.
const CLASSIC_UDP_BYTES: u16 = 512;
/// The largest TCP answer in bytes.
const MAX_TCP_BYTES: u16 = u16::MAX;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What is to be done about a question.
#[derive(Debug)]
pub(super) enum Decision {
    /// Send this.
    Reply(Box<Message>),
    /// Pass the question on as it is.
    Forward,
    /// Look up an alias's target, and send this with the answers added.
    Chase {
        reply: Box<Message>,
        target: Name,
        kind: RecordType,
    },
    /// Say nothing: an answer to an answer could go on forever.
    Silence,
}

/// The cluster as the server knows it.
pub(super) struct Cluster<'a> {
    pub(super) zone: &'a Name,
    pub(super) server: IpAddr,
    /// `None` until Services are known.
    pub(super) state: Option<&'a ServiceState>,
}

/// Decides on a message.
pub(super) fn decide(request: &Message, cluster: &Cluster<'_>) -> Decision {
    if request.metadata.message_type != MessageType::Query {
        return Decision::Silence;
    }
    if request.metadata.op_code != OpCode::Query {
        return reply(failure(request, ResponseCode::NotImp));
    }
    let [query] = request.queries.as_slice() else {
        return reply(failure(request, ResponseCode::FormErr));
    };
    if request
        .edns
        .as_ref()
        .is_some_and(|edns| edns.version() != 0)
    {
        return reply(failure(request, ResponseCode::BADVERS));
    }
    let place = place(query.name(), cluster.zone);
    if place == Place::Outside || !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
        return Decision::Forward;
    }
    let Some(state) = cluster.state else {
        // Unknown is not the same as absent.
        return reply(failure(request, ResponseCode::ServFail));
    };
    let zone = Zone {
        name: cluster.zone,
        server: cluster.server,
        state,
    };
    let mut message = response(request);
    message.metadata.authoritative = true;
    match zone.find(query.name(), &place, query.query_type()) {
        Found::Elsewhere => Decision::Forward,
        Found::NoName => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_authority(zone.soa());
            reply(message)
        }
        Found::Records { answers, .. } if answers.is_empty() => {
            message.add_authority(zone.soa());
            reply(message)
        }
        Found::Records {
            mut answers,
            additionals,
        } => {
            // Clients take the first: each request gets another one.
            let first = usize::from(request.metadata.id) % answers.len();
            answers.rotate_left(first);
            message.add_answers(answers);
            message.add_additionals(additionals);
            reply(message)
        }
        Found::Alias(target) => chase(message, query.name(), target, query.query_type(), &zone),
    }
}

fn chase(
    mut message: Message,
    name: &Name,
    target: Name,
    kind: RecordType,
    zone: &Zone<'_>,
) -> Decision {
    message.add_answer(cname(name, &target));
    if kind == RecordType::CNAME {
        return reply(message);
    }
    // An alias may lead to another Service, but one alias after another is not followed here.
    match zone.find(&target, &place(&target, zone.name), kind) {
        Found::Records { answers, .. } => {
            message.add_answers(answers);
            reply(message)
        }
        Found::Elsewhere => Decision::Chase {
            reply: Box::new(message),
            target,
            kind,
        },
        Found::Alias(_) | Found::NoName => reply(message),
    }
}

fn reply(message: Message) -> Decision {
    Decision::Reply(Box::new(message))
}

/// An empty answer to a request.
fn response(request: &Message) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata.recursion_desired = request.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.add_queries(request.queries.iter().cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_UDP_BYTES);
        message.set_edns(edns);
    }
    message
}

/// An answer that says why there is none.
pub(super) fn failure(request: &Message, code: ResponseCode) -> Message {
    let mut message = response(request);
    message.metadata.response_code = code;
    message
}

/// Adds what was found about an alias's target.
pub(super) fn add_chased(reply: &mut Message, answers: Vec<Record>) {
    reply.metadata.authoritative = false;
    reply.add_answers(answers);
}

/// The message's bytes; an answer that is too large becomes an empty one with the mark that asks for TCP.
pub(super) fn encode(
    message: &Message,
    request: &Message,
    transport: Transport,
) -> Option<Vec<u8>> {
    let limit = match (transport, &request.edns) {
        (Transport::Tcp, _) => MAX_TCP_BYTES,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(CLASSIC_UDP_BYTES, MAX_UDP_BYTES),
        (Transport::Udp, None) => CLASSIC_UDP_BYTES,
    };
    let bytes = message.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    // Without the extras it may fit.
    let mut smaller = message.clone();
    smaller.additionals.clear();
    let bytes = smaller.to_vec().ok()?;
    if bytes.len() <= usize::from(limit) {
        return Some(bytes);
    }
    message.truncate().to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use serde_json::json;

    use super::*;
    use crate::network::{ServiceInfo, SliceInfo};

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
        message
    }

    fn decided(request: &Message, state: Option<&ServiceState>) -> Decision {
        let zone = Name::from_ascii("cluster.local.").expect("name");
        decide(
            request,
            &Cluster {
                zone: &zone,
                server: "10.43.0.10".parse().expect("address"),
                state,
            },
        )
    }

    fn replied(request: &Message, state: Option<&ServiceState>) -> Message {
        match decided(request, state) {
            Decision::Reply(message) => *message,
            other => panic!("no reply: {other:?}"),
        }
    }

    fn crowded(endpoints: usize) -> ServiceState {
        let mut state = ServiceState::default();
        let service =
            json!({"metadata": {"namespace": "ns", "name": "db"}, "spec": {"clusterIP": "None"}});
        let service = serde_json::from_value(service).expect("a Service");
        state.apply_service(ServiceInfo::from_api(&service).expect("complete"));
        let endpoints: Vec<_> = (0..endpoints)
            .map(|i| json!({"addresses": [format!("10.42.1.{i}")]}))
            .collect();
        let slice = json!({
            "metadata": {"namespace": "ns", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "endpoints": endpoints,
        });
        let slice = serde_json::from_value(slice).expect("a slice");
        state.apply_slice(SliceInfo::from_api(&slice).expect("complete"));
        state
    }

    #[test]
    fn unknown_names_get_the_start_of_authority() {
        let state = ServiceState::default();
        let message = replied(
            &question("a.b.svc.cluster.local.", RecordType::A),
            Some(&state),
        );
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        assert_eq!(message.authorities[0].record_type(), RecordType::SOA);
        let unsynced = replied(&question("a.b.svc.cluster.local.", RecordType::A), None);
        assert_eq!(unsynced.metadata.response_code, ResponseCode::ServFail);
        assert!(matches!(
            decided(&question("example.org.", RecordType::A), None),
            Decision::Forward
        ));
    }

    #[test]
    fn large_answers_are_cut_for_udp_only() {
        let state = crowded(200);
        let mut request = question("db.ns.svc.cluster.local.", RecordType::A);
        let message = replied(&request, Some(&state));
        let udp = Message::from_vec(&encode(&message, &request, Transport::Udp).expect("bytes"))
            .expect("message");
        assert!(udp.metadata.truncation && udp.answers.is_empty());
        let tcp = Message::from_vec(&encode(&message, &request, Transport::Tcp).expect("bytes"))
            .expect("message");
        assert!(!tcp.metadata.truncation && tcp.answers.len() == 200);
        let state = crowded(40);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        request.set_edns(edns);
        let message = replied(&request, Some(&state));
        let udp = Message::from_vec(&encode(&message, &request, Transport::Udp).expect("bytes"))
            .expect("message");
        assert!(!udp.metadata.truncation && udp.answers.len() == 40 && udp.edns.is_some());
    }

    #[test]
    fn answers_to_answers_are_not_sent() {
        let mut message = question("example.org.", RecordType::A);
        message.metadata.message_type = MessageType::Response;
        assert!(matches!(decided(&message, None), Decision::Silence));
    }
}
