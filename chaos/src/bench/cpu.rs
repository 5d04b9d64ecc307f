//! CPU time and memory of processes, from `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

/// User and system time that the processes have used since they started.
pub fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let ticks: u64 = pids.iter().map(|pid| ticks_of(*pid)).sum::<Result<u64>>()?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / ticks_per_second() as f64,
    ))
}

/// Resident memory of the processes, bytes.
pub fn resident(pids: &[u32]) -> Result<u64> {
    pids.iter()
        .map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
                .context("the server has ended")?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib: u64 = line
                .and_then(|l| l.split_whitespace().next())
                .context("VmRSS")?
                .parse()?;
            Ok(kib * 1024)
        })
        .sum()
}

fn ticks_of(pid: u32) -> Result<u64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the server has ended")?;
    // The name in parentheses may hold blanks: count from its end.
    let rest = stat.rsplit_once(')').context("/proc/PID/stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |at: usize| {
        fields
            .get(at)
            .context("/proc/PID/stat")?
            .parse::<u64>()
            .context("/proc/PID/stat")
    };
    Ok(field(11)? + field(12)?)
}

fn ticks_per_second() -> i64 {
    // Linux has answered 100 on every architecture for decades; a machine that differs would only scale the result.
    100
}
