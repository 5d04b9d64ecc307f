//! The configuration file: YAML with the flags' names, put in front of the command line's flags, so that those win.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Inserts what `--config FILE` holds behind the subcommand. Without that flag the arguments stay as they are.
pub fn expand(arguments: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(file) = file_of(&arguments) else {
        return Ok(arguments);
    };
    let flags = flags_of(read(&file)?)
        .with_context(|| format!("in the configuration file {}", file.display()))?;
    let after_subcommand = 2.min(arguments.len());
    let mut expanded = arguments;
    expanded.splice(
        after_subcommand..after_subcommand,
        flags.into_iter().map(OsString::from),
    );
    Ok(expanded)
}

/// The names and values of a file.
pub fn read(file: &Path) -> Result<Map<String, Value>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration file {}", file.display()))?;
    parse(&text).with_context(|| format!("in the configuration file {}", file.display()))
}

/// The names and values of a file's text.
pub fn parse(text: &str) -> Result<Map<String, Value>> {
    let document: Value = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str(text).context("this is not YAML")?
    };
    match document {
        Value::Null => Ok(Map::new()),
        Value::Object(entries) => Ok(entries),
        _ => bail!("expected `flag: value` lines"),
    }
}

fn file_of(arguments: &[OsString]) -> Option<PathBuf> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let text = argument.to_string_lossy();
        if text == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(file) = text.strip_prefix("--config=") {
            return Some(Path::new(file).to_owned());
        }
    }
    None
}

fn flags_of(entries: Map<String, Value>) -> Result<Vec<String>> {
    let mut flags = Vec::new();
    for (name, value) in entries {
        match value {
            Value::Array(items) => {
                for item in items {
                    flags.extend(flag(&name, &item)?);
                }
            }
            value => flags.extend(flag(&name, &value)?),
        }
    }
    Ok(flags)
}

fn flag(name: &str, value: &Value) -> Result<Option<String>> {
    Ok(match value {
        Value::Bool(true) => Some(format!("--{name}")),
        Value::Bool(false) | Value::Null => None,
        Value::String(text) => Some(format!("--{name}={text}")),
        Value::Number(number) => Some(format!("--{name}={number}")),
        _ => bail!("{name}: expected a value or a list of values"),
    })
}

#[cfg(test)]
mod tests {
    use super::{flags_of, parse};

    #[test]
    fn entries_become_flags() {
        let check = |text: &str, expect: &[&str]| {
            let flags = parse(text).and_then(flags_of);
            assert_eq!(flags.unwrap(), expect, "{text}");
        };
        check("", &[]);
        check("# nothing\n", &[]);
        check(
            "https-port: 7443\nnode-name: a\n",
            &["--https-port=7443", "--node-name=a"],
        );
        check(
            "disable-agent: true\ntls-san: [a, b]",
            &["--disable-agent", "--tls-san=a", "--tls-san=b"],
        );
        check("disable-agent: false", &[]);
    }

    #[test]
    fn what_is_no_flag_is_named() {
        let flags = |text| parse(text).and_then(flags_of);
        let error = flags("node: {name: a}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "node: expected a value or a list of values"
        );
        assert!(flags("- a").is_err());
    }
}
