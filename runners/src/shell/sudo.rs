//! Other users: which command line runs as whom (spec/runners.md §6), and signals to what they run.

use std::path::Path;

use super::args::quote;
use crate::process::end::Signal;

/// The user of the node and the user that actions run as.
#[derive(Debug, Clone)]
pub struct Users {
    is_root: bool,
    /// Set if actions run as somebody else.
    switch_to: Option<String>,
    has_sudo: bool,
}

/// A line for `/bin/sh -c`, and what goes to its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub command: String,
    pub stdin: Option<String>,
}

impl Users {
    /// Actions run as `system_user` if there is such a user on this machine, else as the node's own.
    pub fn find(system_user: &str) -> Self {
        let own = nix::unistd::geteuid();
        let wanted = nix::unistd::User::from_name(system_user).ok().flatten();
        let switch_to = wanted.filter(|user| user.uid != own).map(|user| user.name);
        let has_sudo = ["/usr/bin/sudo", "/bin/sudo", "/usr/local/bin/sudo"]
            .iter()
            .any(|path| Path::new(path).try_exists().unwrap_or(false));
        Self { is_root: own.is_root(), switch_to, has_sudo }
    }

    /// For tests of the command lines: an ordinary node user on a machine with sudo.
    pub fn switching_to(user: Option<&str>) -> Self {
        Self { is_root: false, switch_to: user.map(str::to_owned), has_sudo: true }
    }

    /// The line that runs `command` as the runner's parameters ask.
    pub fn line(&self, command: &str, sudo: bool, password: Option<&str>) -> Line {
        let password = password.filter(|password| !password.is_empty());
        let as_user = if sudo {
            // Root needs no help to be root, and small machines have no sudo.
            if self.is_root && !self.has_sudo {
                return Line { command: format!("bash -c {}", quote(command)), stdin: None };
            }
            String::new()
        } else {
            match &self.switch_to {
                None => return Line { command: command.to_owned(), stdin: None },
                Some(user) if self.is_root && !self.has_sudo => {
                    let command = format!("runuser -u {} -- bash -c {}", quote(user), quote(command));
                    return Line { command, stdin: None };
                }
                Some(user) => format!(" -H -u {}", quote(user)),
            }
        };
        let ask = if password.is_some() { "-S " } else { "" };
        Line {
            command: format!("sudo {ask}-E{as_user} -- bash -c {}", quote(command)),
            stdin: password.map(|password| format!("{password}\n\n")),
        }
    }

    /// Whether the line reaches another user: its processes can't be signalled without help.
    pub const fn switches(&self) -> bool {
        self.switch_to.is_some()
    }
}

/// Signals a session that has processes of other users, as far as sudo lets us.
pub fn signal_session(sid: i32, signal: Signal) {
    let name = signal.as_str().trim_start_matches("SIG");
    let command = format!("exec sudo -n pkill -{name} -s {sid}");
    let spawned = crate::process::Command {
        program: "/bin/sh".to_owned(),
        args: vec!["sh".to_owned(), "-c".to_owned(), command],
        environment: crate::process::spawn::own_environment(),
        descriptors: Vec::new(),
    }
    .spawn();
    match spawned {
        Ok(mut child) => {
            // Not awaited where it is called, so it is given its own bounded wait.
            tokio::task::spawn(async move {
                let _ = tokio::time::timeout(std::time::Duration::from_secs(10), child.exit()).await;
            });
        }
        Err(error) => tracing::warn!(sid, %error, "could not signal processes of another user"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_command_lines() {
        let line = |users: &Users, sudo, password| users.line("echo 'a'", sudo, password);
        let same = Users::switching_to(None);
        let other = Users::switching_to(Some("stanley"));
        let inner = r#"'echo '"'"'a'"'"''"#;
        assert_eq!(line(&same, false, None).command, "echo 'a'");
        assert_eq!(line(&other, false, None).command, format!("sudo -E -H -u stanley -- bash -c {inner}"));
        assert_eq!(line(&same, true, None).command, format!("sudo -E -- bash -c {inner}"));
        let with_password = line(&other, true, Some("pw"));
        assert_eq!(with_password.command, format!("sudo -S -E -- bash -c {inner}"));
        assert_eq!(with_password.stdin.as_deref(), Some("pw\n\n"));
        let user_with_password = line(&other, false, Some("pw"));
        assert_eq!(user_with_password.command, format!("sudo -S -E -H -u stanley -- bash -c {inner}"));
        let root = Users { is_root: true, has_sudo: false, ..other };
        assert_eq!(line(&root, false, None).command, format!("runuser -u stanley -- bash -c {inner}"));
        assert_eq!(line(&root, true, Some("pw")).command, format!("bash -c {inner}"));
    }
    #[test]
    fn root_becomes_another_user_without_sudo() {
        let users = Users { is_root: true, switch_to: Some("nobody".to_owned()), has_sudo: false };
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: this takes root");
            return;
        }
        let line = users.line("id -un; grep CapEff /proc/self/status; echo \"$X\"", false, None);
        let done = std::process::Command::new("sh").args(["-c", &line.command]).env("X", "it's").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&done.stdout), "nobody\nCapEff:\t0000000000000000\nit's\n", "{done:?}");
    }
}
