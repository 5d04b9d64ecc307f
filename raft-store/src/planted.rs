//! Bugs that are planted on purpose, to show that the checkers of `chaos` find them. Without the feature `planted-bugs`
//! there are none, and asking costs nothing.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A put is answered when it is proposed.
    AcknowledgeBeforeCommit,
    /// A linearizable read is answered from whatever this member has.
    StaleRead,
    /// Some events reach no watcher.
    DropWatchEvent,
    /// A write is made though its fence no longer holds.
    SkipFence,
}

/// Whether `XEBEC_PLANTED_BUG` names this one.
#[cfg(feature = "planted-bugs")]
pub fn planted(bug: Bug) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| match std::env::var("XEBEC_PLANTED_BUG").ok()?.as_str() {
        "acknowledge-before-commit" => Some(Bug::AcknowledgeBeforeCommit),
        "stale-read" => Some(Bug::StaleRead),
        "drop-watch-event" => Some(Bug::DropWatchEvent),
        "skip-fence" => Some(Bug::SkipFence),
        other => panic!("no such bug: {other}"),
    });
    *chosen == Some(bug)
}

#[cfg(not(feature = "planted-bugs"))]
pub const fn planted(_: Bug) -> bool {
    false
}
