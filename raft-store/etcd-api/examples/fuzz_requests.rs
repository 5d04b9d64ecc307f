//! Feeds every decoder of the API with foreign bytes until the time is over: `fuzz_requests [SEED] [SECONDS] [TARGET]`.
//! Under `ulimit -v 4000000` one that asks for memory beyond its input fails, too.

fn main() {
    raft_store::fuzz::command(&etcd_api::fuzz::targets());
}
