//! How commands that look at a running cluster reach it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::ClusterArgs;

impl ClusterArgs {
    fn path(&self) -> PathBuf {
        self.kubeconfig
            .clone()
            .unwrap_or_else(|| self.data_dir.join("server/admin.kubeconfig"))
    }

    fn read(&self) -> Result<Kubeconfig> {
        let path = self.path();
        Kubeconfig::read_from(&path)
            .with_context(|| format!("no cluster here: cannot read {}", path.display()))
    }

    /// A client as the kubeconfig's user.
    pub async fn client(&self) -> Result<Client> {
        let config =
            Config::from_custom_kubeconfig(self.read()?, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The same at another master, by the URL of its API.
    pub async fn client_of(&self, url: &str) -> Result<Client> {
        let mut config =
            Config::from_custom_kubeconfig(self.read()?, &KubeConfigOptions::default()).await?;
        config.cluster_url = url.parse()?;
        Ok(Client::try_from(config)?)
    }

    /// SHA-256 of the public key of the cluster's CA.
    pub async fn ca_hash(&self) -> Result<[u8; 32]> {
        let config =
            Config::from_custom_kubeconfig(self.read()?, &KubeConfigOptions::default()).await?;
        let ca = config
            .root_cert
            .and_then(|certificates| certificates.into_iter().next());
        let ca = ca.with_context(|| format!("{} names no CA", self.path().display()))?;
        node::key_hash(&ca).map_err(anyhow::Error::msg)
    }
}
