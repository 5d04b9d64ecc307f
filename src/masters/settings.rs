//! Settings that hold for a whole cluster: chosen at its first start, the same on every master, kept beside its keys.

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cli::ServerArgs;

/// Where they are kept below `DATA_DIR/server`.
pub const FILE: &str = "cluster.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterSettings {
    pub cluster_cidr: String,
    pub service_cidr: String,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
}

/// What of them the flags of one server name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Given {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_cidr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_cidr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_dns: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_domain: Option<String>,
}

impl From<&ServerArgs> for Given {
    fn from(args: &ServerArgs) -> Self {
        Self {
            cluster_cidr: args.cluster_cidr.clone(),
            service_cidr: args.service_cidr.clone(),
            cluster_dns: args.cluster_dns,
            cluster_domain: args.cluster_domain.clone(),
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            cluster_cidr: "10.42.0.0/16".to_owned(),
            service_cidr: "10.43.0.0/16".to_owned(),
            cluster_dns: [10, 43, 0, 10].into(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl ClusterSettings {
    /// The cluster's settings, where it has some; else what the flags say. A flag that contradicts the cluster is an error.
    pub fn settle(given: Given, server: &Path) -> Result<Self> {
        match read(server)? {
            Some(settings) => {
                settings.check(&given)?;
                Ok(settings)
            }
            None => Ok(Self::default().with(given)),
        }
    }

    fn with(self, given: Given) -> Self {
        Self {
            cluster_cidr: given.cluster_cidr.unwrap_or(self.cluster_cidr),
            service_cidr: given.service_cidr.unwrap_or(self.service_cidr),
            cluster_dns: given.cluster_dns.unwrap_or(self.cluster_dns),
            cluster_domain: given.cluster_domain.unwrap_or(self.cluster_domain),
        }
    }

    fn check(&self, given: &Given) -> Result<()> {
        let Self {
            cluster_cidr,
            service_cidr,
            cluster_dns,
            cluster_domain,
        } = self;
        same("cluster-cidr", given.cluster_cidr.as_ref(), cluster_cidr)?;
        same("service-cidr", given.service_cidr.as_ref(), service_cidr)?;
        same("cluster-dns", given.cluster_dns.as_ref(), cluster_dns)?;
        same(
            "cluster-domain",
            given.cluster_domain.as_ref(),
            cluster_domain,
        )
    }

    /// Keeps them for the next start, and for masters that join.
    pub fn save(&self, server: &Path) -> Result<()> {
        if read(server)?.as_ref() == Some(self) {
            return Ok(());
        }
        let path = server.join(FILE);
        let text = serde_json::to_vec_pretty(self).expect("texts are JSON");
        super::bundle::write(&path, &text)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

fn read(server: &Path) -> Result<Option<ClusterSettings>> {
    let path = server.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let settings = serde_json::from_slice(&bytes);
    settings.with_context(|| format!("{} is damaged", path.display()))
}

fn same<T: PartialEq + Display>(flag: &str, given: Option<&T>, cluster: &T) -> Result<()> {
    match given {
        Some(given) if given != cluster => bail!(
            "--{flag}: the cluster has {cluster}, not {given}, and that cannot be changed: leave the flag out"
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        server: ServerArgs,
    }

    #[test]
    fn flags_choose_at_the_first_start_and_must_agree_later() {
        let directory = tempfile::tempdir().unwrap();
        let settle = |flags: &[&str]| {
            let args = Flags::parse_from([&["server"], flags].concat()).server;
            ClusterSettings::settle((&args).into(), directory.path())
        };
        assert_eq!(settle(&[]).unwrap(), ClusterSettings::default());
        let chosen = settle(&["--cluster-cidr=10.9.0.0/16"]).unwrap();
        assert_eq!(chosen.cluster_cidr, "10.9.0.0/16");
        chosen.save(directory.path()).unwrap();
        assert_eq!(settle(&[]).unwrap(), chosen);
        assert_eq!(settle(&["--cluster-cidr=10.9.0.0/16"]).unwrap(), chosen);
        let error = settle(&["--cluster-dns=10.43.0.11"]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("--cluster-dns: the cluster has 10.43.0.10"),
            "{error}"
        );
    }
}
