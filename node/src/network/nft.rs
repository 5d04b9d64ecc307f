//! Hands a ruleset to `nft` as one transaction: all of it takes effect, or nothing.
//!
//! It must not know what the rules mean.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::NetworkError;
use crate::containerd::find_program;

/// How much of the complaint of `nft` is passed on, in bytes: it quotes the whole ruleset.
const MAX_REASON_BYTES: usize = 600;

/// Whether a table (`FAMILY NAME`) exists.
pub(crate) async fn exists(table: &str) -> bool {
    let Some(program) = find_program("nft") else {
        return false;
    };
    let status = Command::new(program)
        .args(["--terse", "list", "table"])
        .args(table.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.await.is_ok_and(|status| status.success())
}

/// Cuts a text to a number of bytes, between two characters.
pub(crate) fn truncate(text: &mut String, max_bytes: usize) {
    let end = (0..=max_bytes)
        .rev()
        .find(|end| text.is_char_boundary(*end));
    if text.len() > max_bytes {
        text.truncate(end.unwrap_or(0));
    }
}

/// Applies a ruleset atomically. `table` names it in errors.
pub(crate) async fn apply(table: &'static str, ruleset: &str) -> Result<(), NetworkError> {
    let program = find_program("nft").ok_or(NetworkError::NotInstalled {
        program: "nft",
        package: "nftables",
    })?;
    let refused = |reason: String| NetworkError::Nft { table, reason };
    let mut child = Command::new(program)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| refused(error.to_string()))?;
    let mut input = child.stdin.take().expect("its input was asked for");
    // It may complain before it has read everything: both ends must be served at once.
    let (written, output) = tokio::join!(
        async {
            let written = input.write_all(ruleset.as_bytes()).await;
            drop(input);
            written
        },
        child.wait_with_output(),
    );
    let output = output.map_err(|error| refused(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let mut reason = text.trim().replace('\n', " ");
        truncate(&mut reason, MAX_REASON_BYTES);
        return Err(refused(reason));
    }
    written.map_err(|error| refused(error.to_string()))
}
