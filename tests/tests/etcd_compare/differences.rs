//! The list of known differences: the rows of the tables in `docs/etcd-differences.md` that begin with a case's name.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use tests::repository;

/// What a version ends with where the difference is one of three members.
pub const OF_THREE: &str = " of three";

/// Pairs of a case's name and an etcd's, each to be met once.
pub struct Differences {
    listed: BTreeSet<(String, String)>,
}

impl Differences {
    pub fn read() -> Result<Self> {
        let path = repository().join("docs/etcd-differences.md");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text)
    }

    /// Rows look like `| \`range::limit\` | 3.4, 3.5 | reason |`.
    fn parse(text: &str) -> Result<Self> {
        let mut listed = BTreeSet::new();
        for row in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            ensure!(cells.len() == 3, "not a case, versions and a reason: {row}");
            ensure!(!cells[2].is_empty(), "no reason: {row}");
            for version in cells[1].split(", ") {
                let case = cells[0].trim_matches('`').to_owned();
                let new = listed.insert((case, version.to_owned()));
                ensure!(new, "listed twice: {row}");
            }
        }
        Ok(Self { listed })
    }

    /// Whether it is listed; each is taken once.
    pub fn take(&mut self, case: &str, version: &str) -> bool {
        self.listed.remove(&(case.to_owned(), version.to_owned()))
    }

    /// Rows of an etcd of one or of three members whose case or version does not exist.
    pub fn unknown(self, of_three: bool) -> impl Iterator<Item = String> {
        let asked = move |(_, version): &(String, String)| version.ends_with(OF_THREE) == of_three;
        self.listed
            .into_iter()
            .filter(asked)
            .map(|(case, version)| {
                format!("a difference of an unknown case or version is listed: {case} {version}")
            })
    }
}
