//! Which packets each host loses under a fault of the links. Pure.

use std::net::Ipv4Addr;

use super::Kind;
use crate::cluster::Drop;

/// Share of packets that [`Kind::Loss`] loses.
const LOSS_PERCENT: u64 = 15;

/// Addresses of all hosts, and of the clients.
pub struct Links {
    pub hosts: Vec<Ipv4Addr>,
    pub clients: Ipv4Addr,
}

impl Links {
    /// What each host loses while `targets` are hit.
    pub fn drops(&self, kind: Kind, targets: &[usize]) -> Vec<Vec<Drop>> {
        let mut drops = vec![Vec::new(); self.hosts.len()];
        let all = 0..self.hosts.len();
        match kind {
            Kind::Isolate | Kind::Flap | Kind::CutOff => {
                // Each target stands alone.
                for a in all.clone() {
                    for b in all.clone() {
                        if a != b && (targets.contains(&a) || targets.contains(&b)) {
                            drops[a].push(self.from(b, 100));
                        }
                    }
                }
                if kind == Kind::CutOff {
                    for target in targets {
                        drops[*target].push(Drop {
                            from: self.clients,
                            percent: 100,
                        });
                    }
                }
            }
            Kind::OneWay => {
                for target in targets {
                    let others = all.clone().filter(|other| other != target);
                    drops[*target].extend(others.map(|other| self.from(other, 100)));
                }
            }
            Kind::Bridge => {
                // The first target is the bridge's one end, the next host the other.
                let a = targets.first().copied().unwrap_or(0);
                let b = (a + 1) % self.hosts.len();
                drops[a].push(self.from(b, 100));
                drops[b].push(self.from(a, 100));
            }
            Kind::Loss => {
                for a in all.clone() {
                    for b in all.clone() {
                        if a != b && (targets.contains(&a) || targets.contains(&b)) {
                            drops[a].push(self.from(b, LOSS_PERCENT));
                        }
                    }
                }
            }
            _ => {}
        }
        drops
    }

    fn from(&self, host: usize, percent: u64) -> Drop {
        Drop {
            from: self.hosts[host],
            percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_have_their_shapes() {
        let address = |last| Ipv4Addr::new(10, 0, 0, last);
        let links = Links {
            hosts: vec![address(10), address(11), address(12)],
            clients: address(1),
        };
        let check = |kind, targets: &[usize], expect: [&[u8]; 3]| {
            let drops = links.drops(kind, targets);
            let found: Vec<Vec<u8>> = drops
                .iter()
                .map(|drops| drops.iter().map(|drop| drop.from.octets()[3]).collect())
                .collect();
            assert_eq!(found, expect, "{kind} {targets:?}");
        };
        check(Kind::Isolate, &[0], [&[11, 12], &[10], &[10]]);
        check(Kind::Isolate, &[0, 1], [&[11, 12], &[10, 12], &[10, 11]]);
        check(Kind::CutOff, &[2], [&[12], &[12], &[10, 11, 1]]);
        check(Kind::OneWay, &[0], [&[11, 12], &[], &[]]);
        check(Kind::Bridge, &[2], [&[12], &[], &[10]]);
        check(Kind::Loss, &[1], [&[11], &[10, 12], &[11]]);
        check(Kind::Kill, &[1], [&[], &[], &[]]);
    }
}
