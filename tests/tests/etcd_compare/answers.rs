//! What `xebec store` itself answers where it answers other than etcd: one file per case below `answers/`, so that a listed
//! difference is no place where any answer passes.
//!
//! `UPDATE_EXPECT=1` writes the files anew; what changed is then seen in the diff.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tests::repository;

use crate::session;

/// The expected answers of one test.
pub struct Answers {
    folder: PathBuf,
    /// Files that no case was compared with yet.
    left: BTreeSet<String>,
    update: bool,
}

impl Answers {
    /// Those of the test that asks so: `alone`, `followers` or `members`.
    pub fn of(asked: &str) -> Result<Self> {
        let folder = repository().join("tests/tests/etcd_compare/answers");
        let folder = folder.join(asked);
        let mut left = BTreeSet::new();
        if folder.is_dir() {
            for entry in std::fs::read_dir(&folder)? {
                left.insert(entry?.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(Self {
            folder,
            left,
            update: std::env::var_os("UPDATE_EXPECT").is_some(),
        })
    }

    /// Compares what was answered in a case that is listed; what to complain of.
    pub fn check(&mut self, case: &str, trace: &[String]) -> Result<Option<String>> {
        let name = format!("{}.txt", case.replace("::", "."));
        self.left.remove(&name);
        let file = self.folder.join(&name);
        let answered = trace.join("\n") + "\n";
        if self.update {
            std::fs::create_dir_all(&self.folder)?;
            std::fs::write(&file, answered).with_context(|| file.display().to_string())?;
            return Ok(None);
        }
        let Ok(expected) = std::fs::read_to_string(&file) else {
            return Ok(Some(format!(
                "{case} is a listed difference without an expected answer: run with UPDATE_EXPECT=1"
            )));
        };
        if answered == expected {
            return Ok(None);
        }
        let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
        Ok(Some(format!(
            "{case} is answered other than {} says:\n{}",
            file.display(),
            session::first_difference(trace, &expected)
        )))
    }

    /// Complaints of files whose case is no difference (any more).
    pub fn unknown(self) -> impl Iterator<Item = String> {
        self.left.into_iter().map(move |name| {
            let file = self.folder.join(name);
            format!("{} is of no listed difference: remove it", file.display())
        })
    }
}

#[test]
fn another_answer_is_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    write("a.case.txt", "put: one\n")?;
    write("b.case.txt", "put: one\n")?;
    let mut answers = Answers {
        folder: folder.path().to_owned(),
        left: BTreeSet::from(["a.case.txt".to_owned(), "b.case.txt".to_owned()]),
        update: false,
    };
    let mut check = |case: &str, line: &str| answers.check(case, &[line.to_owned()]);
    assert_eq!(check("a::case", "put: one")?, None);
    let other = check("a::case", "put: two")?.unwrap_or_default();
    assert!(other.contains("put: two"), "{other}");
    let new = check("c::case", "put: one")?.unwrap_or_default();
    assert!(new.contains("without an expected answer"), "{new}");
    let left: Vec<String> = answers.unknown().collect();
    assert!(left.len() == 1 && left[0].contains("b.case"), "{left:?}");
    Ok(())
}
