//! Running a completed workflow again from some of its tasks (spec/orquesta.md §19).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::status::Status;
use super::{ConductError, Conductor, fingerprint};

/// A task to run again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RerunRequest {
    pub task: String,
    pub route: u32,
    /// All items run again, not only those that abended.
    pub reset_items: bool,
}

impl Conductor {
    /// Runs tasks again: those asked for, or all that abended and ended the workflow. The workflow is resuming then.
    ///
    /// # Errors
    ///
    /// If the workflow hasn't completed, or a task has no instance.
    pub fn rerun(&mut self, requests: Option<&[RerunRequest]>) -> Result<(), ConductError> {
        if !self.state.status.is_completed() {
            return Err(ConductError::NotRerunnable);
        }
        let chosen = match requests.filter(|requests| !requests.is_empty()) {
            Some(requests) => self.requested(requests)?,
            None => self.abended(),
        };
        for (seq, reset_items) in self.by_name(&chosen) {
            self.again(seq, reset_items);
        }
        // What a `fail` noted, it notes again if it comes to it again.
        for command in self.commands() {
            self.forget_errors(&command);
        }
        self.free_successors(&chosen.keys().copied().collect());
        self.reopen_others();
        self.state.reruns.push(chosen.keys().copied().collect());
        self.state.output = None;
        self.state.status = Status::Resuming;
        Ok(())
    }

    /// In the order of names and routes.
    fn by_name(&self, chosen: &BTreeMap<u32, bool>) -> Vec<(u32, bool)> {
        let mut ordered: Vec<(u32, bool)> = chosen.iter().map(|(seq, reset)| (*seq, *reset)).collect();
        ordered.sort_by_key(|(seq, _)| {
            let task = &self.state.tasks[*seq as usize];
            (task.id.clone(), task.route)
        });
        ordered
    }

    /// Terminal instances that abended.
    fn abended(&self) -> BTreeMap<u32, bool> {
        let seqs = self.index.instances();
        seqs.filter(|seq| {
            let task = &self.state.tasks[*seq as usize];
            task.term && task.status.is_abended() && self.command_of(*seq).is_none()
        })
        .map(|seq| (seq, false))
        .collect()
    }

    fn command_of(&self, seq: u32) -> Option<super::super::machines::task::Command> {
        let node = self.program.graph.node_of(&self.state.tasks[seq as usize].id)?;
        self.program.graph.get(node).command
    }

    /// The instances asked for, but those directly behind another one of them.
    fn requested(&self, requests: &[RerunRequest]) -> Result<BTreeMap<u32, bool>, ConductError> {
        let mut chosen = BTreeMap::new();
        let mut unknown = Vec::new();
        for request in requests {
            let node = self.program.graph.node_of(&request.task);
            match node.and_then(|node| self.index.latest((node, request.route))) {
                Some(seq) => {
                    chosen.insert(seq, request.reset_items);
                }
                None => unknown.push(format!("{}|{}", request.task, request.route)),
            }
        }
        if !unknown.is_empty() {
            return Err(ConductError::RerunRequest(unknown.join(", ")));
        }
        let seqs: BTreeSet<u32> = chosen.keys().copied().collect();
        chosen.retain(|seq, _| !self.state.tasks[*seq as usize].prev.values().any(|before| seqs.contains(before)));
        Ok(chosen)
    }

    /// Stages an instance again: the instance itself if its items are kept, otherwise a new one.
    fn again(&mut self, seq: u32, reset_items: bool) {
        self.set_term(seq, false);
        let task = self.state.tasks[seq as usize].clone();
        let Some(node) = self.program.graph.node_of(&task.id) else { return };
        let place = (node, task.route);
        self.forget_errors(&task.id);
        let number = self.index.staged(place);
        if let Some(number) = number
            && let Some(staged) = self.state.staged.get_mut(&number)
            && let Some(items) = &mut staged.items
        {
            staged.completed = false;
            for item in 0..items.len() {
                let status = items.statuses()[item];
                if reset_items || status.is_abended() {
                    items.set(item, Status::Unset);
                    self.index.dirty.items.insert((number, u32::try_from(item).unwrap_or(u32::MAX)));
                }
            }
            self.index.stage(place, number, &self.state.staged[&number]);
            return;
        }
        self.unstage(place);
        self.stage(node, task.route, task.ctx_in, task.prev.clone(), true);
        let fresh = u32::try_from(self.state.tasks.len()).unwrap_or(u32::MAX);
        let mut instance = task;
        instance.status = Status::Unset;
        instance.next = BTreeMap::new();
        instance.ctx_out = None;
        instance.result = None;
        instance.items = None;
        instance.started = None;
        instance.ended = None;
        if let Some(retry) = &mut instance.retry {
            retry.tally = 0;
        }
        self.state.tasks.push(instance);
        self.index.begin(&self.program.graph, place, fresh, &self.state.tasks);
    }

    /// Names of instances that were commands of the engine.
    fn commands(&self) -> BTreeSet<Arc<str>> {
        let seqs = self.index.instances().filter(|seq| self.command_of(*seq).is_some());
        seqs.map(|seq| self.state.tasks[seq as usize].id.clone()).collect()
    }

    fn forget_errors(&mut self, task: &Arc<str>) {
        let before = self.state.errors.len();
        self.state.errors.retain(|error| error.task_id.as_ref() != Some(task));
        if self.state.errors.len() != before {
            self.index.dirty.errors = 0;
            self.index.logged = self.state.errors.iter().map(fingerprint).collect();
        }
    }

    /// What came directly after the chosen instances doesn't end the workflow any more; what came later had something
    /// behind it, or ends it still, as in the reference.
    fn free_successors(&mut self, chosen: &BTreeSet<u32>) {
        for seq in (0..).take(self.state.tasks.len()) {
            if self.state.tasks[seq as usize].prev.values().any(|before| chosen.contains(before)) {
                self.set_term(seq, false);
            }
        }
    }

    /// Tasks that had more behind them, when the workflow ended, go on.
    fn reopen_others(&mut self) {
        for seq in 0..self.state.tasks.len() {
            let task = &self.state.tasks[seq];
            if task.term && task.next.values().any(|fired| *fired) {
                self.set_term(u32::try_from(seq).unwrap_or(u32::MAX), false);
            }
        }
    }

    /// Whether a re-run has nothing to do: no instance could be staged (spec/orquesta.md §19).
    pub fn is_idle(&self) -> bool {
        self.state.status == Status::Resuming && self.index.is_over()
    }
}
