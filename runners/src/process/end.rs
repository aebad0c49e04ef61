//! Ending a session: the leader's group and every other group that its descendants made.

use std::fs;

pub use nix::sys::signal::Signal;
use nix::sys::signal::{kill, killpg};
use nix::unistd::Pid;

/// Sends `signal` to every process of the session `sid`. False if some of them belong to another user and may not be
/// signalled.
///
/// A process that made a session of its own (a daemon) is out of reach: StackStorm's `pkill -s` does the same.
pub fn signal_session(sid: i32, signal: Signal) -> bool {
    let mut allowed = true;
    let mut note = |result: nix::Result<()>| allowed &= result != Err(nix::errno::Errno::EPERM);
    note(killpg(Pid::from_raw(sid), signal));
    for pid in members(sid) {
        note(kill(Pid::from_raw(pid), signal));
    }
    allowed
}

/// Members of the session that are not in its leader's process group.
fn members(sid: i32) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            group_and_session(&stat).is_some_and(|(group, session)| session == sid && group != sid)
        })
        .collect()
}

/// Fields 5 and 6; the second is in parentheses and may hold anything.
fn group_and_session(stat: &str) -> Option<(i32, i32)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::group_and_session;

    #[test]
    fn names_with_blanks_and_parentheses_do_not_confuse() {
        assert_eq!(group_and_session("12 (a ) b) (c) S 1 34 56 0 -1 4194560"), Some((34, 56)));
        assert_eq!(group_and_session(""), None);
    }
}
