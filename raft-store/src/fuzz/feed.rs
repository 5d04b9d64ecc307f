//! Making inputs and feeding them: each follows from a seed, its target and its number, all of which are printed before a
//! failure ends the run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Target;

/// How long a long run stays with one target.
const TURN: Duration = Duration::from_millis(100);
/// Numbers that decoders of text and of varints like least.
const NUMBERS: [&str; 6] = [
    "0",
    "-1",
    "18446744073709551615",
    "-9223372036854775808",
    "1e400",
    "0.5",
];

/// The short run: every sample is taken, and foreign inputs made from them do no harm.
pub fn check(targets: &[&Target]) {
    for target in targets {
        let samples = (target.samples)();
        for (number, sample) in samples.iter().enumerate() {
            let taken = (target.decode)(sample);
            assert!(taken, "{} refuses its sample {number}", target.name);
        }
        for number in 0..target.inputs {
            feed(target, &samples, 1, number);
        }
    }
}

/// The long run, as a program with the arguments `[SEED] [SECONDS] [TARGET]`: the time is shared among the targets whose
/// name contains the last.
pub fn command(targets: &[&Target]) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        let given = arguments.get(at).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    };
    let (seed, seconds) = (number(0, 1), number(1, 60));
    let only = arguments.get(2).map_or("", String::as_str);
    let asked = targets.iter().filter(|target| target.name.contains(only));
    let mut asked: Vec<_> = asked
        .map(|target| (target, (target.samples)(), 0))
        .collect();
    assert!(!asked.is_empty(), "no target's name contains {only:?}");
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        for (target, samples, done) in &mut asked {
            let turn = Instant::now() + TURN;
            while Instant::now() < turn {
                feed(target, samples, seed, *done);
                *done += 1;
            }
        }
    }
    for (target, _, done) in asked {
        println!("{done:10} inputs  {}", target.name);
    }
    println!("seed {seed}: no failure");
}

fn feed(target: &Target, samples: &[Vec<u8>], seed: u64, number: u64) {
    let data = input(samples, seed, number);
    let decode = AssertUnwindSafe(|| (target.decode)(&data));
    if let Err(panic) = catch_unwind(decode) {
        let name = target.name;
        eprintln!("{name}, seed {seed}, input {number}: {data:02x?}");
        std::panic::resume_unwind(panic);
    }
}

/// A well-formed input that was edited, cut, doubled, or replaced by noise.
fn input(samples: &[Vec<u8>], seed: u64, number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
    if random.random_ratio(1, 16) {
        let len = random.random_range(0..300);
        return (0..len).map(|_| random.random()).collect();
    }
    let mut data = samples[random.random_range(0..samples.len())].clone();
    for _ in 0..random.random_range(1..8) {
        edit(&mut data, samples, &mut random);
    }
    data
}

fn edit(data: &mut Vec<u8>, samples: &[Vec<u8>], random: &mut StdRng) {
    if data.is_empty() {
        data.push(random.random());
    }
    let at = random.random_range(0..data.len());
    match random.random_range(0..8) {
        0 => data[at] = random.random(),
        1 => data[at] ^= 1 << random.random_range(0..8),
        2 if random.random_ratio(1, 4) => data.truncate(at),
        3 => data.insert(at, random.random()),
        4 => data[at] = [0, 0x7f, 0x80, 0xff][random.random_range(0..4)],
        5 => {
            let other = &samples[random.random_range(0..samples.len())];
            data.truncate(at);
            data.extend_from_slice(&other[other.len() / 2..]);
        }
        6 => {
            let end = random.random_range(at..data.len().min(at + 32));
            let doubled = data[at..end].to_vec();
            data.splice(at..at, doubled);
        }
        _ => replace_number(data, at, random),
    }
}

/// Puts another number where digits stand at or after `at`.
fn replace_number(data: &mut Vec<u8>, at: usize, random: &mut StdRng) {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = data[at..].iter().position(is_digit) else {
        return;
    };
    let start = at + start;
    let digits = data[start..].iter().take_while(|byte| is_digit(byte));
    let end = start + digits.count();
    let number = NUMBERS[random.random_range(0..NUMBERS.len())];
    data.splice(start..end, number.bytes());
}
