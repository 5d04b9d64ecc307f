//! What goes wrong, and when: all chosen by the seed.

use raft_store::{Bootstrap, Error, Member};
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::network::{MILLI, Quality};
use super::world::{World, name, url};

/// Most members of a simulated cluster.
const MOST_MEMBERS: usize = 5;

impl World {
    /// Runs for so many milliseconds, with faults.
    pub fn run(&mut self, millis: u64) {
        let end = self.net.now() + millis * MILLI;
        let mut next = self.net.now() + 2_000 * MILLI;
        let mut better = u64::MAX;
        while self.net.now() < end {
            self.step();
            let now = self.net.now();
            if now >= better {
                better = u64::MAX;
                let keep = self.random.random();
                self.tell("the network is whole again");
                self.net.mend(keep);
                self.net.lock().quality = Quality::GOOD;
            }
            if now >= next {
                next = now + self.random.random_range(200..4_000) * MILLI;
                if self.fault() {
                    better = now + self.random.random_range(300..7_000) * MILLI;
                }
            }
        }
    }

    /// Whether it is one of the network.
    fn fault(&mut self) -> bool {
        let at = self.random.random_range(0..self.hosts.len());
        match self.random.random_range(0..100) {
            0..22 => self.lose_power(at),
            22..30 => self.stop(at),
            30..40 => self.pause(at),
            40..47 => self.slow_disk(at),
            47..70 => return self.partition(),
            70..77 => return self.degrade(),
            77..82 => self.everyone_loses_power(),
            82..86 => self.move_leader(),
            86..91 => self.compact(),
            91..95 => self.add_member(),
            95..98 => self.remove_member(),
            _ => self.move_member(at),
        }
        false
    }

    fn back_in(&mut self, most: u64) -> u64 {
        self.net.now() + self.random.random_range(50..most) * MILLI
    }

    fn lose_power(&mut self, at: usize) {
        if self.hosts[at].is_up() {
            self.tell(&format!("{} loses its power", name(at)));
            self.hosts[at].starts_at = self.back_in(8_000);
            self.hosts[at].lose_power(&self.net);
        }
    }

    fn everyone_loses_power(&mut self) {
        for at in 0..self.hosts.len() {
            self.lose_power(at);
        }
    }

    fn stop(&mut self, at: usize) {
        let back = self.back_in(8_000);
        let host = &mut self.hosts[at];
        let Some(store) = host.store() else {
            return;
        };
        host.starts_at = back;
        let slot = host.slot.clone();
        host.spawn(async move {
            store.shutdown().await;
            drop(store);
            *slot.lock().expect("nobody panicked with it") = super::host::Life::Stopped;
        });
        self.tell(&format!("{} is stopped", name(at)));
    }

    fn pause(&mut self, at: usize) {
        self.hosts[at].stands_until = self.back_in(6_000);
        self.tell(&format!("{} stands still", name(at)));
    }

    fn slow_disk(&mut self, at: usize) {
        let slowness = *[1, 10, 100].choose(&mut self.random).expect("not empty");
        self.hosts[at].slowness = slowness;
        self.tell(&format!("the disk of {} is slower by {slowness}", name(at)));
    }

    fn partition(&mut self) -> bool {
        let mut all: Vec<usize> = (0..self.hosts.len()).collect();
        all.shuffle(&mut self.random);
        let (one, other) = all.split_at(self.random.random_range(1..all.len()));
        let (there, back) = *[(true, true), (true, true), (true, false), (false, true)]
            .choose(&mut self.random)
            .expect("it is not empty");
        let mut net = self.net.lock();
        for a in one {
            for b in other {
                if there {
                    net.blocked.insert((*a, *b));
                }
                if back {
                    net.blocked.insert((*b, *a));
                }
            }
        }
        drop(net);
        self.tell(&format!(
            "{one:?} and {other:?} are apart ({there}, {back})"
        ));
        true
    }

    fn degrade(&mut self) -> bool {
        let quality = Quality {
            latency_micros: (100, self.random.random_range(5_000..400_000)),
            reset_ratio: self.random.random_range(10..2_000),
        };
        self.tell(&format!("the network is bad: {quality:?}"));
        self.net.lock().quality = quality;
        true
    }

    fn any_serving(&mut self) -> Option<usize> {
        let serving = self.serving();
        serving.choose(&mut self.random).copied()
    }

    fn known_members(&mut self) -> Option<(usize, Vec<Member>)> {
        let at = self.any_serving()?;
        let pending = self.call(at, |store| async move { store.members(false).await });
        let members = self.await_answer(&pending, 10)?.ok()?;
        Some((at, members))
    }

    fn move_leader(&mut self) {
        let Some((at, members)) = self.known_members() else {
            return;
        };
        let Some(to) = members.choose(&mut self.random).map(|member| member.id) else {
            return;
        };
        self.tell(&format!("leadership is to go to {to:x}"));
        self.call(at, move |store| async move { store.move_leader(to).await });
    }

    /// Compacts no further than the first watch has come: what all others are shown is compared with it.
    fn compact(&mut self) {
        let (Some(at), next) = (self.any_serving(), self.history.lock().watches[0].next) else {
            return;
        };
        if next > 2 {
            let revision = self.random.random_range(1..next);
            self.tell(&format!("compaction to {revision}"));
            self.call(at, move |store| async move {
                store.compact(revision, false).await
            });
        }
    }

    fn add_member(&mut self) {
        let Some((at, members)) = self.known_members() else {
            return;
        };
        if members.len() >= MOST_MEMBERS {
            return;
        }
        let (number, learner) = (self.hosts.len(), self.random.random_ratio(1, 4));
        self.tell(&format!(
            "{} is added (as learner: {learner})",
            name(number)
        ));
        let urls = vec![url(number, 0)];
        let pending = self.call(at, move |store| async move {
            store.member_add(urls, learner).await
        });
        let answer = self.await_answer(&pending, 10_000);
        match answer {
            // It may have been added all the same.
            Some(Ok(_) | Err(Error::Timeout | Error::TimeoutLeaderFailed)) | None => {}
            Some(Err(error)) => return self.tell(&format!("it was not: {error}")),
        }
        let known = members.iter().flat_map(|member| {
            let urls = member.peer_urls.iter();
            urls.map(|url| (member.name.clone(), url.clone()))
        });
        let mut list: Vec<(String, String)> = known.collect();
        list.push((name(number), url(number, 0)));
        self.add_host(Bootstrap::Existing { members: list });
    }

    fn remove_member(&mut self) {
        let Some((at, members)) = self.known_members() else {
            return;
        };
        if members.len() <= 3 {
            return;
        }
        let Some(member) = members.choose(&mut self.random) else {
            return;
        };
        let id = member.id;
        self.tell(&format!("{} ({id:x}) is removed", member.name));
        self.call(
            at,
            move |store| async move { store.member_remove(id).await },
        );
    }

    /// A member gets another address: it says so, and starts again there.
    fn move_member(&mut self, at: usize) {
        let Some((asked, members)) = self.known_members() else {
            return;
        };
        let named = members.iter().find(|member| member.name == name(at));
        let (Some(member), true) = (named, self.hosts[at].is_up()) else {
            return;
        };
        let moves = member.peer_urls[0]
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse::<u32>().ok());
        let new = url(at, moves.expect("a port of ours") - 2380 + 1);
        self.tell(&format!("{} moves to {new}", name(at)));
        let (id, urls) = (member.id, vec![new.clone()]);
        self.call(asked, move |store| async move {
            store.member_update(id, urls).await
        });
        let config = &mut self.hosts[at].config;
        config.peer_urls = vec![new.clone()];
        config.listen_peer_urls.push(new);
        self.lose_power(at);
    }
}
