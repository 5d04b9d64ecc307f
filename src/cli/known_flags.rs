//! The flags that `xebec store` knows by name: its own, as clap has them, and those of etcd that it has no use for.

use std::collections::BTreeMap;

use clap::{Arg, Command};

use super::etcd_flags::{ROWS, Takes};

/// What has to be known of a flag before its value is understood.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Its main name, without dashes.
    pub name: String,
    pub takes: Takes,
    /// Its value is a time.
    pub is_time: bool,
    pub has_default: bool,
}

impl Flag {
    fn of(argument: &Arg) -> Option<Self> {
        let named = argument.get_value_names().unwrap_or_default();
        let switch = argument.is_require_equals_set();
        Some(Self {
            name: argument.get_long()?.to_owned(),
            takes: if switch { Takes::Bool } else { Takes::Value },
            is_time: named.iter().any(|name| *name == "DURATION"),
            has_default: !argument.get_default_values().is_empty(),
        })
    }
}

/// All of them, by each of their names.
#[derive(Debug)]
pub struct KnownFlags {
    flags: BTreeMap<String, Flag>,
}

impl KnownFlags {
    /// Those of this subcommand and of etcd.
    pub fn of(command: &Command) -> Self {
        let mut flags = BTreeMap::new();
        for row in ROWS {
            let flag = Flag {
                name: row.name.to_owned(),
                takes: row.takes,
                is_time: false,
                has_default: false,
            };
            flags.insert(row.name.to_owned(), flag);
        }
        for argument in command.get_arguments() {
            let Some(flag) = Flag::of(argument) else {
                continue;
            };
            let aliases = argument.get_all_aliases().unwrap_or_default();
            for name in aliases.into_iter().chain([flag.name.as_str()]) {
                flags.insert(name.to_owned(), flag.clone());
            }
        }
        flags.retain(|name, _| Self::answered(name).is_none());
        Self { flags }
    }

    pub fn find(&self, name: &str) -> Option<&Flag> {
        self.flags.get(name)
    }

    /// What clap answers at once instead of running anything.
    pub fn answered(name: &str) -> Option<&'static str> {
        match name {
            "h" | "help" => Some("--help"),
            "V" | "version" => Some("--version"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn no_flag_is_both_ours_and_of_no_use() {
        let command = crate::cli::Cli::command();
        let store = command.find_subcommand("store").unwrap();
        let names = |argument: &Arg| {
            let aliases = argument.get_all_aliases().unwrap_or_default();
            let names = aliases.into_iter().chain(argument.get_long());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        let ours: Vec<String> = store.get_arguments().flat_map(names).collect();
        assert!(ours.len() > 30, "{ours:?}");
        let both = ROWS
            .iter()
            .filter(|row| ours.iter().any(|name| name == row.name));
        assert_eq!(both.map(|row| row.name).collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn clap_tells_switches_from_values() {
        let command = crate::cli::Cli::command();
        let known = KnownFlags::of(command.find_subcommand("store").unwrap());
        let check = |name: &str, main: &str, takes, is_time| {
            let flag = known.find(name).expect(name);
            let found = (flag.name.as_str(), flag.takes, flag.is_time);
            assert_eq!(found, (main, takes, is_time), "{name}");
        };
        check("name", "name", Takes::Value, false);
        check("client-cert-auth", "client-cert-auth", Takes::Bool, false);
        check("force-new-cluster", "force-new-cluster", Takes::Bool, false);
        check(
            "experimental-initial-corrupt-check",
            "initial-corrupt-check",
            Takes::Bool,
            false,
        );
        check(
            "corrupt-check-time",
            "corrupt-check-time",
            Takes::Value,
            true,
        );
        check("pre-vote", "pre-vote", Takes::Bool, false);
        check("wal-dir", "wal-dir", Takes::Value, false);
    }
}
