//! Feeds every decoder of the store with mutated bytes until the time is over: `fuzz_decoders [SEED] [SECONDS]`.
//!
//! Each input follows from the seed and its number, both of which are printed before a failure ends the run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| {
        args.next()
            .map_or(default, |text| text.parse().unwrap_or(default))
    };
    let (seed, seconds) = (number(1), number(60));
    let samples = raft_store::fuzz::samples();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut done = 0u64;
    while Instant::now() < end {
        for _ in 0..10_000 {
            let data = input(&samples, seed, done);
            let decode = AssertUnwindSafe(|| raft_store::fuzz::decode(&data));
            if let Err(panic) = catch_unwind(decode) {
                eprintln!("seed {seed}, input {done}: {data:02x?}");
                std::panic::resume_unwind(panic);
            }
            done += 1;
        }
    }
    println!("seed {seed}: {done} inputs, no failure");
}

/// A well-formed input that was edited, cut, doubled or replaced by noise.
fn input(samples: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    let mut data = samples[random.random_range(0..samples.len())].clone();
    for _ in 0..random.random_range(0..8) {
        if data.is_empty() {
            data.push(random.random());
        }
        let at = random.random_range(0..data.len());
        match random.random_range(0..6) {
            0 => data[at] = random.random(),
            1 => data[at] ^= 1 << random.random_range(0..8),
            2 => data.truncate(at),
            3 => data.insert(at, random.random()),
            4 => data[at] = [0, 0x7f, 0x80, 0xff][random.random_range(0..4)],
            _ => {
                let other = &samples[random.random_range(0..samples.len())];
                data.truncate(at);
                data.extend_from_slice(&other[other.len() / 2..]);
            }
        }
    }
    data
}
