//! The line that a host's shell is given (spec/runners.md §8).
//!
//! The line stands in the host's process list, which all its users can read. So the environment, with the token and
//! whatever secrets `env` holds, goes another way: the shell reads it from its input; with sudo, whose input may be a
//! terminal or a password, from a file that only the login's user can read and that the command begins with removing.

use crate::process::spawn::Environment;
use crate::shell::args::quote;

/// Each execution has its own value of it.
const OWN: &str = "ST2_ACTION_EXECUTION_ID";

/// What is to be run on each host.
#[derive(Debug, Clone)]
pub struct Command {
    /// Text for the remote shell; for scripts the quoted path and its arguments.
    pub text: String,
    pub cwd: String,
    /// Whether the directory is quoted: of scripts it is, in commands the shell may expand it (`~`, `$HOME`).
    pub quote_cwd: bool,
    pub environment: Environment,
    pub sudo: bool,
    pub sudo_password: Option<String>,
}

/// As it is sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    /// sudo without a password may insist on a terminal; with one, stderr is part of stdout.
    pub wants_terminal: bool,
    /// What stands in the environment of the command's processes, and in no other's.
    pub mark: Option<String>,
    /// The environment, or the password for sudo. StackStorm writes both into the command line.
    pub stdin: Option<Vec<u8>>,
    /// To be there before, and to be gone afterwards.
    pub file: Option<EnvironmentFile>,
}

/// Assignments for a shell, where they can't come by its input.
#[derive(Clone, PartialEq, Eq)]
pub struct EnvironmentFile {
    pub path: String,
    pub text: Vec<u8>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text holds a token, the input a password.
        f.debug_struct("Line").field("wants_terminal", &self.wants_terminal).finish_non_exhaustive()
    }
}

impl Command {
    /// `own`: distinguishes the environment's file from those of other hosts and runs; nobody can guess it.
    pub fn line(&self, own: u128) -> Line {
        let password = self.sudo_password.as_deref().filter(|password| self.sudo && !password.is_empty());
        let mark = self.environment.get(OWN).map(|id| format!("{OWN}={id}"));
        let text = format!("cd {} && {}", self.directory(), self.text);
        let assignments = self.assignments(password.is_some());
        if !self.sudo {
            let text = if assignments.is_some() { format!("eval \"$(cat)\" && {text}") } else { text };
            return Line { text, wants_terminal: false, mark, stdin: assignments, file: None };
        }
        let file = assignments.map(|text| EnvironmentFile { path: format!("/tmp/.st2-{own:032x}"), text });
        let text = match &file {
            Some(EnvironmentFile { path, .. }) => format!(". {path} && rm -f {path} && {text}"),
            None => text,
        };
        let ask = if password.is_some() { "-S " } else { "" };
        Line {
            text: format!("sudo {ask}-E -- bash -c {}", quote(&text)),
            wants_terminal: password.is_none(),
            mark,
            stdin: password.map(|password| format!("{password}\n").into_bytes()),
            file,
        }
    }

    /// In order of name; none if there is nothing to set.
    fn assignments(&self, without_history: bool) -> Option<Vec<u8>> {
        let mut environment = self.environment.clone();
        if without_history {
            environment.insert("HISTFILE".to_owned(), "/dev/null".to_owned());
            environment.insert("HISTSIZE".to_owned(), "0".to_owned());
        }
        if environment.is_empty() {
            return None;
        }
        let pairs: Vec<_> =
            environment.iter().map(|(name, value)| format!("{}={}", quote(name), quote(value))).collect();
        Some(format!("export {}\n", pairs.join(" ")).into_bytes())
    }

    fn directory(&self) -> String {
        if self.quote_cwd { quote(&self.cwd) } else { self.cwd.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        Command {
            text: "echo 'a b'".to_owned(),
            cwd: "/tmp/x y".to_owned(),
            quote_cwd: false,
            environment: [("B", "2 3"), ("A", "1")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            sudo: false,
            sudo_password: None,
        }
    }

    #[test]
    fn plain_commands() {
        let line = command().line(1);
        assert_eq!(line.text, "eval \"$(cat)\" && cd /tmp/x y && echo 'a b'");
        assert_eq!(line.stdin.as_deref(), Some(b"export A=1 B='2 3'\n".as_slice()));
        assert!(!line.wants_terminal && line.file.is_none());
        let line = Command { quote_cwd: true, environment: Environment::default(), ..command() }.line(1);
        assert_eq!((line.text.as_str(), line.stdin), ("cd '/tmp/x y' && echo 'a b'", None));
    }

    #[test]
    fn sudo_takes_the_whole_and_reads_its_password() {
        let line = Command { sudo: true, environment: Environment::default(), ..command() }.line(1);
        assert_eq!(line.text, "sudo -E -- bash -c 'cd /tmp/x y && echo '\"'\"'a b'\"'\"''");
        assert!(line.wants_terminal && line.stdin.is_none() && line.file.is_none());
        let line = Command { sudo: true, sudo_password: Some("pw".to_owned()), ..command() }.line(0xabc);
        let file = line.file.as_ref().unwrap();
        assert_eq!(file.path, "/tmp/.st2-00000000000000000000000000000abc");
        assert_eq!(file.text, b"export A=1 B='2 3' HISTFILE=/dev/null HISTSIZE=0\n");
        let begin = format!("sudo -S -E -- bash -c '. {0} && rm -f {0} && cd ", file.path);
        assert!(line.text.starts_with(&begin) && !line.text.contains("pw"), "{}", line.text);
        assert_eq!(line.stdin.as_deref(), Some(b"pw\n".as_slice()));
        assert!(!line.wants_terminal && !format!("{line:?}").contains("pw"));
    }
}
