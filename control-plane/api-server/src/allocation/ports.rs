//! Node ports: each is a key of its own in the store, created and deleted with its Service.

use std::collections::BTreeSet;

use api_machinery::{FieldError, FieldPath, ObjectExt, ObjectMutExt, Status};
use bytes::Bytes;
use rand::Rng;
use serde_json::Value;

use super::{invalid, service_type};
use crate::cache::Held;
use crate::core::Core;
use crate::store::{Compare, Op};
use crate::write::Companions;

const PREFIX: &str = "/registry/ranges/servicenodeports/";
/// The ports that Services may have on nodes.
const FIRST: u16 = 30000;
const LAST: u16 = 32767;
/// Below this, ports are left to those who choose for themselves, while others are free.
const FIRST_RANDOM: u16 = FIRST + 86;

fn key(port: u16) -> Bytes {
    Bytes::from(format!("{PREFIX}{port}"))
}

fn has_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.field(&["spec", "allocateLoadBalancerNodePorts"]) != Some(&Value::Bool(false))
        }
        _ => false,
    }
}

/// Port of health checks for load balancers that keep the client's address.
fn wants_health_port(service: &Value) -> bool {
    service_type(service) == "LoadBalancer"
        && service.text(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn port_of(port: &Value) -> Option<u16> {
    port.number(&["nodePort"])
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n != 0)
}

/// All node ports that a Service has.
fn held(service: &Value) -> BTreeSet<u16> {
    let health = service
        .number(&["spec", "healthCheckNodePort"])
        .and_then(|n| u16::try_from(n).ok());
    let ports = service.list(&["spec", "ports"]).iter().filter_map(port_of);
    ports.chain(health.filter(|p| *p != 0)).collect()
}

/// Ports that a client does not name stay what they were.
pub(super) fn carry_over(object: &mut Value, old: &Value) {
    if !has_ports(object) {
        // A Service that ceases to have node ports need not be told to drop those that it had.
        if has_ports(old) {
            drop_old(object, old);
        }
        return;
    }
    let before = old.list(&["spec", "ports"]).to_vec();
    let identity = |p: &Value| (p["port"].clone(), p.text(&["protocol"]).to_owned());
    let Some(ports) = object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let named: BTreeSet<u16> = ports.iter().filter_map(port_of).collect();
    for port in ports.iter_mut().filter(|p| port_of(p).is_none()) {
        let same = before
            .iter()
            .find(|b| identity(b) == identity(port))
            .and_then(port_of);
        if let Some(same) = same.filter(|s| !named.contains(s)) {
            port.set(&["nodePort"], same);
        }
    }
}

fn drop_old(object: &mut Value, old: &Value) {
    let before = held(old);
    let Some(ports) = object
        .pointer_mut("/spec/ports")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    for port in ports
        .iter_mut()
        .filter(|p| port_of(p).is_some_and(|n| before.contains(&n)))
    {
        port.remove_field(&["nodePort"]);
    }
}

/// Takes ports for `new`, gives back those of `old` that it no longer has.
pub(super) fn plan(
    core: &Core,
    old: Option<&Value>,
    new: &mut Value,
    attempt: usize,
    companions: &mut Companions,
) -> Result<(), Status> {
    let before = old.map(held).unwrap_or_default();
    let mut after = held(new);
    for port in after.difference(&before) {
        check(core, new, *port)?;
    }
    // Only when picking at random has failed is it worth looking at all Services.
    let mut taken = if attempt > 2 {
        used(core)
    } else {
        BTreeSet::new()
    };
    taken.extend(before.iter().chain(&after));
    if has_ports(new)
        && let Some(ports) = new.pointer_mut("/spec/ports").and_then(Value::as_array_mut)
    {
        let mut shared: Vec<(Value, String, u16)> = Vec::new();
        for port in ports.iter_mut() {
            let (number, protocol) = (port["port"].clone(), port.text(&["protocol"]).to_owned());
            if let Some(own) = port_of(port) {
                shared.push((number, protocol, own));
                continue;
            }
            // The same port in another protocol shares the node port.
            let same = shared
                .iter()
                .find(|(n, p, _)| *n == number && *p != protocol)
                .map(|(.., own)| *own);
            let own = match same {
                Some(own) => own,
                None => free(&mut taken)?,
            };
            port.set(&["nodePort"], own);
            after.insert(own);
            shared.push((number, protocol, own));
        }
    }
    if wants_health_port(new) && new.number(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
        let own = free(&mut taken)?;
        new.set(&["spec", "healthCheckNodePort"], own);
        after.insert(own);
    }
    for port in after.difference(&before) {
        companions.compares.push(Compare::ModRevision {
            key: key(*port),
            revision: 0,
        });
        let owner = format!("{}/{}", new.namespace(), new.name());
        companions.ops.push(Op::Put {
            key: key(*port),
            value: owner.into(),
            lease: 0,
        });
    }
    if let Some(old) = old {
        release(old, &after.into_iter().collect::<Vec<_>>(), companions);
    }
    Ok(())
}

/// Gives ports back, but those that are kept.
pub(super) fn release(old: &Value, kept: &[u16], companions: &mut Companions) {
    let gone = held(old).into_iter().filter(|p| !kept.contains(p));
    companions
        .ops
        .extend(gone.map(|port| Op::Delete { key: key(port) }));
}

fn check(core: &Core, service: &Value, port: u16) -> Result<(), Status> {
    let spec = FieldPath::root("spec");
    let ports = service.list(&["spec", "ports"]);
    let index = ports
        .iter()
        .position(|p| port_of(p) == Some(port))
        .unwrap_or(0);
    let list = spec.child("ports");
    let item = list.index(index);
    let path = item.child("nodePort");
    let refused = |why: &str| Err(invalid(service, FieldError::invalid(&path, port, why)));
    if !(FIRST..=LAST).contains(&port) {
        return refused(
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        );
    }
    if used(core).contains(&port) {
        return refused("provided port is already allocated");
    }
    Ok(())
}

/// The node ports of all Services.
fn used(core: &Core) -> BTreeSet<u16> {
    let Some(cache) = core.caches.by_prefix("/registry/services/specs/") else {
        return BTreeSet::new();
    };
    let services = cache.select(&Held::default(), |_| true).objects;
    services
        .iter()
        .flat_map(|service| held(&service.parse()))
        .collect()
}

fn free(taken: &mut BTreeSet<u16>) -> Result<u16, Status> {
    let mut random = rand::rng();
    let start = random.random_range(FIRST_RANDOM..=LAST);
    let candidates = (start..=LAST)
        .chain(FIRST_RANDOM..start)
        .chain(FIRST..FIRST_RANDOM);
    let port = candidates.into_iter().find(|port| !taken.contains(port));
    let port =
        port.ok_or_else(|| Status::internal_error("failed to allocate a nodePort: range is full"))?;
    taken.insert(port);
    Ok(port)
}
