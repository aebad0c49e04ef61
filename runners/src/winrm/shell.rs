//! A shell on a host: opened, used for some commands, deleted.

use std::time::Duration;

use model::OutputType;
use tokio::time::timeout;

use super::client::{Client, WinrmError};
use super::powershell::{LINE_LIMIT, encoded};
use super::soap::{self, AnswerError, Ask};
use crate::live::LiveOutput;
use crate::process::capture::Capture;

/// Seconds that the host may hold a request for output.
const WAIT: u64 = 20;

/// How long ending what is left may take.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// Characters of base64 that a command line carries of a long script.
const CHUNK: usize = 2048;

/// A shell, and the command that runs in it.
#[derive(Debug)]
pub struct Shell {
    client: Client,
    /// Set once it is open.
    id: Option<String>,
    command: Option<String>,
    /// The directory that holds a long script.
    directory: Option<String>,
    limit: usize,
}

/// What a command left behind.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Shell {
    /// `limit`: bytes of stdout and of stderr that are kept.
    pub const fn new(client: Client, limit: usize) -> Self {
        Self { client, id: None, command: None, directory: None, limit }
    }

    pub async fn open(&mut self, cwd: Option<&str>, environment: &[(String, String)]) -> Result<(), WinrmError> {
        let answer = self.client.ask(&Ask::Create { cwd, environment }, WAIT).await?;
        self.id = Some(soap::shell_id(&answer)?);
        Ok(())
    }

    /// Runs a command line to its end. Its output goes to `live` as it comes.
    pub async fn run(&mut self, line: &str, mut live: Option<&mut LiveOutput>) -> Result<Done, WinrmError> {
        let shell = self.id.clone().ok_or(AnswerError::Unclear("a shell without an id"))?;
        let answer = self.client.ask(&Ask::Command { shell: &shell, line }, WAIT).await?;
        let command = soap::command_id(&answer)?;
        self.command = Some(command.clone());
        let (mut stdout, mut stderr) = (Capture::new(self.limit), Capture::new(self.limit));
        let code = loop {
            let ask = Ask::Receive { shell: &shell, command: &command };
            let answer = storing(self.client.ask(&ask, WAIT), live.as_deref_mut()).await?;
            let received = match soap::received(&answer) {
                Err(AnswerError::NothingYet) => continue,
                received => received?,
            };
            stdout.push(&received.stdout);
            stderr.push(&received.stderr);
            if let Some(live) = live.as_deref_mut() {
                live.push(OutputType::Stdout, &received.stdout);
                live.push(OutputType::Stderr, &received.stderr);
            }
            if let Some(code) = received.exit {
                break code;
            }
        };
        self.end_command().await?;
        Ok(Done { code, stdout: stdout.into_text(), stderr: stderr.into_text() })
    }

    /// Runs a script, however long.
    pub async fn run_script(&mut self, script: &str, live: &mut LiveOutput) -> Result<Done, WinrmError> {
        let line = encoded(script);
        if line.len() <= LINE_LIMIT {
            return self.run(&line, Some(live)).await;
        }
        let make = "$d = Join-Path ([System.IO.Path]::GetTempPath()) ([System.Guid]::NewGuid().ToString()); \
                    [void](New-Item -ItemType Directory -Path $d); [Console]::Out.Write($d)";
        let directory = self.step(make).await?.trim().replace('\'', "''");
        self.directory = Some(directory.clone());
        let file = format!("{directory}\\script.ps1");
        // With a mark of its encoding: without, Windows PowerShell takes the text for the machine's code page.
        let bytes = [b"\xef\xbb\xbf", script.as_bytes()].concat();
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes);
        for chunk in text.as_bytes().chunks(CHUNK) {
            let chunk = String::from_utf8_lossy(chunk);
            let append = format!(
                "$b = [Convert]::FromBase64String('{chunk}'); $f = [System.IO.File]::Open('{file}', 'Append'); \
                 $f.Write($b, 0, $b.Length); $f.Close()"
            );
            self.step(&append).await?;
        }
        let line = format!("powershell -executionpolicy bypass -file \"{}\"", file.replace("''", "'"));
        let done = self.run(&line, Some(live)).await?;
        self.remove().await?;
        Ok(done)
    }

    async fn step(&mut self, script: &str) -> Result<String, WinrmError> {
        let done = self.run(&encoded(script), None).await?;
        if done.code == 0 {
            return Ok(done.stdout);
        }
        let text = super::powershell::clean_errors(&done.stderr);
        Err(WinrmError::Http(format!("the script could not be written to the host: {}", text.trim())))
    }

    async fn remove(&mut self) -> Result<(), WinrmError> {
        if let Some(directory) = self.directory.take() {
            self.step(&format!("Remove-Item -Force -Recurse -LiteralPath '{directory}'")).await?;
        }
        Ok(())
    }

    /// Ends what runs, and tells the host that its output isn't wanted any more.
    async fn end_command(&mut self) -> Result<(), WinrmError> {
        if let (Some(shell), Some(command)) = (&self.id, self.command.take()) {
            let answer = self.client.ask(&Ask::Terminate { shell, command: &command }, WAIT).await?;
            soap::check(&answer)?;
        }
        Ok(())
    }

    /// Leaves nothing on the host, as far as it answers.
    pub async fn close(mut self, host: &str) {
        let cleaning = async {
            let ended = self.end_command().await;
            let removed = self.remove().await;
            let Some(shell) = &self.id else { return Ok(()) };
            self.client.ask(&Ask::Delete { shell }, WAIT).await.map(|_| ())?;
            ended.and(removed)
        };
        match timeout(CLEAN_UP, cleaning).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(host, %error, "closing a shell"),
            Err(_) => tracing::warn!(host, "a shell is left open: the host does not answer"),
        }
    }
}

/// Stores live output while it waits.
async fn storing<T>(waiting: impl Future<Output = T>, live: Option<&mut LiveOutput>) -> T {
    let Some(live) = live else { return waiting.await };
    tokio::pin!(waiting);
    loop {
        tokio::select! {
            done = &mut waiting => return done,
            () = live.work(), if live.has_work() => {}
        }
    }
}
