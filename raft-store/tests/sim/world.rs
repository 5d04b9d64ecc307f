//! All machines, the network between them and the world's time, moved on millisecond by millisecond on one thread.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use raft_store::{Bootstrap, Config, Member, Store};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::history::{Held, Shared, Watched, held};
use super::host::{Host, Life};
use super::libc_seam;
use super::network::{MILLI, Net};
use super::workload::{Client, watch};

/// Clients of each member.
const CLIENTS: u64 = 2;
/// Watches of everything, and as many of one key each.
const WATCHES: usize = 3;

pub struct World {
    pub net: Net,
    pub hosts: Vec<Host>,
    pub history: Shared,
    pub random: StdRng,
    pub dir: PathBuf,
    pub verbose: bool,
    next_client: u64,
}

/// What a call that was made on a host has come to.
pub type Pending<T> = Arc<Mutex<Option<T>>>;

impl World {
    pub fn new(seed: u64, dir: PathBuf, verbose: bool) -> Self {
        libc_seam::set_seed(seed);
        libc_seam::set_clock(0);
        raft_store::fault::simulate();
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = Self {
            net: Net::new(random.random()),
            hosts: Vec::new(),
            history: Shared::default(),
            dir,
            verbose,
            next_client: 0,
            random,
        };
        let size = *[3, 3, 5]
            .choose(&mut world.random)
            .expect("it is not empty");
        let list: Vec<(String, String)> = (0..size)
            .map(|number| (name(number), url(number, 0)))
            .collect();
        for _ in 0..size {
            let bootstrap = Bootstrap::Static {
                members: list.clone(),
                token: "simulated".to_owned(),
            };
            world.add_host(bootstrap);
        }
        let watches = (0..2 * WATCHES).map(|at| Watched {
            key: (at >= WATCHES).then(|| format!("k{}", at - WATCHES)),
            next: 1,
            shown: Vec::new(),
            events: BTreeMap::new(),
            attached: false,
        });
        world.history.lock().watches.extend(watches);
        world
    }

    pub fn add_host(&mut self, bootstrap: Bootstrap) -> usize {
        let number = self.hosts.len();
        let mut config = Config::new(self.dir.join(name(number)));
        config.name = name(number);
        config.peer_urls = vec![url(number, 0)];
        config.listen_peer_urls = vec![url(number, 0)];
        config.client_urls = vec![format!("http://{}:2379", name(number))];
        config.bootstrap = bootstrap;
        config.peer_network = Some(self.net.of_host(number));
        config.log_segment_bytes = 64 * 1024;
        config.block_cache_bytes = 1024 * 1024;
        config.watch_ring_bytes = 8 * 1024;
        config.quota_backend_bytes = 0;
        config.disk_reserve_bytes = 0;
        let rate = self.random.random_range(950_000..1_050_000);
        let mut host = Host::new(number, config, rate);
        host.start(&self.history);
        self.hosts.push(host);
        number
    }

    pub fn tell(&self, what: &str) {
        if self.verbose {
            println!("{:9.3} {what}", self.net.now() as f64 / 1e9);
        }
    }

    /// One millisecond.
    pub fn step(&mut self) {
        self.net.advance(MILLI);
        let now = self.net.now();
        let mut order: Vec<usize> = (0..self.hosts.len()).collect();
        order.shuffle(&mut self.random);
        for at in order {
            for poked in self.net.take_poked() {
                self.hosts[poked].poke();
            }
            self.hosts[at].run(now);
            self.look_after(at, now);
        }
        if now.is_multiple_of(20 * MILLI) {
            self.attach_watches();
        }
    }

    /// Starts what is due, and clears away what has ended.
    fn look_after(&mut self, at: usize, now: u64) {
        let host = &mut self.hosts[at];
        if !host.is_up() {
            if !host.retired && host.starts_at <= now {
                self.net.reset(|from, to| from == at || to == at);
                self.hosts[at].start(&self.history);
                self.tell(&format!("{} starts", name(at)));
            }
            return;
        }
        let life = host.slot.lock().expect("nobody panicked with it").clone();
        match life {
            Life::Starting => {}
            Life::Serving(store) => {
                if !host.busy {
                    host.busy = true;
                    self.start_clients(at, &store);
                }
            }
            Life::Over(why) => {
                host.retired = true;
                host.clear();
                self.tell(&format!("{} is over: {why}", name(at)));
            }
            Life::Stopped => host.clear(),
        }
    }

    fn start_clients(&mut self, at: usize, store: &Store) {
        for _ in 0..CLIENTS {
            self.next_client += 1;
            let client = Client::new(
                self.next_client,
                self.random.random(),
                store.clone(),
                self.net.clone(),
                self.history.clone(),
            );
            self.hosts[at].spawn(client.run());
        }
    }

    /// Members that serve.
    pub fn serving(&self) -> Vec<usize> {
        let serves = |at: &usize| self.hosts[*at].is_up() && self.hosts[*at].store().is_some();
        (0..self.hosts.len()).filter(serves).collect()
    }

    /// Watches whose member went away go on at another.
    fn attach_watches(&mut self) {
        let count = self.history.lock().watches.len();
        for at in 0..count {
            let serving = self.serving();
            let Some(host) = serving.choose(&mut self.random) else {
                return;
            };
            let mut history = self.history.lock();
            let watched = &mut history.watches[at];
            if watched.attached {
                continue;
            }
            watched.attached = true;
            drop(history);
            let host = &self.hosts[*host];
            let store = host.store().expect("it serves");
            let work = watch(at, store, self.net.clone(), self.history.clone());
            let guard = Detach(self.history.clone(), at);
            host.spawn(async move {
                let _guard = guard;
                work.await;
            });
        }
    }

    /// Makes a call on a member.
    pub fn call<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        at: usize,
        make: impl FnOnce(Store) -> F,
    ) -> Pending<T> {
        let pending = Pending::default();
        let host = &self.hosts[at];
        let Some(store) = host.store() else {
            return pending;
        };
        let (work, answer) = (make(store), pending.clone());
        host.spawn(async move {
            let done = work.await;
            *answer.lock().expect("nobody panicked with it") = Some(done);
        });
        pending
    }

    /// Lets time pass until a call is answered, at most so many milliseconds.
    pub fn await_answer<T>(&mut self, pending: &Pending<T>, millis: u64) -> Option<T> {
        for _ in 0..millis {
            if let Some(done) = pending.lock().expect("nobody panicked with it").take() {
                return Some(done);
            }
            self.step();
        }
        None
    }

    /// The cluster's members, as the cluster says; asks until one member can answer.
    pub fn members(&mut self, millis: u64) -> Option<Vec<Member>> {
        let until = self.net.now() + millis * MILLI;
        while self.net.now() < until {
            for at in self.serving() {
                let pending = self.call(at, |store| async move { store.members(true).await });
                if let Some(Ok(members)) = self.await_answer(&pending, 8_000) {
                    return Some(members);
                }
            }
            self.step();
        }
        None
    }

    /// Everything works again; then all must come to agree. What does not is a violation.
    pub fn settle(&mut self) {
        self.net.mend(false);
        self.net.lock().quality = super::network::Quality::GOOD;
        let now = self.net.now();
        for host in &mut self.hosts {
            host.stands_until = 0;
            host.slowness = 1;
            host.starts_at = host.starts_at.min(now);
        }
        self.tell("everything works again");
        // Leases end, new members catch up.
        for _ in 0..6_000 {
            self.step();
        }
        self.history.lock().stop = true;
        for _ in 0..6_000 {
            self.step();
        }
        let Some(members) = self.members(60_000) else {
            return self
                .history
                .violation("no member answers in the end".to_owned());
        };
        self.tell(&format!("in the end: {members:?}"));
        for member in members.iter().filter(|member| !member.name.is_empty()) {
            self.check_member(member);
        }
        let newest = self.history.lock().log.keys().next_back().copied();
        let behind: Vec<String> = {
            let history = self.history.lock();
            let newest = newest.unwrap_or(1);
            let behind = history
                .watches
                .iter()
                .enumerate()
                .filter(|(_, watch)| watch.key.is_none() && watch.next != newest + 1);
            behind
                .map(|(at, watch)| {
                    format!("watch {at} waits for {}, {newest} is there", watch.next)
                })
                .collect()
        };
        self.history.lock().violations.extend(behind);
        self.check_hashes(&members);
    }

    fn host_of(&self, member: &Member) -> Option<usize> {
        self.serving()
            .into_iter()
            .find(|at| self.hosts[*at].config.name == member.name)
    }

    /// The member holds what the log says.
    fn check_member(&mut self, member: &Member) {
        let Some(at) = self.host_of(member) else {
            return self
                .history
                .violation(format!("{} does not serve", member.name));
        };
        let all = self.call(at, |store| async move {
            let request = raft_store::RangeRequest {
                range: raft_store::KeyRange::all(),
                ..Default::default()
            };
            store.range(request).await
        });
        let answer = match self.await_answer(&all, 20_000) {
            Some(Ok(answer)) => answer,
            other => {
                return self
                    .history
                    .violation(format!("{} in the end: {other:?}", member.name));
            }
        };
        let read: BTreeMap<String, Held> = answer.kvs.iter().map(held).collect();
        let mut expected = BTreeMap::new();
        let mut history = self.history.lock();
        for (key, new) in history.log.values().flatten() {
            match new {
                Some(held) => expected.insert(key.clone(), held.clone()),
                None => expected.remove(key),
            };
        }
        let newest = history.log.keys().next_back().copied().unwrap_or(1);
        if read != expected || answer.revision != newest {
            history.violations.push(format!(
                "{} holds {read:?} at {}, the log makes {expected:?} at {newest}",
                member.name, answer.revision
            ));
        }
    }

    fn check_hashes(&mut self, members: &[Member]) {
        let mut hashes = BTreeMap::new();
        for member in members {
            let Some(at) = self.host_of(member) else {
                continue;
            };
            let pending = self.call(at, |store| async move { store.hash_kv(0).await });
            match self.await_answer(&pending, 20_000) {
                Some(Ok(hash)) => {
                    hashes.insert(
                        member.name.clone(),
                        (hash.revision, hash.compact_revision, hash.hash),
                    );
                }
                other => self
                    .history
                    .violation(format!("{}: {other:?}", member.name)),
            }
        }
        let distinct: std::collections::BTreeSet<_> = hashes.values().collect();
        if distinct.len() > 1 {
            self.history
                .violation(format!("the hashes differ: {hashes:?}"));
        }
    }
}

/// A watch is free again when its member goes away.
struct Detach(Shared, usize);

impl Drop for Detach {
    fn drop(&mut self) {
        self.0.lock().watches[self.1].attached = false;
    }
}

pub fn name(number: usize) -> String {
    format!("m{number}")
}

/// Where host `number` listens after so many moves.
pub fn url(number: usize, moves: u32) -> String {
    format!("http://{}:{}", name(number), 2380 + moves)
}
