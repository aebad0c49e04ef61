//! `python-script`: an action class in a fork of a warm interpreter, or in a fresh one (spec/runners.md §11, DESIGN §7).
//!
//! | module | holds |
//! |---|---|
//! | [`host`] | the warm interpreters of a node, by interpreter |
//! | [`zygote`] | one warm interpreter and the runs that it forked |
//! | [`interpreter`] | which `python` serves a pack |
//! | [`control`] | the socket over which request and result travel |
//! | [`request`] | what the child needs to know |
//!
//! The other side is `sdk/python/squall_host`. Pack code is imported in the fork, never in the warm interpreter: what a
//! module does when it is imported (state in globals, threads, patched libraries) must not reach other runs.

pub mod control;
pub mod host;
pub mod interpreter;
pub mod outcome;
pub mod request;
pub mod zygote;

use std::time::Duration;

use async_trait::async_trait;
pub use host::PythonHost;
use serde_json::Value;

use crate::process::{Limits, supervise};
use crate::runner::{Ending, Failure, Run, Runner};
use crate::shell::outcome::out_of_memory;

/// StackStorm's default of the parameter `timeout`, seconds.
const DEFAULT_TIMEOUT: u64 = 600;

/// How long the result may take once the process has ended; it lies in the socket by then.
const RESULT_DRAIN: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct PythonScript;

#[async_trait]
impl Runner for PythonScript {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let pack_directory = run.pack_directory().await?;
        let interpreter = run.host.python.interpreter(run, &pack_directory).await?;
        let content_directory = run.content_directory(&pack_directory).await?;
        let group = run.host.group(run.execution.id.to_string()).await?;
        let request = request::build(run, &content_directory, &interpreter, group.as_ref()).await?;
        let timeout = run.parameters.runner.get("timeout").and_then(Value::as_u64).unwrap_or(DEFAULT_TIMEOUT);
        let limits = Limits {
            timeout: Some(Duration::from_secs(timeout)),
            grace: run.host.options.kill_grace,
            output: run.host.options.output_limit,
        };
        let mut started = run.host.python.start(&interpreter.executable).await?;
        let max_result = run.services.settings.max_result_size;
        let exchange = control::exchange(started.control, &request, max_result);
        tokio::pin!(exchange);
        let watch = supervise(started.process.as_mut(), started.pipes, limits, &mut run.stop, &mut run.live);
        tokio::pin!(watch);
        let mut answer = None;
        let finished = loop {
            tokio::select! {
                biased;
                finished = &mut watch => break finished?,
                exchanged = &mut exchange, if answer.is_none() => answer = Some(exchanged),
            }
        };
        let answer = match answer {
            Some(answer) => answer,
            // What else holds the socket open (a descendant of the action) has nothing to say.
            None => tokio::time::timeout(RESULT_DRAIN, exchange).await.unwrap_or(Ok(None)),
        };
        let by_force = finished.timed_out || finished.stopped.is_some();
        let mut ending = outcome::ending(finished, answer, timeout)?;
        if let Some(group) = group {
            out_of_memory(&mut ending, group.end(by_force).await);
        }
        Ok(ending)
    }
}
