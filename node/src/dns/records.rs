//! The records of the cluster's names, from the state of Services.
//!
//! Pure: state and place in, records out. It must not know messages or sockets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::names::{Place, dashed, dashed_address};
use crate::network::{Endpoint, ServiceInfo, ServiceState};

/// Seconds that an answer may be kept: short, since endpoints come and go.
pub(super) const TTL_SECONDS: u32 = 5;
/// The version of the DNS specification that is followed.
const SPECIFICATION: &str = "1.1.0";
/// The most records in one answer; more would not fit in a message anyway.
const MAX_RECORDS: usize = 1000;

/// What is known about a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// Answers, and records that go with them. No answers: the name exists, but not with this type.
    Records {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name stands for another one outside of the cluster, which must be looked up in turn.
    Alias(Name),
    /// There is no such name.
    NoName,
    /// Others must be asked.
    Elsewhere,
}

/// The cluster's domain and the state to answer from.
pub(super) struct Zone<'a> {
    pub(super) name: &'a Name,
    pub(super) server: IpAddr,
    pub(super) state: &'a ServiceState,
}

fn records(answers: Vec<Record>) -> Found {
    Found::Records {
        answers,
        additionals: Vec::new(),
    }
}

/// Turns addresses into those records that a question of a type wants.
fn addresses(
    name: &Name,
    kind: RecordType,
    addresses: impl Iterator<Item = IpAddr>,
) -> Vec<Record> {
    let wanted = |address: &IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        RecordType::ANY | RecordType::SRV => true,
        _ => false,
    };
    let unique: BTreeSet<IpAddr> = addresses.filter(wanted).take(MAX_RECORDS).collect();
    let record = |address| {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        Record::from_rdata(name.clone(), TTL_SECONDS, data)
    };
    unique.into_iter().map(record).collect()
}

fn asks(kind: RecordType, for_type: RecordType) -> bool {
    kind == for_type || kind == RecordType::ANY
}

impl Zone<'_> {
    /// Looks up a name whose place is known.
    pub(super) fn find(&self, name: &Name, place: &Place, kind: RecordType) -> Found {
        match place {
            Place::Apex => records(self.apex(name, kind)),
            Place::Version => {
                let text = RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]));
                let answer = asks(kind, RecordType::TXT)
                    .then(|| Record::from_rdata(name.clone(), TTL_SECONDS, text));
                records(answer.into_iter().collect())
            }
            Place::Server => records(addresses(name, kind, std::iter::once(self.server))),
            Place::Empty => records(Vec::new()),
            Place::Namespace(namespace) if self.state.has_namespace(namespace) => {
                records(Vec::new())
            }
            Place::Namespace(_) | Place::Nothing => Found::NoName,
            Place::Service { namespace, service } => self.service(name, namespace, service, kind),
            Place::Port {
                namespace,
                service,
                port,
                protocol,
            } => self.port(name, namespace, service, port, protocol, kind),
            Place::Endpoint {
                namespace,
                service,
                hostname,
            } => self.endpoint(name, namespace, service, hostname, kind),
            Place::Pod { address } => records(addresses(name, kind, std::iter::once(*address))),
            Place::Reverse(address) => self.reverse(name, *address, kind),
            Place::Outside => Found::Elsewhere,
        }
    }

    /// The start of authority, which also says how long "there is none" may be kept.
    pub(super) fn soa(&self) -> Record {
        let hostmaster = self
            .name
            .prepend_label("hostmaster")
            .unwrap_or_else(|_| self.name.clone());
        let soa = SOA::new(
            self.server_name(),
            hostmaster,
            1,
            7200,
            1800,
            86_400,
            TTL_SECONDS,
        );
        Record::from_rdata(self.name.clone(), TTL_SECONDS, RData::SOA(soa))
    }

    fn server_name(&self) -> Name {
        let dns = self
            .name
            .prepend_label("dns")
            .and_then(|dns| dns.prepend_label("ns"));
        dns.unwrap_or_else(|_| self.name.clone())
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let mut answers = Vec::new();
        if asks(kind, RecordType::SOA) {
            answers.push(self.soa());
        }
        if asks(kind, RecordType::NS) {
            answers.push(Record::from_rdata(
                name.clone(),
                TTL_SECONDS,
                RData::NS(NS(self.server_name())),
            ));
        }
        answers
    }

    fn service(&self, name: &Name, namespace: &str, service: &str, kind: RecordType) -> Found {
        let Some(service) = self.state.service(namespace, service) else {
            return Found::NoName;
        };
        if let Some(target) = &service.external_name {
            return alias(target);
        }
        if service.headless && self.endpoints(service).next().is_none() {
            // As with every name server that reads endpoints: no endpoints, no name.
            return Found::NoName;
        }
        if kind == RecordType::SRV {
            return self.ports(name, service, |_, _| true);
        }
        if service.headless {
            records(addresses(
                name,
                kind,
                self.endpoints(service).map(|endpoint| endpoint.address),
            ))
        } else {
            records(addresses(name, kind, service.cluster_ips.iter().copied()))
        }
    }

    /// The endpoints that have names: ready ones, or all where the Service wants them published.
    fn endpoints<'s>(&'s self, service: &'s ServiceInfo) -> impl Iterator<Item = &'s Endpoint> {
        let slices = self.state.slices(&service.key()).collect::<Vec<_>>();
        slices
            .into_iter()
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.ready || service.publish_not_ready)
    }

    fn port(
        &self,
        name: &Name,
        namespace: &str,
        service: &str,
        port: &str,
        protocol: &str,
        kind: RecordType,
    ) -> Found {
        let Some(service) = self.state.service(namespace, service) else {
            return Found::NoName;
        };
        if let Some(target) = &service.external_name {
            return alias(target);
        }
        let wanted = |found_port: &str, found_protocol: &str| {
            found_protocol == protocol && found_port.eq_ignore_ascii_case(port)
        };
        match self.ports(name, service, wanted) {
            Found::Records { answers, .. } if answers.is_empty() => Found::NoName,
            _ if !asks(kind, RecordType::SRV) => records(Vec::new()),
            found => found,
        }
    }

    /// SRV records of those ports whose name and protocol are wanted, with the addresses of their targets.
    fn ports(
        &self,
        name: &Name,
        service: &ServiceInfo,
        wanted: impl Fn(&str, &str) -> bool,
    ) -> Found {
        let Some(base) = self.service_name(service) else {
            return Found::NoName;
        };
        let mut targets: Vec<(Name, u16, Vec<IpAddr>)> = Vec::new();
        if service.headless {
            for slice in self.state.slices(&service.key()) {
                let ports = slice
                    .ports
                    .iter()
                    .filter(|port| wanted(&port.name, port.protocol.lowercase()));
                for port in ports {
                    for endpoint in &slice.endpoints {
                        if (endpoint.ready || service.publish_not_ready)
                            && let Ok(target) = base.prepend_label(endpoint_label(endpoint))
                        {
                            targets.push((target, port.port, vec![endpoint.address]));
                        }
                    }
                }
            }
        } else {
            let ports = service
                .ports
                .iter()
                .filter(|port| wanted(&port.name, port.protocol.lowercase()));
            targets
                .extend(ports.map(|port| (base.clone(), port.port, service.cluster_ips.clone())));
        }
        targets.truncate(MAX_RECORDS);
        let weight = 100 / u16::try_from(targets.len().max(1)).unwrap_or(100);
        let mut answers = Vec::with_capacity(targets.len());
        let mut additionals: Vec<Record> = Vec::new();
        for (target, port, ips) in targets {
            for record in addresses(&target, RecordType::SRV, ips.into_iter()) {
                if !additionals.contains(&record) {
                    additionals.push(record);
                }
            }
            let data = RData::SRV(SRV::new(0, weight.max(1), port, target));
            answers.push(Record::from_rdata(name.clone(), TTL_SECONDS, data));
        }
        Found::Records {
            answers,
            additionals,
        }
    }

    fn endpoint(
        &self,
        name: &Name,
        namespace: &str,
        service: &str,
        hostname: &str,
        kind: RecordType,
    ) -> Found {
        let Some(service) = self.state.service(namespace, service) else {
            return Found::NoName;
        };
        let named = |endpoint: &&Endpoint| match &endpoint.hostname {
            Some(own) => own.eq_ignore_ascii_case(hostname),
            None => dashed_address(hostname) == Some(endpoint.address),
        };
        let found: Vec<IpAddr> = self
            .endpoints(service)
            .filter(named)
            .map(|endpoint| endpoint.address)
            .collect();
        if found.is_empty() {
            return Found::NoName;
        }
        records(addresses(name, kind, found.into_iter()))
    }

    fn reverse(&self, name: &Name, address: IpAddr, kind: RecordType) -> Found {
        let mut targets = BTreeSet::new();
        if let Some(service) = self.state.service_of_cluster_ip(address) {
            targets.extend(self.service_name(service));
        } else {
            for service in self
                .state
                .services_of_endpoint(address)
                .filter(|service| service.headless)
            {
                let Some(base) = self.service_name(service) else {
                    continue;
                };
                for endpoint in self
                    .endpoints(service)
                    .filter(|endpoint| endpoint.address == address)
                {
                    targets.extend(base.prepend_label(endpoint_label(endpoint)));
                }
            }
        }
        if targets.is_empty() {
            return Found::Elsewhere;
        }
        let pointer =
            |target| Record::from_rdata(name.clone(), TTL_SECONDS, RData::PTR(PTR(target)));
        let targets = targets.into_iter().filter(|_| asks(kind, RecordType::PTR));
        records(targets.take(MAX_RECORDS).map(pointer).collect())
    }

    fn service_name(&self, service: &ServiceInfo) -> Option<Name> {
        let labels = [service.name.as_str(), service.namespace.as_str(), "svc"];
        labels
            .iter()
            .rev()
            .try_fold(self.name.clone(), |name, label| name.prepend_label(*label))
            .ok()
    }
}

fn endpoint_label(endpoint: &Endpoint) -> String {
    endpoint
        .hostname
        .clone()
        .unwrap_or_else(|| dashed(endpoint.address))
}

fn alias(target: &str) -> Found {
    match Name::from_utf8(target) {
        Ok(mut target) => {
            target.set_fqdn(true);
            Found::Alias(target)
        }
        Err(_) => Found::NoName,
    }
}

/// The alias itself as a record.
pub(super) fn cname(name: &Name, target: &Name) -> Record {
    Record::from_rdata(
        name.clone(),
        TTL_SECONDS,
        RData::CNAME(CNAME(target.clone())),
    )
}

#[cfg(test)]
#[path = "records/tests.rs"]
mod tests;
