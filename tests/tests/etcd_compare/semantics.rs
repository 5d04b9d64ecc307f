//! The cases that `docs/etcd-semantics.md` names for each rule exist.

use tests::repository;

use crate::cases;

#[test]
fn every_rule_names_cases_that_exist() {
    let path = repository().join("docs/etcd-semantics.md");
    let text = std::fs::read_to_string(path).expect("the page is there");
    let known: Vec<&str> = cases::all()
        .chain(cases::PROMISES)
        .map(|case| case.name)
        .chain(cases::MEMBERS.iter().map(|case| case.name))
        .collect();
    let is_case = |word: &&str| {
        let file = word.split_once("::").map(|(file, _)| file);
        known
            .iter()
            .any(|name| name.split_once("::").map(|(file, _)| file) == file)
    };
    let named = text.split('`').skip(1).step_by(2);
    let named: Vec<&str> = named.filter(|word| !word.ends_with("::")).collect();
    let cases: Vec<&str> = named.into_iter().filter(is_case).collect();
    assert!(cases.len() > 100, "only {} cases are named", cases.len());
    let unknown: Vec<&&str> = cases.iter().filter(|name| !known.contains(name)).collect();
    assert!(unknown.is_empty(), "no such cases: {unknown:?}");
}
