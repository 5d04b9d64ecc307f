//! How `xebec store` hears what etcd would: flags in Go's syntax, `ETCD_…` variables, etcd's configuration file.
//!
//! Makes one list of settings out of them, each flag at most once, and out of that a command line for clap.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::etcd_file;
use super::etcd_flags::{self, Row, Takes, Then};
use super::known_flags::{Flag, KnownFlags};

const PREFIX: &str = "ETCD_";
const CONFIG: &str = "config";
const CONFIG_FILE: &str = "config-file";

/// What is to be said about the settings once there is a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Flags that change nothing, with their dashes.
    pub ignored: Vec<String>,
    pub warnings: Vec<String>,
}

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag,
    Variable(String),
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Flag => f.write_str("the command line"),
            Source::Variable(name) => f.write_str(name),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Setting {
    /// The flag's main name.
    name: String,
    value: String,
    source: Source,
}

/// All that was given, with what clap is to read.
#[derive(Debug, Default)]
pub struct Line {
    settings: Vec<Setting>,
    /// What clap is to complain about, or to answer.
    rest: Vec<String>,
    pub heard: Heard,
}

impl Line {
    /// Reads the arguments behind `store` and the environment, and the file that they name.
    ///
    /// # Errors
    /// What cannot be read, and what etcd offers and this store refuses.
    pub fn read(
        known: &KnownFlags,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        let mut line = Line::default();
        let flags = line.flags(known, text_of(arguments)?)?;
        let (variables, unknown, file) = variables(known, environment)?;
        let given = |name| value_of(&flags, name).map(PathBuf::from);
        if let Some(file) = given(CONFIG_FILE).or(file) {
            ensure!(
                given(CONFIG).is_none(),
                "--config and --config-file exclude each other"
            );
            line.only_file(known, &file)?;
            line.say_what_is_ignored(&file, flags.iter().chain(&variables));
        } else {
            line.heard.warnings = unknown;
            if let Some(file) = given(CONFIG) {
                let (settings, unknown) = settings_of_file(known, &file)?;
                if let Some(name) = unknown.first() {
                    bail!("{}: {name} is no flag of xebec store", file.display());
                }
                line.settings = settings;
            }
            variables.into_iter().for_each(|setting| line.set(setting));
            flags.into_iter().for_each(|setting| line.set(setting));
        }
        line.judge()?;
        Ok(line)
    }

    /// The flags of the command line; what is none is left to clap.
    fn flags(&mut self, known: &KnownFlags, arguments: Vec<String>) -> Result<Vec<Setting>> {
        let mut flags = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let body = match argument.strip_prefix('-') {
                Some(body) if !["", "-"].contains(&body) => body.strip_prefix('-').unwrap_or(body),
                _ => {
                    self.rest.push(argument);
                    self.rest.extend(arguments);
                    break;
                }
            };
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            if let Some(answered) = KnownFlags::answered(name) {
                self.rest.push(answered.to_owned());
                continue;
            }
            let Some(flag) = known.find(name) else {
                self.rest.push(format!("--{body}"));
                self.rest.extend(arguments);
                break;
            };
            let value = match (value, flag.takes) {
                (Some(value), _) => value,
                (None, Takes::Bool) => "true".to_owned(),
                (None, Takes::Value) => arguments
                    .next()
                    .with_context(|| format!("--{name} needs a value"))?,
            };
            flags.push(setting(flag, value, Source::Flag));
        }
        Ok(flags)
    }

    /// As etcd: a configuration file makes flags and variables count for nothing.
    fn only_file(&mut self, known: &KnownFlags, file: &Path) -> Result<()> {
        let (settings, unknown) = settings_of_file(known, file)?;
        self.settings = settings;
        let warning = |name| format!("{}: {name} is not known, and ignored", file.display());
        self.heard.warnings = unknown.into_iter().map(warning).collect();
        Ok(())
    }

    fn say_what_is_ignored<'a>(&mut self, file: &Path, set: impl Iterator<Item = &'a Setting>) {
        let names = set.filter(|setting| setting.name != CONFIG_FILE);
        let names: Vec<String> = names
            .map(|setting| match &setting.source {
                Source::Variable(name) => name.clone(),
                _ => format!("--{}", setting.name),
            })
            .collect();
        if !names.is_empty() {
            self.heard.warnings.push(format!(
                "only the configuration file {} counts; ignored: {}",
                file.display(),
                names.join(", ")
            ));
        }
    }

    /// The later one wins.
    fn set(&mut self, setting: Setting) {
        let former = self.settings.iter().position(|s| s.name == setting.name);
        if let Some(former) = former.map(|at| self.settings.remove(at))
            && let (Source::Variable(variable), Source::Flag) = (&former.source, &setting.source)
        {
            let warning = format!("--{} counts, {variable} does not", setting.name);
            self.heard.warnings.push(warning);
        }
        self.settings.push(setting);
    }

    /// Takes out what only etcd has a use for.
    fn judge(&mut self) -> Result<()> {
        for Setting {
            name,
            value,
            source,
        } in &mut self.settings
        {
            let Some(row) = etcd_flags::find(name) else {
                continue;
            };
            normalize(row, value, source)?;
            match row.judge(value) {
                None => {}
                Some(Then::Ignored) => self.heard.ignored.push(format!("--{name}")),
                Some(Then::Warned) => {
                    let warning = format!("--{name}={value} is ignored: {}", row.why);
                    self.heard.warnings.push(warning);
                }
                Some(Then::Refused) => {
                    bail!("--{name}={value}, from {source}, is refused: {}", row.why)
                }
            }
        }
        self.settings
            .retain(|setting| etcd_flags::find(&setting.name).is_none());
        Ok(())
    }

    /// The command line for clap, behind the subcommand. As in etcd, an empty value leaves a flag without default unset.
    pub fn arguments(&self, known: &KnownFlags) -> Vec<OsString> {
        let says_something = |setting: &&Setting| {
            let flag = known.find(&setting.name);
            !setting.value.is_empty() || flag.is_none_or(|flag| flag.has_default)
        };
        let set = self.settings.iter().filter(says_something);
        let flags = set.map(|setting| format!("--{}={}", setting.name, setting.value));
        let all = flags.chain(self.rest.iter().cloned());
        all.map(OsString::from).collect()
    }

    /// Where a flag's value comes from, if not from a flag.
    pub fn source(&self, name: &str) -> Option<&Source> {
        let setting = self.settings.iter().find(|setting| setting.name == name)?;
        (setting.source != Source::Flag).then_some(&setting.source)
    }
}

fn setting(flag: &Flag, value: String, source: Source) -> Setting {
    Setting {
        name: flag.name.clone(),
        value,
        source,
    }
}

fn value_of<'a>(settings: &'a [Setting], name: &str) -> Option<&'a str> {
    let mut set = settings.iter().rev();
    let last = set.find(|setting| setting.name == name)?;
    (!last.value.is_empty()).then_some(&last.value)
}

/// A switch that clap does not see is read here.
fn normalize(row: &Row, value: &mut String, source: &Source) -> Result<()> {
    if row.takes == Takes::Bool {
        let read = super::boolean(value);
        let read = read.map_err(|error| anyhow::anyhow!("--{}, from {source}: {error}", row.name));
        *value = read?.to_string();
    }
    Ok(())
}

fn text_of(arguments: impl IntoIterator<Item = OsString>) -> Result<Vec<String>> {
    let text = |argument: OsString| {
        let text = argument.into_string();
        text.map_err(|argument| anyhow::anyhow!("the argument {argument:?} is not UTF-8"))
    };
    arguments.into_iter().map(text).collect()
}

/// What etcd's variables set, warnings about those that it does not know, and the configuration file that one names.
type Variables = (Vec<Setting>, Vec<String>, Option<PathBuf>);

fn variables(
    known: &KnownFlags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Variables> {
    let of_etcd = |(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        let flag = name.strip_prefix(PREFIX)?.to_owned();
        Some((name, flag, value))
    };
    let mut found: Vec<_> = environment.into_iter().filter_map(of_etcd).collect();
    // Their order would be chance, and of two names for one flag the last one counts.
    found.sort();
    let (mut settings, mut warnings, mut file) = (Vec::new(), Vec::new(), None);
    for (variable, flag, value) in found {
        let value = value
            .into_string()
            .map_err(|_| anyhow::anyhow!("{variable} is not UTF-8"))?;
        let name = flag.to_lowercase().replace('_', "-");
        let is_flag = flag == flag.to_uppercase() && name != CONFIG;
        match known.find(&name).filter(|_| is_flag) {
            _ if value.is_empty() => {}
            Some(_) if name == CONFIG_FILE => file = Some(PathBuf::from(value)),
            Some(flag) => settings.push(setting(flag, value, Source::Variable(variable))),
            None => warnings.push(format!("{variable} is no variable of etcd's, and ignored")),
        }
    }
    Ok((settings, warnings, file))
}

/// What a file sets, and its names that are no flags.
fn settings_of_file(known: &KnownFlags, path: &Path) -> Result<(Vec<Setting>, Vec<String>)> {
    let (mut settings, mut unknown) = (Vec::new(), Vec::new());
    for entry in etcd_file::read(path)? {
        let is_file = [CONFIG, CONFIG_FILE].contains(&entry.name.as_str());
        let Some(flag) = known.find(&entry.name).filter(|_| !is_file) else {
            unknown.push(entry.name);
            continue;
        };
        let value = match flag.is_time && entry.number {
            true => format!("{}ns", entry.value),
            false => entry.value,
        };
        settings.retain(|known: &Setting| known.name != flag.name);
        settings.push(setting(flag, value, Source::File(path.to_owned())));
    }
    Ok((settings, unknown))
}

#[cfg(test)]
mod tests;
