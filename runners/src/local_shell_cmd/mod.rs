//! `local-shell-cmd`: a command line on this node (spec/runners.md §6).

use async_trait::async_trait;

use crate::runner::{Ending, Failure, Run, Runner};
use crate::shell::execute::text;
use crate::shell::{ShellRun, execute};

#[derive(Debug)]
pub struct LocalShellCmd;

#[async_trait]
impl Runner for LocalShellCmd {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        if !run.action.entry_point.is_empty() {
            return Err(Failure::new("entry_point is only valid for local-shell-script runner"));
        }
        let command = text(&run.parameters.runner, "cmd").unwrap_or_default().to_owned();
        execute(run, ShellRun { command, debug: false }).await
    }
}
