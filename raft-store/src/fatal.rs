//! The end of the process when going on could lose or corrupt data.
//!
//! Not an orderly end on purpose: nothing may be written any more, least of all what destructors would write.

use std::fmt::Display;

/// Says what failed and what an operator should do, and ends the process with status 1.
#[allow(clippy::disallowed_methods)]
pub fn end_process(what: &str, error: &dyn Display) -> ! {
    let text = error.to_string();
    let advice = if text.contains("No space left") || text.contains("os error 28") {
        "the disk is full: make room and start again; nothing acknowledged is lost"
    } else {
        "what is on disk is no longer known to this process: look at the disk, then start again"
    };
    tracing::error!(error = text, advice, "{what} failed; ending");
    eprintln!("{what} failed: {text}; ending: {advice}");
    std::process::exit(1)
}
