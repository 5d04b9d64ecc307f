//! Members that are stores alone: etcd's flags, etcd's calls for changes of members.

use anyhow::Result;
use xebec_proto::etcdserverpb as pb;

use super::{Cluster, START_LIMIT, ask};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

impl Cluster {
    /// Where clients of etcd's API find the members.
    pub fn urls(&self) -> Vec<String> {
        let numbers = 0..self.members.len();
        numbers
            .map(|number| self.url(number, CLIENT_PORT))
            .collect()
    }

    fn url(&self, number: usize, port: u16) -> String {
        format!("http://{}:{port}", self.address(number))
    }

    pub(super) async fn found_stores(&mut self) -> Result<()> {
        for number in 0..self.members.len() {
            self.set_arguments(number, "new");
            self.start_member(number)?;
        }
        for number in 0..self.members.len() {
            self.await_answer(number, START_LIMIT).await?;
        }
        Ok(())
    }

    fn set_arguments(&mut self, number: usize, state: &str) {
        let named = self.members.iter().enumerate();
        let named =
            named.map(|(at, member)| format!("{}={}", member.name, self.url(at, PEER_PORT)));
        let initial = named.collect::<Vec<_>>().join(",");
        let (client, peer) = (self.url(number, CLIENT_PORT), self.url(number, PEER_PORT));
        let member = &mut self.members[number];
        let mut arguments = Vec::new();
        let file = self.setting.program.file_name().unwrap_or_default();
        if file.to_string_lossy().starts_with("xebec") {
            arguments.extend(["store".to_owned(), "--log-level=warn".to_owned()]);
        }
        arguments.extend([
            format!("--name={}", member.name),
            format!("--data-dir={}", member.data().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={initial}"),
            format!("--initial-cluster-state={state}"),
        ]);
        member.arguments = arguments;
    }

    pub(super) async fn store_answers(&self, number: usize) -> Result<()> {
        let read = pb::RangeRequest {
            key: "ready".into(),
            ..Default::default()
        };
        let url = self.url(number, CLIENT_PORT);
        ask::<pb::RangeResponse>(&url, "KV/Range", &read)
            .await
            .map(drop)
    }

    pub(super) async fn replace_store(&mut self, number: usize) -> Result<()> {
        let another = self.another(number)?;
        let helper = self.url(another, CLIENT_PORT);
        let peer_url = self.url(number, PEER_PORT);
        let all = pb::MemberListRequest::default();
        let list: pb::MemberListResponse = ask(&helper, "Cluster/MemberList", &all).await?;
        let mut listed = list.members.iter();
        if let Some(known) = listed.find(|member| member.peer_ur_ls.contains(&peer_url)) {
            let remove = pb::MemberRemoveRequest { id: known.id };
            ask::<pb::MemberRemoveResponse>(&helper, "Cluster/MemberRemove", &remove).await?;
        }
        self.wipe(number).await?;
        let add = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url],
            ..Default::default()
        };
        ask::<pb::MemberAddResponse>(&helper, "Cluster/MemberAdd", &add).await?;
        self.additions += 1;
        self.members[number].name = format!("m{number}-{}", self.additions);
        self.set_arguments(number, "existing");
        self.start_member(number)
    }
}
