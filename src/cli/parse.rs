//! From the process's arguments, environment and files to the command: nothing else reads them.

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

use super::etcd_line::Line;
use super::known_flags::KnownFlags;
use super::{Cli, Command};
use crate::config_file;

const STORE: &str = "store";

/// The command that was asked for. Ends the process with clap's message where the arguments are wrong or ask for help.
///
/// # Errors
/// A configuration file that cannot be read, and flags of etcd that are refused.
pub fn parse(
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Cli> {
    if arguments.get(1).is_some_and(|command| command == STORE) {
        return parse_store(arguments, environment);
    }
    Ok(Cli::parse_from(config_file::expand(arguments)?))
}

fn parse_store(
    arguments: Vec<OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Cli> {
    let command = Cli::command();
    let command = command.find_subcommand(STORE);
    let known = KnownFlags::of(command.context("clap knows the subcommand")?);
    let mut arguments = arguments.into_iter();
    let mut expanded: Vec<OsString> = arguments.by_ref().take(2).collect();
    let line = Line::read(&known, arguments, environment)?;
    expanded.extend(line.arguments(&known));
    match Cli::try_parse_from(expanded) {
        Ok(mut cli) => {
            if let Command::Store(args) = &mut cli.command {
                args.heard = line.heard;
            }
            Ok(cli)
        }
        Err(error) => refuse(&line, &error),
    }
}

/// As clap does, but says as well where the value was set, if that was not on the command line.
fn refuse(line: &Line, error: &clap::Error) -> ! {
    let argument = error.get(ContextKind::InvalidArg);
    if let Some(ContextValue::String(argument)) = argument {
        let name = argument.trim_start_matches("--");
        let name = name.split([' ', '[', '=']).next().unwrap_or(name);
        if let Some(source) = line.source(name) {
            eprintln!("note: --{name} was set by {source}");
        }
    }
    error.exit()
}
