//! The line that a host's shell is given (spec/runners.md §8).

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
    /// The password for sudo. StackStorm writes it into the command line, where every user of the host can read it.
    pub stdin: Option<Vec<u8>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text holds a token, the input a password.
        f.debug_struct("Line").field("wants_terminal", &self.wants_terminal).finish_non_exhaustive()
    }
}

impl Command {
    pub fn line(&self) -> Line {
        let mut environment = self.environment.clone();
        let password = self.sudo_password.as_deref().filter(|password| self.sudo && !password.is_empty());
        if password.is_some() {
            environment.insert("HISTFILE".to_owned(), "/dev/null".to_owned());
            environment.insert("HISTSIZE".to_owned(), "0".to_owned());
        }
        let mark = environment.get(OWN).map(|id| format!("{OWN}={id}"));
        let mut text = format!("cd {} && {}", self.directory(), self.text);
        if !environment.is_empty() {
            let mut pairs: Vec<_> = environment.iter().collect();
            pairs.sort();
            let pairs: Vec<_> =
                pairs.into_iter().map(|(name, value)| format!("{}={}", quote(name), quote(value))).collect();
            text = format!("export {} && {text}", pairs.join(" "));
        }
        if self.sudo {
            let ask = if password.is_some() { "-S " } else { "" };
            text = format!("sudo {ask}-E -- bash -c {}", quote(&text));
        }
        Line {
            text,
            wants_terminal: self.sudo && password.is_none(),
            mark,
            stdin: password.map(|password| format!("{password}\n").into_bytes()),
        }
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
        let line = command().line();
        assert_eq!(line.text, "export A=1 B='2 3' && cd /tmp/x y && echo 'a b'");
        assert!(!line.wants_terminal);
        let line = Command { quote_cwd: true, environment: Environment::default(), ..command() }.line();
        assert_eq!(line.text, "cd '/tmp/x y' && echo 'a b'");
    }

    #[test]
    fn sudo_takes_the_whole_and_reads_its_password() {
        let line = Command { sudo: true, environment: Environment::default(), ..command() }.line();
        assert_eq!(line.text, "sudo -E -- bash -c 'cd /tmp/x y && echo '\"'\"'a b'\"'\"''");
        assert!(line.wants_terminal && line.stdin.is_none());
        let line = Command { sudo: true, sudo_password: Some("pw".to_owned()), ..command() }.line();
        assert!(line.text.starts_with("sudo -S -E -- bash -c 'export A=1 B="));
        assert!(line.text.contains("HISTFILE=/dev/null HISTSIZE=0") && !line.text.contains("pw"));
        assert_eq!(line.stdin.as_deref(), Some(b"pw\n".as_slice()));
        assert!(!line.wants_terminal && !format!("{line:?}").contains("pw"));
    }
}
