//! etcd's configuration file: YAML with the flags' names, TLS files in sections of their own, times in nanoseconds.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::config_file;

/// A section of the file, a name in it, and the flag that it is.
#[rustfmt::skip]
const SECTIONS: &[(&str, &str, &str)] = &[
    ("client-transport-security", "cert-file", "cert-file"),
    ("client-transport-security", "key-file", "key-file"),
    ("client-transport-security", "client-cert-file", "client-cert-file"),
    ("client-transport-security", "client-key-file", "client-key-file"),
    ("client-transport-security", "client-cert-auth", "client-cert-auth"),
    ("client-transport-security", "trusted-ca-file", "trusted-ca-file"),
    ("client-transport-security", "auto-tls", "auto-tls"),
    ("client-transport-security", "allowed-hostname", "client-cert-allowed-hostname"),
    ("peer-transport-security", "cert-file", "peer-cert-file"),
    ("peer-transport-security", "key-file", "peer-key-file"),
    ("peer-transport-security", "client-cert-file", "peer-client-cert-file"),
    ("peer-transport-security", "client-key-file", "peer-client-key-file"),
    ("peer-transport-security", "client-cert-auth", "peer-client-cert-auth"),
    ("peer-transport-security", "trusted-ca-file", "peer-trusted-ca-file"),
    ("peer-transport-security", "auto-tls", "peer-auto-tls"),
    ("peer-transport-security", "allowed-cn", "peer-cert-allowed-cn"),
    ("peer-transport-security", "allowed-hostname", "peer-cert-allowed-hostname"),
    (
        "peer-transport-security",
        "skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
    ("socket-options", "reuse-port", "socket-reuse-port"),
    ("socket-options", "reuse-address", "socket-reuse-address"),
    ("discovery-config", "token", "discovery-token"),
    ("discovery-config", "endpoints", "discovery-endpoints"),
];

/// One value of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The flag's name, or, if it is none, where it stands in the file.
    pub name: String,
    pub value: String,
    /// It was written as a number: a time is one of nanoseconds then.
    pub number: bool,
}

/// What a file says, in its order; names without a value are left out.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    entries(config_file::read(path)?)
        .with_context(|| format!("in the configuration file {}", path.display()))
}

fn entries(document: Map<String, Value>) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    for (name, value) in document {
        if !SECTIONS.iter().any(|(section, ..)| *section == name) {
            found.extend(entry(name, value)?);
            continue;
        }
        let members = match value {
            Value::Null => continue,
            Value::Object(members) => members,
            _ => bail!("{name}: expected `name: value` lines"),
        };
        for (member, value) in members {
            let row = SECTIONS
                .iter()
                .find(|(section, key, _)| *section == name && *key == member);
            let flag = row.map(|(.., flag)| (*flag).to_owned());
            found.extend(entry(flag.unwrap_or(format!("{name}.{member}")), value)?);
        }
    }
    Ok(found)
}

fn entry(name: String, value: Value) -> Result<Option<Entry>> {
    let number = value.is_number();
    let text = match value {
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.into_iter().map(scalar).collect();
            items.map(|items| items.join(","))
        }
        value => scalar(value),
    };
    let Some(value) = text else {
        bail!("{name}: expected a value or a list of values");
    };
    Ok((!value.is_empty()).then_some(Entry {
        name,
        value,
        number,
    }))
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value),
        Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        let document = config_file::parse(text).and_then(entries);
        match document {
            Ok(entries) => {
                let line = |entry: &Entry| format!("{}={}", entry.name, entry.value);
                entries.iter().map(line).collect::<Vec<_>>().join(" ")
            }
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn etcds_own_names_become_flags() {
        let check = |text: &str, expect: &str| assert_eq!(found(text), expect, "{text}");
        check("", "");
        check("name: a\ndata-dir:\ncors: ''\n", "name=a");
        check(
            "client-transport-security:\n  cert-file: c\n  client-cert-auth: true\n  auto-tls: false\n",
            "cert-file=c client-cert-auth=true auto-tls=false",
        );
        check(
            "peer-transport-security: {cert-file: c, allowed-cn: [a, b], trusted-ca-file: }",
            "peer-cert-file=c peer-cert-allowed-cn=a,b",
        );
        check("peer-transport-security:\n", "");
        check(
            "log-outputs: [stderr]\nmax-wals: 5\n",
            "log-outputs=stderr max-wals=5",
        );
        check(
            "peer-transport-security: {nothing: 1}",
            "peer-transport-security.nothing=1",
        );
        check("name: {a: b}", "name: expected a value or a list of values");
        check(
            "socket-options: true",
            "socket-options: expected `name: value` lines",
        );
        check("- a", "expected `flag: value` lines");
    }

    #[test]
    fn numbers_are_known_as_such() {
        let check = |text: &str, expect: bool| {
            let entries = config_file::parse(text).and_then(entries).unwrap();
            assert_eq!(entries[0].number, expect, "{text}");
        };
        check("watch-progress-notify-interval: 5000000000", true);
        check("watch-progress-notify-interval: 5s", false);
    }
}
