//! Passwords checked by a program outside: PAM's `unix_chkpwd`, `pwauth`, or one's own.
//!
//! The program gets the password on its standard input, never in its arguments, and answers with its exit code: 0 is
//! yes. So PAM, and whatever else only exists as a library, needs no library in this process and no root for it.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::{AuthBackend, BackendError};

/// Programs that run at a time.
const AT_A_TIME: usize = 8;
/// From this exit code on it is the program's trouble (`pwauth` and shells use these).
const TROUBLE: i32 = 50;

/// How the program takes user and password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// `unix_chkpwd`: the password and a zero byte; the user is an argument.
    #[default]
    Chkpwd,
    /// `pwauth`: the user's line, then the password's.
    Lines,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperOptions {
    pub program: PathBuf,
    /// `{user}` stands for the user's name.
    pub arguments: Vec<String>,
    pub protocol: Protocol,
    /// The program is killed when it takes longer.
    pub timeout: Duration,
}

impl Default for HelperOptions {
    fn default() -> Self {
        Self {
            program: PathBuf::from("/usr/sbin/unix_chkpwd"),
            arguments: vec!["{user}".to_owned(), "nonull".to_owned()],
            protocol: Protocol::Chkpwd,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Asks a program for each login.
#[derive(Debug)]
pub struct Helper {
    options: HelperOptions,
    running: Semaphore,
}

impl Helper {
    pub fn new(options: HelperOptions) -> Self {
        Self { options, running: Semaphore::new(AT_A_TIME) }
    }

    fn fail(&self, reason: impl std::fmt::Display) -> BackendError {
        BackendError(format!("{}: {reason}", self.options.program.display()))
    }

    async fn ask(&self, user: &str, password: &str) -> Result<bool, BackendError> {
        let arguments = self.options.arguments.iter().map(|argument| argument.replace("{user}", user));
        let mut child = Command::new(&self.options.program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.fail(error))?;
        let input = match self.options.protocol {
            Protocol::Chkpwd => format!("{password}\0"),
            Protocol::Lines => format!("{user}\n{password}\n"),
        };
        if let Some(mut stdin) = child.stdin.take() {
            // A program that answers before it has read everything has decided.
            drop(stdin.write_all(input.as_bytes()).await);
        }
        let status = child.wait().await.map_err(|error| self.fail(error))?;
        match status.code() {
            Some(0) => Ok(true),
            Some(code) if code < TROUBLE => Ok(false),
            _ => Err(self.fail(status)),
        }
    }
}

#[async_trait]
impl AuthBackend for Helper {
    async fn authenticate(&self, user: &str, password: &str) -> Result<bool, BackendError> {
        // What would be an option, another line, or the end of the text.
        let is_odd = |text: &str| text.is_empty() || text.contains(['\0', '\n', '\r']);
        if is_odd(user) || is_odd(password) || user.starts_with('-') {
            return Ok(false);
        }
        let _running = self.running.acquire().await.map_err(|error| self.fail(error))?;
        match tokio::time::timeout(self.options.timeout, self.ask(user, password)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.fail(format!("no answer within {:?}", self.options.timeout))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn helper(script: &str, protocol: Protocol) -> (tempfile::TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("check");
        std::fs::write(&program, format!("#!/bin/bash\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let timeout = Duration::from_secs(5);
        let options = HelperOptions { program, arguments: vec!["{user}".to_owned()], protocol, timeout };
        (dir, Helper::new(options))
    }

    #[tokio::test]
    async fn protocols() {
        let (_dir, lines) = helper("read -r u; read -r p; [ \"$u:$p\" = 'ana:se cret' ] || exit 1", Protocol::Lines);
        assert!(lines.authenticate("ana", "se cret").await.unwrap());
        assert!(!lines.authenticate("ana", "other").await.unwrap());
        let (_dir, zero) = helper("IFS= read -r -d '' p; [ \"$1:$p\" = 'ana:secret' ] || exit 7", Protocol::Chkpwd);
        assert!(zero.authenticate("ana", "secret").await.unwrap());
        assert!(!zero.authenticate("bob", "secret").await.unwrap());
    }

    #[tokio::test]
    async fn trouble_is_no_answer_and_odd_input_is_refused() {
        let (_dir, broken) = helper("exit 61", Protocol::Lines);
        assert!(broken.authenticate("ana", "secret").await.is_err());
        let (_dir, yes) = helper("exit 0", Protocol::Lines);
        assert!(yes.authenticate("ana", "secret").await.unwrap());
        for (user, password) in [("", "x"), ("ana", ""), ("-h", "x"), ("ana\nroot", "x"), ("ana", "x\ny"), ("a\0", "x")]
        {
            assert!(!yes.authenticate(user, password).await.unwrap());
        }
        let missing = Helper::new(HelperOptions { program: "/nowhere".into(), ..HelperOptions::default() });
        assert!(missing.authenticate("ana", "secret").await.is_err());
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let (dir, _) = helper("exec sleep 60", Protocol::Lines);
        let options = HelperOptions {
            program: dir.path().join("check"),
            timeout: Duration::from_millis(200),
            ..HelperOptions::default()
        };
        assert!(Helper::new(options).authenticate("ana", "secret").await.is_err());
    }
}
