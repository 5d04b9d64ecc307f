//! ClusterIPs: each is an IPAddress object (KEP-1880), created and deleted with its Service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api_machinery::{
    FieldError, FieldPath, ObjectExt, ObjectMutExt, Status, Timestamp, format_time,
};
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{invalid, needs_address};
use crate::core::Core;
use crate::store::{Compare, Op};
use crate::write::Companions;

const PREFIX: &str = "/registry/ipaddresses/";
/// Free addresses are looked for at random this often before all are tried in order.
const RANDOM_TRIES: usize = 32;

fn key(address: IpAddr) -> Bytes {
    Bytes::from(format!("{PREFIX}{address}"))
}

/// The address that a Service has or asks for; none if it wants none.
fn own(service: &Value) -> Option<Result<IpAddr, String>> {
    let text = match service.text(&["spec", "clusterIP"]) {
        "" => service
            .list(&["spec", "clusterIPs"])
            .first()
            .and_then(Value::as_str)
            .unwrap_or_default(),
        text => text,
    };
    match text {
        "" | "None" => None,
        text => Some(text.parse().map_err(|_| text.to_owned())),
    }
}

fn is_headless(service: &Value) -> bool {
    let first = service
        .list(&["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str);
    service.text(&["spec", "clusterIP"]) == "None" || first == Some("None")
}

/// Takes an address for `new`, gives back the one of `old` that it no longer has.
pub(super) fn plan(
    core: &Core,
    old: Option<&Value>,
    new: &mut Value,
    companions: &mut Companions,
) -> Result<(), Status> {
    let held = old
        .filter(|o| needs_address(o))
        .and_then(own)
        .and_then(Result::ok);
    let release = |companions: &mut Companions| {
        if let Some(held) = held {
            companions.ops.push(Op::Delete { key: key(held) });
        }
    };
    if !needs_address(new) {
        release(companions);
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove_field(&["spec", field]);
        }
        return Ok(());
    }
    let (network, _) = core.settings.service_cidr;
    let family = if network.is_ipv4() { "IPv4" } else { "IPv6" };
    new.set_default(&["spec", "ipFamilies"], json!([family]));
    new.set_default(&["spec", "ipFamilyPolicy"], "SingleStack");
    if is_headless(new) {
        release(companions);
        new.set(&["spec", "clusterIP"], "None");
        new.set(&["spec", "clusterIPs"], json!(["None"]));
        return Ok(());
    }
    let address = match own(new) {
        Some(Ok(address)) if held == Some(address) => address,
        Some(Ok(address)) => {
            check(core, new, address)?;
            address
        }
        // What is no address is refused by validation; this is for those who skip it.
        Some(Err(text)) => return Err(refused(new, &text, "must be a valid IP address")),
        None => free(core).ok_or_else(|| {
            Status::internal_error("failed to allocate a serviceIP: range is full")
        })?,
    };
    new.set(&["spec", "clusterIP"], address.to_string());
    new.set(&["spec", "clusterIPs"], json!([address.to_string()]));
    if held != Some(address) {
        release(companions);
        companions.compares.push(Compare::ModRevision {
            key: key(address),
            revision: 0,
        });
        let value = Bytes::from(object(address, new).to_string());
        companions.ops.push(Op::Put {
            key: key(address),
            value,
            lease: 0,
        });
    }
    Ok(())
}

/// Gives the address of a Service back.
pub(super) fn release(old: &Value, companions: &mut Companions) {
    if let Some(Ok(address)) = own(old).filter(|_| needs_address(old)) {
        companions.ops.push(Op::Delete { key: key(address) });
    }
}

fn refused(service: &Value, address: &str, why: &str) -> Status {
    let path = FieldPath::root("spec");
    let detail = format!("failed to allocate IP {address}: {why}");
    invalid(
        service,
        FieldError::invalid(&path.child("clusterIPs"), json!([address]), detail),
    )
}

fn check(core: &Core, service: &Value, address: IpAddr) -> Result<(), Status> {
    let (first, size) = range(core);
    let offset = number(address).checked_sub(first);
    let inside = address.is_ipv4() == core.settings.service_cidr.0.is_ipv4()
        && offset.is_some_and(|o| o < size);
    if !inside {
        let why = "the provided network does not match the current range";
        return Err(refused(service, &address.to_string(), why));
    }
    if is_taken(core, address) {
        return Err(refused(
            service,
            &address.to_string(),
            "provided IP is already allocated",
        ));
    }
    Ok(())
}

fn is_taken(core: &Core, address: IpAddr) -> bool {
    core.caches
        .by_prefix(PREFIX)
        .is_some_and(|cache| cache.get(&address.to_string()).is_some())
}

/// The first usable address as a number, and how many there are: without the network's own and the broadcast address.
fn range(core: &Core) -> (u128, u128) {
    let (network, length) = core.settings.service_cidr;
    let bits = if network.is_ipv4() { 32 } else { 128 };
    let host_bits = u32::from(bits - length.min(bits)).min(16 + 4);
    let size = 1_u128 << host_bits;
    let mask = !(size - 1);
    (
        (number(network) & mask) + 1,
        if network.is_ipv4() {
            size.saturating_sub(2)
        } else {
            size - 1
        },
    )
}

/// A free address: from the upper part of the range first, which leaves the lower to those who choose for themselves.
fn free(core: &Core) -> Option<IpAddr> {
    let (first, size) = range(core);
    let lower = (size / 16).clamp(16, 256).min(size);
    let is_ipv4 = core.settings.service_cidr.0.is_ipv4();
    let mut random = rand::rng();
    if lower < size {
        for _ in 0..RANDOM_TRIES {
            let candidate = from_number(first + random.random_range(lower..size), is_ipv4);
            if !is_taken(core, candidate) {
                return Some(candidate);
            }
        }
    }
    // The very first one is the API server's own.
    let in_order = (lower..size)
        .chain(1..lower)
        .map(|offset| from_number(first + offset, is_ipv4));
    in_order
        .into_iter()
        .find(|candidate| !is_taken(core, *candidate))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, is_ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(v4) if is_ipv4 => IpAddr::V4(Ipv4Addr::from(v4)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The first address of a network: that of the `kubernetes` Service.
pub(crate) fn first_address(core: &Core) -> IpAddr {
    from_number(range(core).0, core.settings.service_cidr.0.is_ipv4())
}

fn object(address: IpAddr, service: &Value) -> Value {
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address.to_string(),
            "uid": Uuid::new_v4().to_string(),
            "creationTimestamp": format_time(Timestamp::now()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services", "namespace": service.namespace(), "name": service.name(),
        }},
    })
}
