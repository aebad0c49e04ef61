//! The same work on many hosts, some at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream;
use model::Status;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::command::Command;
use super::connect::Connection;
use super::exec::{Bounds, Pieces, execute};
use super::host_keys::HostKeys;
use super::outcome::{End, HostError, HostOutcome, ending};
use super::plan::{Destination, Route};
use super::upload::{self, Upload};
use crate::runner::{Ending, Run};
use crate::stop::StopReason;

/// Pieces of output between the host and the store.
const PIECES: usize = 16;

/// What each host is to do.
#[derive(Debug)]
pub struct Work {
    pub command: Command,
    pub upload: Option<Upload>,
    pub timeout: Duration,
}

/// Runs it on every host, and tells what came of each.
pub async fn on_hosts(run: &mut Run<'_>, hosts: Vec<Destination>, work: Work) -> Ending {
    let options = &run.host.options;
    let (ssh, keys) = (&options.ssh, &run.host.host_keys);
    let (stop, seconds) = (CancellationToken::new(), ssh.connect_timeout.as_secs());
    let bounds =
        Bounds { timeout: work.timeout, grace: options.kill_grace, output: options.output_limit, stop: stop.clone() };
    let (pieces, mut arriving) = mpsc::channel(PIECES);
    // The output of several would be mixed up.
    let pieces = (hosts.len() == 1).then_some(pieces);
    let one = One {
        command: &work.command,
        upload: work.upload.as_ref(),
        bounds: &bounds,
        keys,
        connect: ssh.connect_timeout,
    };
    let count = hosts.len();
    let mut running = stream::iter(hosts.into_iter().enumerate().map(|(at, host)| {
        let pieces = pieces.clone();
        async move { (at, host.key.clone(), one.host(host, pieces.as_ref()).await) }
    }))
    .buffer_unordered(ssh.max_parallel.max(1));
    let mut done = Vec::with_capacity(count);
    let mut stopped: Option<StopReason> = None;
    while done.len() < count {
        tokio::select! {
            Some(outcome) = running.next() => done.push(outcome),
            Some((kind, bytes)) = arriving.recv(), if run.live.has_room() => run.live.push(kind, &bytes),
            () = run.live.work(), if run.live.has_work() => {}
            reason = run.stop.next() => {
                stopped = stopped.max(Some(reason));
                stop.cancel();
            }
        }
    }
    while let Ok((kind, bytes)) = arriving.try_recv() {
        run.live.push(kind, &bytes);
    }
    run.live.finish().await;
    done.sort_by_key(|(at, ..)| *at);
    let outcomes = done.into_iter().map(|(_, key, outcome)| (key, outcome)).collect();
    let mut ending = ending(outcomes, ssh.allow_partial_failure, seconds);
    match stopped {
        Some(StopReason::Cancel) => ending.status = Status::Canceled,
        Some(_) => ending.status = Status::Abandoned,
        None => {}
    }
    ending
}

#[derive(Clone, Copy)]
struct One<'a> {
    command: &'a Command,
    upload: Option<&'a Upload>,
    bounds: &'a Bounds,
    keys: &'a HostKeys,
    connect: Duration,
}

impl One<'_> {
    async fn host(&self, destination: Destination, live: Option<&Pieces>) -> HostOutcome {
        let host = destination.key.as_str();
        let route = match destination.route {
            Ok(route) => route,
            Err(error) => return HostOutcome::error(error),
        };
        if self.bounds.stop.is_cancelled() {
            return stopped();
        }
        let connection = tokio::select! {
            connected = self.connect(host, route) => match connected {
                Ok(connection) => connection,
                Err(error) => return HostOutcome::error(error),
            },
            () = self.bounds.stop.cancelled() => return stopped(),
        };
        let Some(upload) = self.upload else {
            return self.execute(&connection, host, live).await;
        };
        let outcome = match upload.send(&connection, host, self.bounds).await {
            Ok(()) => self.execute(&connection, host, live).await,
            Err(outcome) => outcome,
        };
        upload.remove(&connection, host, self.bounds).await;
        outcome
    }

    async fn execute(&self, connection: &Connection, host: &str, live: Option<&Pieces>) -> HostOutcome {
        let line = self.command.line(rand::random());
        let Some(file) = &line.file else {
            return execute(connection, host, &line, self.bounds, live).await;
        };
        let outcome = match upload::write_private(file, connection, host, self.bounds).await {
            Ok(()) => execute(connection, host, &line, self.bounds, live).await,
            Err(outcome) => outcome,
        };
        upload::remove_private(file, connection, host, self.bounds).await;
        outcome
    }

    async fn connect(&self, host: &str, route: Arc<Route>) -> Result<Connection, HostError> {
        let opening = Connection::open(&route.login, route.bastion.as_ref(), self.keys);
        let cause = match timeout(self.connect, opening).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("No connection within {} seconds", self.connect.as_secs()),
        };
        Err(HostError::Connect { host: host.to_owned(), cause })
    }
}

const fn stopped() -> HostOutcome {
    HostOutcome { end: End::Stopped, stdout: String::new(), stderr: String::new() }
}
