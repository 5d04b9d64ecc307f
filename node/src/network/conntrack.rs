//! Deletes connection-tracking entries of UDP flows whose endpoint is gone, over netlink.
//!
//! A UDP client that keeps its port would be sent to the removed endpoint for as long as it talks: its entry never
//! expires. TCP needs no help, its connections break by themselves. It must not know Services.

use std::net::{IpAddr, SocketAddr};

use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr};

/// `NETLINK_NETFILTER`
const NETLINK_NETFILTER: isize = 12;
/// Messages of connection tracking: subsystem 1, message 0 (new), 1 (get), 2 (delete).
const CT_NEW: u16 = 0x100;
const CT_GET: u16 = 0x101;
const CT_DELETE: u16 = 0x102;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
/// Attributes of an entry.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
/// Attributes of a tuple.
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const IPPROTO_UDP: u8 = 17;
/// Bytes of a netlink header and of the netfilter header behind it.
const HEADERS: usize = 20;
/// The most entries deleted in one go; the rest waits for the next change.
const MAX_DELETED: usize = 100_000;

/// A UDP flow as connection tracking sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// What the client addressed: a Service.
    pub(crate) destination: SocketAddr,
    /// Who answers: an endpoint.
    pub(crate) endpoint: SocketAddr,
}

/// Deletes the UDP flows that `stale` picks; gives their number. It blocks while the kernel lists its entries.
pub(crate) fn forget_udp_flows(stale: impl Fn(&Flow) -> bool) -> std::io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    socket.send(&message(CT_GET, NLM_F_REQUEST | NLM_F_DUMP, &[]), 0)?;
    let mut tuples: Vec<Vec<u8>> = Vec::new();
    'dump: loop {
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, payload) in messages(&bytes) {
            match kind {
                NLMSG_DONE => break 'dump,
                NLMSG_ERROR => error_of(payload)?,
                CT_NEW => {
                    if let Some((flow, tuple)) = parse_entry(payload)
                        && tuples.len() < MAX_DELETED
                        && stale(&flow)
                    {
                        tuples.push(tuple.to_vec());
                    }
                }
                _ => {}
            }
        }
    }
    for tuple in &tuples {
        let attribute = attribute(CTA_TUPLE_ORIG | 0x8000, tuple);
        socket.send(
            &message(CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, &attribute),
            0,
        )?;
        let (bytes, _) = socket.recv_from_full()?;
        for (kind, payload) in messages(&bytes) {
            // An entry that has gone meanwhile is as good as deleted.
            match (kind == NLMSG_ERROR).then(|| error_of(payload)) {
                Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error);
                }
                _ => {}
            }
        }
    }
    Ok(tuples.len())
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attributes.len()).expect("a message of ours is small");
    let mut out = Vec::with_capacity(HEADERS + attributes.len());
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend([0; 8]); // sequence number and port
    out.extend([nix::libc::AF_INET as u8, 0, 0, 0]); // netfilter: family, version, resource
    out.extend(attributes);
    out
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("a tuple is small");
    let mut out = Vec::with_capacity(4 + value.len());
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out
}

fn error_of(payload: &[u8]) -> std::io::Result<()> {
    let code = payload
        .first_chunk::<4>()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        Ok(())
    } else {
        Err(std::io::Error::from_raw_os_error(-code))
    }
}

/// The messages in a datagram: type and what follows the netlink header.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
        let payload = bytes.get(16..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

/// The attributes in a buffer: type without flags, and value.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(found, _)| *found == kind)
        .map(|(_, value)| value)
}

/// A UDP entry's flow, and the bytes that name it in a request.
fn parse_entry(payload: &[u8]) -> Option<(Flow, &[u8])> {
    let entry = payload.get(4..)?;
    let original = find(entry, CTA_TUPLE_ORIG)?;
    let reply = find(entry, CTA_TUPLE_REPLY)?;
    if find(find(original, CTA_TUPLE_PROTO)?, 1)? != [IPPROTO_UDP] {
        return None;
    }
    let flow = Flow {
        destination: tuple_end(original, End::Destination)?,
        endpoint: tuple_end(reply, End::Source)?,
    };
    Some((flow, original))
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

fn tuple_end(tuple: &[u8], end: End) -> Option<SocketAddr> {
    let (v4, v6, port) = match end {
        End::Source => (1, 3, 2),
        End::Destination => (2, 4, 3),
    };
    let ip = find(tuple, CTA_TUPLE_IP)?;
    let address = match find(ip, v4) {
        Some(bytes) => IpAddr::from(*bytes.first_chunk::<4>()?),
        None => IpAddr::from(*find(ip, v6)?.first_chunk::<16>()?),
    };
    let port = u16::from_be_bytes(*find(find(tuple, CTA_TUPLE_PROTO)?, port)?.first_chunk()?);
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(mut attribute: Vec<u8>) -> Vec<u8> {
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn tuple(source: ([u8; 4], u16), destination: ([u8; 4], u16), protocol: u8) -> Vec<u8> {
        let ip = [
            padded(attribute(1, &source.0)),
            padded(attribute(2, &destination.0)),
        ]
        .concat();
        let ports = [
            padded(attribute(1, &[protocol])),
            padded(attribute(2, &source.1.to_be_bytes())),
            padded(attribute(3, &destination.1.to_be_bytes())),
        ];
        [attribute(0x8001, &ip), attribute(0x8002, &ports.concat())].concat()
    }

    fn entry(protocol: u8) -> Vec<u8> {
        let client = ([10, 42, 0, 7], 4000);
        let endpoint = ([10, 42, 0, 5], 5353);
        let original = tuple(client, ([10, 43, 0, 9], 53), protocol);
        let reply = tuple(endpoint, client, protocol);
        [
            vec![2, 0, 0, 0],
            attribute(0x8001, &original),
            attribute(0x8002, &reply),
        ]
        .concat()
    }

    #[test]
    fn udp_entries_are_read_and_others_left() {
        let bytes = entry(IPPROTO_UDP);
        let (flow, _) = parse_entry(&bytes).expect("UDP");
        assert_eq!(flow.destination.to_string(), "10.43.0.9:53");
        assert_eq!(flow.endpoint.to_string(), "10.42.0.5:5353");
        assert!(parse_entry(&entry(6)).is_none());
        assert!(
            parse_entry(&bytes[..20]).is_none(),
            "a cut message is no entry"
        );
    }

    #[test]
    fn several_messages_in_one_datagram() {
        let mut bytes = message(CT_NEW, 0, &entry(IPPROTO_UDP)[4..]);
        bytes.extend(message(NLMSG_DONE, 0, &[]));
        let kinds: Vec<u16> = messages(&bytes).map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [CT_NEW, NLMSG_DONE]);
    }
}
