//! Members that are masters: `xebec server`, the first by itself, the others joined with a token.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Api, Cluster, START_LIMIT};
use crate::bench::Kubeconfig;

pub(super) const API_PORT: u16 = 6443;
/// What tells that a master serves, the store behind it included.
const READY: &str = "/readyz";
const READY_LIMIT: Duration = Duration::from_secs(5);
/// Masters, who of them leads, and who answers.
const MASTERS: &str = "/xebec/masters";

impl Cluster {
    pub(super) async fn found_masters(&mut self) -> Result<()> {
        self.set_master_arguments(0, None);
        self.start_member(0)?;
        let file = self.members[0].data().join("server/admin.kubeconfig");
        self.await_answer(0, START_LIMIT).await?;
        ensure!(file.is_file(), "{} is not there", file.display());
        for number in 1..self.members.len() {
            let token = self.token(0, "server").await?;
            self.set_master_arguments(number, Some((0, token)));
            self.start_member(number)?;
            self.await_answer(number, START_LIMIT).await?;
        }
        Ok(())
    }

    /// `join`: whom it joins, and the token.
    fn set_master_arguments(&mut self, number: usize, join: Option<(usize, String)>) {
        let address = self.address(number);
        let mut arguments = vec![
            "server".to_owned(),
            format!("--data-dir={}", self.members[number].data().display()),
            format!("--node-name={}", self.members[number].name),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            "--disable-agent".to_owned(),
        ];
        if let Some((master, token)) = join {
            let master = self.address(master);
            arguments.push(format!("--join=https://{master}:{API_PORT}"));
            arguments.push(format!("--token={token}"));
        }
        self.members[number].arguments = arguments;
    }

    async fn xebec(&self, number: usize, arguments: &[&str]) -> Result<String> {
        let mut command = self.network.command(number, self.program(number));
        let data = self.members[number].data();
        let output = command
            .args(arguments)
            .arg("--data-dir")
            .arg(data)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "xebec {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// A token to join with, made by that master.
    pub(super) async fn token(&self, number: usize, role: &str) -> Result<String> {
        let said = self
            .xebec(number, &["token", "create", "--role", role])
            .await?;
        Ok(said.lines().last().context("a token")?.to_owned())
    }

    /// How one master's API is called, as its administrator.
    pub fn kubeconfig(&self, number: usize) -> Result<Kubeconfig> {
        let known = self.kubeconfig.clone();
        Ok(Kubeconfig {
            host: self.address(number).to_string(),
            port: API_PORT,
            ..known.context("the first master has not begun")?
        })
    }

    pub fn api(&self, number: usize) -> Result<Api> {
        self.kubeconfig(number).map(Api::new)
    }

    pub(super) async fn master_answers(&mut self, number: usize) -> Result<()> {
        if self.kubeconfig.is_none() {
            let file = self.members[0].data().join("server/admin.kubeconfig");
            self.kubeconfig = Some(Kubeconfig::read(&file)?);
        }
        self.api(number)?.get(READY, READY_LIMIT).await.map(drop)
    }

    pub(super) async fn replace_master(&mut self, number: usize) -> Result<()> {
        let another = self.another(number)?;
        let name = self.members[number].name.clone();
        self.xebec(another, &["member", "remove", &name]).await?;
        self.wipe(number).await?;
        let token = self.token(another, "server").await?;
        self.set_master_arguments(number, Some((another, token)));
        self.start_member(number)
    }
}

/// What one master says of who leads: its term, and the leader's name.
pub async fn leader(api: &mut Api, limit: Duration) -> Result<(u64, Option<String>)> {
    let said: serde_json::Value = serde_json::from_slice(&api.get(MASTERS, limit).await?)?;
    let term = said["self"]["raftTerm"].as_u64().context("a term")?;
    let members = said["members"].as_array().context("members")?;
    let leads = members.iter().find(|member| member["leads"] == true);
    let name = leads.and_then(|member| member["name"].as_str());
    Ok((term, name.map(str::to_owned)))
}
