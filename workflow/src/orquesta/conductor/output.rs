//! The output of a completed workflow, and the context that it is rendered in (spec/orquesta.md §6.4, §20).

use model::resource::Object;

use super::super::expression::Scope;
use super::super::state::ErrorEntry;
use super::super::status::Status;
use super::{ConductError, Conductor, Env, settle};

impl Conductor {
    /// The merged context of all terminal tasks.
    ///
    /// # Errors
    ///
    /// If the workflow hasn't completed.
    pub fn terminal_context(&self) -> Result<Object, ConductError> {
        if !self.state.status.is_completed() {
            return Err(ConductError::NotCompleted);
        }
        let mut merged: Option<Object> = None;
        for task in self.state.tasks.iter().filter(|task| task.term) {
            match &mut merged {
                None => merged = Some(Object::clone(&self.state.contexts.merged(task.ctx_in))),
                Some(merged) => self.state.contexts.merge_rest(merged, task.ctx_in),
            }
        }
        Ok(merged.unwrap_or_default())
    }

    /// Renders the output once the workflow has completed; entries that can't be rendered are logged and left out,
    /// and the workflow has failed then.
    ///
    /// # Errors
    ///
    /// Only keys of the datastore that are needed.
    pub fn render_output(&mut self, env: Env<'_>) -> Result<(), ConductError> {
        let program = self.program.clone();
        if !self.state.status.is_completed() || self.state.output.is_some() || program.definition.output.is_empty() {
            return Ok(());
        }
        let mut ctx = self.terminal_context()?;
        let mut output = Object::new();
        for entry in &program.definition.output {
            let scope = Scope { ctx: &ctx, task: None, item: None, tasks: self };
            match env.expressions.evaluate(&entry.value, &scope) {
                Ok(value) => {
                    ctx.insert(entry.name.clone(), value.clone());
                    output.insert(entry.name.clone(), value);
                }
                Err(failure) => {
                    let failure = settle(failure)?;
                    self.log(ErrorEntry::new(failure.to_string()));
                    if !matches!(self.state.status, Status::Timeout | Status::Abandoned | Status::Canceled) {
                        self.fail();
                    }
                }
            }
        }
        self.state.output = (!output.is_empty()).then_some(output);
        Ok(())
    }
}
