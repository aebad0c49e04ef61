//! For runner types that this node can't run.

use async_trait::async_trait;

use crate::runner::{Ending, Failure, Run, Runner};

#[derive(Debug)]
pub struct Unavailable;

#[async_trait]
impl Runner for Unavailable {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        Err(Failure::new(format!(
            "Runner \"{}\" of action \"{}\" is not available on node \"{}\".",
            run.execution.runner_type, run.action.reference, run.host.options.hostname
        )))
    }
}
