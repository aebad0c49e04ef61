//! Named places where a test lets the process die, as by kill -9 (spec/ha.md §7).
//!
//! Compiled in with the feature `failpoints` only. `SQUALL_FAILPOINT=workflow:before-commit` ends the process the
//! first time it gets there, `SQUALL_FAILPOINT=workflow:before-commit:7` the seventh time.

/// A workflow has begun, nothing of it is launched; its beginner doesn't know yet.
pub const BEGUN: &str = "workflow:begun";
/// A message is in the inbox; its deliverer doesn't know yet.
pub const INBOX_INSERTED: &str = "workflow:inbox-inserted";
/// A workflow is claimed, its head and messages read.
pub const DRAIN_LOADED: &str = "workflow:drain-loaded";
/// Everything of a drain is written, nothing committed.
pub const BEFORE_COMMIT: &str = "workflow:before-commit";
/// The drain is committed, nothing launched.
pub const COMMITTED: &str = "workflow:committed";
/// Launches were made, none is marked.
pub const LAUNCHED: &str = "workflow:launched";

/// Those of the state's adapters.
pub const ALL: &[&str] = &[INBOX_INSERTED, DRAIN_LOADED, BEFORE_COMMIT, COMMITTED, LAUNCHED];

/// Those that an engine passes.
pub const ENGINE: &[&str] = &[BEGUN, INBOX_INSERTED, DRAIN_LOADED, BEFORE_COMMIT, COMMITTED, LAUNCHED];

/// Ends the process if the environment asks for it here.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ASKED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("SQUALL_FAILPOINT").ok()?;
        match text.rsplit_once(':') {
            Some((name, count)) if count.parse::<u64>().is_ok() => Some((name.to_owned(), count.parse().ok()?)),
            _ => Some((text, 1)),
        }
    });
    if let Some((name, count)) = asked
        && name == point
        && HITS.fetch_add(1, Ordering::SeqCst) + 1 == *count
    {
        std::process::abort();
    }
}

#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn hit(_point: &str) {}
