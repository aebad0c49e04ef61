//! One command on one connection: its output, its end, its time limit.

use std::time::Duration;

use model::OutputType;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, Sig};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::command::Line;
use super::connect::Connection;
use super::outcome::{End, HostError, HostOutcome};
use crate::process::capture::Capture;
use crate::shell::args::quote;

/// How long a host may take to look for the processes of a command.
const SWEEP: Duration = Duration::from_secs(5);

/// stderr in SSH's numbering of a channel's data.
const STDERR: u32 = 1;

/// Live output of the only host, in order.
pub type Pieces = mpsc::Sender<(OutputType, Vec<u8>)>;

/// What bounds a command.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Bytes of stdout and of stderr that are kept.
    pub output: usize,
    /// Ends it before its time.
    pub stop: CancellationToken,
}

/// Runs the line and reads until the host closes the channel: the exit status may come before the last output.
pub async fn execute(
    connection: &Connection,
    host: &str,
    line: &Line,
    bounds: &Bounds,
    live: Option<&Pieces>,
) -> HostOutcome {
    let lost = |cause: String| HostOutcome::error(HostError::Execute { host: host.to_owned(), cause });
    let deadline = Instant::now() + bounds.timeout;
    let opened = tokio::select! {
        opened = timeout(bounds.timeout, open(connection, line)) => opened,
        () = bounds.stop.cancelled() => return HostOutcome { end: End::Stopped, ..lost(String::new()) },
    };
    match opened {
        Err(_) => HostOutcome { end: End::TimedOut(bounds.timeout.as_secs()), ..lost(String::new()) },
        Ok(Err(error)) => lost(error.to_string()),
        Ok(Ok(channel)) => {
            let running = Running {
                connection,
                mark: line.mark.as_deref(),
                channel,
                stdout: Capture::new(bounds.output),
                stderr: Capture::new(bounds.output),
                code: None,
                live,
            };
            let mut outcome = running.finish(host, bounds, deadline).await;
            if line.wants_terminal {
                outcome.stdout = outcome.stdout.replace("\r\n", "\n");
            }
            outcome
        }
    }
}

async fn open(connection: &Connection, line: &Line) -> Result<Channel<Msg>, russh::Error> {
    let channel = connection.handle.channel_open_session().await?;
    if line.wants_terminal {
        channel.request_pty(false, "vt100", 80, 24, 0, 0, &[]).await?;
    }
    channel.exec(true, line.text.as_bytes()).await?;
    if let Some(input) = &line.stdin {
        channel.data_bytes(input.clone()).await?;
    }
    channel.eof().await?;
    Ok(channel)
}

struct Running<'a> {
    connection: &'a Connection,
    mark: Option<&'a str>,
    channel: Channel<Msg>,
    stdout: Capture,
    stderr: Capture,
    code: Option<i32>,
    live: Option<&'a Pieces>,
}

/// What a message on the channel means for the wait.
enum Heard {
    More,
    /// The host won't run it.
    Refused,
    Closed,
}

impl Running<'_> {
    async fn finish(mut self, host: &str, bounds: &Bounds, deadline: Instant) -> HostOutcome {
        let mut refused = false;
        let end = loop {
            tokio::select! {
                message = self.channel.wait() => match self.take(message).await {
                    Heard::More => {}
                    Heard::Refused => refused = true,
                    Heard::Closed => break None,
                },
                () = sleep_until(deadline) => break Some(End::TimedOut(bounds.timeout.as_secs())),
                () = bounds.stop.cancelled() => break Some(End::Stopped),
            }
        };
        if end.is_some() {
            self.kill(bounds.grace).await;
        }
        let unknown = if refused { "The host refused to run the command." } else { "The connection was lost." };
        let end = end.unwrap_or_else(|| {
            let lost = || End::Error(HostError::Execute { host: host.to_owned(), cause: unknown.to_owned() });
            self.code.map_or_else(lost, End::Exited)
        });
        HostOutcome { end, stdout: self.stdout.into_text(), stderr: self.stderr.into_text() }
    }

    async fn take(&mut self, message: Option<ChannelMsg>) -> Heard {
        match message {
            Some(ChannelMsg::Data { data }) => self.output(OutputType::Stdout, &data).await,
            Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => self.output(OutputType::Stderr, &data).await,
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                self.code = Some(i32::try_from(exit_status).unwrap_or(-1));
            }
            Some(ChannelMsg::ExitSignal { .. }) => self.code = Some(-1),
            Some(ChannelMsg::Failure) => return Heard::Refused,
            Some(ChannelMsg::Close) | None => return Heard::Closed,
            Some(_) => {}
        }
        Heard::More
    }

    async fn output(&mut self, kind: OutputType, data: &[u8]) {
        let kept = if kind == OutputType::Stderr { &mut self.stderr } else { &mut self.stdout };
        kept.push(data);
        if let Some(live) = self.live {
            // Nobody listens any more: the result has it.
            let _ = live.send((kind, data.to_vec())).await;
        }
    }

    /// A host may not pass signals on (OpenSSH doesn't to sessions of root): then they are sent by a command beside it.
    ///
    /// SIGTERM to the session's processes, after the grace SIGKILL, then the channel is closed: a terminal's
    /// processes are hung up by that. Output until then is kept.
    async fn kill(&mut self, grace: Duration) {
        for (signal, name) in [(Sig::TERM, "TERM"), (Sig::KILL, "KILL")] {
            if self.channel.signal(signal).await.is_err() {
                return;
            }
            if let Some(mark) = self.mark {
                let _ = timeout(SWEEP, sweep(self.connection, mark, name)).await;
            }
            let ended = timeout(grace, async {
                loop {
                    let message = self.channel.wait().await;
                    if matches!(self.take(message).await, Heard::Closed) {
                        return;
                    }
                }
            });
            if ended.await.is_ok() {
                return;
            }
        }
        let _ = self.channel.close().await;
    }
}

/// Sends a signal to the sessions of all processes whose environment has the mark. Needs Linux's `/proc` on the host.
async fn sweep(connection: &Connection, mark: &str, signal: &str) -> Result<(), russh::Error> {
    let text = format!(
        "for e in /proc/[0-9]*/environ; do grep -qzxF {} \"$e\" || continue; p=${{e%/environ}}; \
         s=$(sed 's/.*) //' \"$p/stat\" | cut -d' ' -f4); kill -s {signal} \"${{p#/proc/}}\"; \
         [ \"${{s:-0}}\" -gt 1 ] && kill -s {signal} -- \"-$s\"; done 2>/dev/null",
        quote(mark)
    );
    let mut channel = connection.handle.channel_open_session().await?;
    channel.exec(true, format!("exec /bin/sh -c {}", quote(&text)).into_bytes()).await?;
    channel.eof().await?;
    while !matches!(channel.wait().await, Some(ChannelMsg::Close) | None) {}
    Ok(())
}
