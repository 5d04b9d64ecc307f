//! The house rules that a compiler does not check: file sizes, file headers, and who may know whom.

use std::path::PathBuf;

use tests::repository;

/// No file is longer; most are much shorter.
const MAX_LINES: usize = 600;

/// For each folder: what must not be imported there, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "raft-store/src",
        &["k8s_openapi", "kube", "api_machinery", "api_server"],
        "the store does not know Kubernetes",
    ),
    (
        "control-plane",
        &["openraft", "rocksdb", "raft_store", "node"],
        "the control plane knows the store by one trait",
    ),
    (
        "control-plane/machinery",
        &["tokio", "hyper", "axum", "api_client", "api_server"],
        "api-machinery is pure",
    ),
    (
        "control-plane/client",
        &["api_server", "hyper", "axum"],
        "clients do not know the server's code",
    ),
    (
        "control-plane/scheduler/src",
        &["api_server", "controllers"],
        "the scheduler knows the API by its client",
    ),
    (
        "control-plane/controllers/src",
        &["api_server", "scheduler"],
        "controllers know the API by its client",
    ),
    (
        "node/src",
        &[
            "raft_store",
            "openraft",
            "rocksdb",
            "api_server",
            "api_machinery",
            "api_client",
            "control_plane",
        ],
        "the node agent knows only HTTP and CRI",
    ),
    (
        "tests",
        &[
            "raft_store",
            "api_server",
            "control_plane",
            "controllers",
            "scheduler",
        ],
        "tests know no internals",
    ),
    (
        "chaos/src",
        &["raft_store", "api_server", "control_plane", "node"],
        "chaos knows no internals",
    ),
];

fn root() -> PathBuf {
    repository()
}

/// Every Rust file of ours with its path from the root and its text.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("a folder of the repository")
            .flatten()
        {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("source files are UTF-8");
                let short = path
                    .strip_prefix(root())
                    .expect("below the root")
                    .to_string_lossy()
                    .into_owned();
                files.push((short, text));
            }
        }
    }
    assert!(files.len() > 50, "the repository was not found");
    files
}

fn report(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn files_are_small() {
    let lines = |text: &str| text.lines().count();
    let long = sources()
        .into_iter()
        .filter(|(_, text)| lines(text) > MAX_LINES);
    report(
        long.map(|(path, text)| format!("{path}: {} lines, at most {MAX_LINES}", lines(&text)))
            .collect(),
    );
}

#[test]
fn files_say_what_they_are() {
    let silent = sources()
        .into_iter()
        .filter(|(path, text)| !text.starts_with("//!") && !is_generated(path));
    report(
        silent
            .map(|(path, _)| format!("{path}: does not begin with //! lines"))
            .collect(),
    );
}

fn is_generated(path: &str) -> bool {
    path.contains("/generated/")
}

#[test]
fn modules_lie_beside_their_folders() {
    let old = sources()
        .into_iter()
        .filter(|(path, _)| path.ends_with("/mod.rs"));
    report(
        old.map(|(path, _)| format!("{path}: write foo.rs beside foo/"))
            .collect(),
    );
}

#[test]
fn parts_know_only_whom_they_may() {
    let mut findings = Vec::new();
    for (path, text) in sources() {
        for (folder, names, why) in FORBIDDEN
            .iter()
            .filter(|(folder, ..)| path.starts_with(folder))
        {
            // The tests of a control plane part may drive the real server.
            if path.starts_with("control-plane") && path.contains("/tests/")
                || path.contains("/examples/")
            {
                continue;
            }
            for (number, line) in text.lines().enumerate() {
                let line = line.trim_start();
                let code = !line.starts_with("//");
                let imports = |name: &&&str| {
                    line.starts_with(&format!("use {name}::"))
                        || line.contains(&format!(" {name}::")) && !line.contains('"')
                };
                if code && let Some(name) = names.iter().find(imports) {
                    findings.push(format!(
                        "{path}:{}: uses {name} in {folder}: {why}",
                        number + 1
                    ));
                }
            }
        }
    }
    report(findings);
}
