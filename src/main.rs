//! The `xebec` binary: parses flags, connects the parts, starts and stops the process. No rule of the domain is here.

mod cli;
mod commands;
mod config_file;
mod embedded_store;
mod join_token;
mod logging;
mod machine;
mod masters;
mod process;

use std::process::ExitCode;

// Gives memory back after a load, and costs less than the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Pages of 2 MB would be resident as a whole for the few kilobytes that are used of many. Not vital.
    let _ = nix::sys::prctl::set_thp_disable(true);
    let cli = match cli::parse(std::env::args_os().collect(), std::env::vars_os()) {
        Ok(cli) => cli,
        Err(error) => return fail(&error),
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// One line for a person: what failed, and why.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
