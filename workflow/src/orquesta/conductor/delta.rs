//! What has changed since the state was stored: so that storing a step writes what the step is about.

use std::collections::BTreeSet;

use model::resource::Object;

use super::super::state::State;
use super::Conductor;

/// What isn't stored yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Dirty {
    pub tasks: BTreeSet<u32>,
    pub staged: BTreeSet<u64>,
    pub items: BTreeSet<(u64, u32)>,
    pub errors: usize,
    initial: bool,
    contexts: usize,
    links: usize,
    routes: usize,
}

impl Dirty {
    /// All of a state is stored.
    pub fn stored(state: &State) -> Self {
        Self {
            contexts: state.contexts.values.len(),
            links: state.contexts.links.len(),
            routes: state.routes.len(),
            errors: state.errors.len(),
            ..Self::default()
        }
    }
}

/// Which parts of a state have changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Places in the sequence: instances that are new or changed.
    pub tasks: BTreeSet<u32>,
    /// Staged entries that are new, changed or gone.
    pub staged: BTreeSet<u64>,
    /// Items of staged entries whose status or result has changed.
    pub items: BTreeSet<(u64, u32)>,
    /// The initial context has other values.
    pub initial: bool,
    /// Contexts from here on are new.
    pub contexts: usize,
    /// Lists of contexts from here on are new.
    pub links: usize,
    /// Routes from here on are new.
    pub routes: usize,
    /// Errors from here on are new, or moved up because others were removed.
    pub errors: usize,
}

impl Conductor {
    /// Another execution shows the workflow: what the initial context says of it is replaced (spec/orquesta.md §19).
    pub fn amend_context(&mut self, with: Object) {
        self.state.contexts.amend_initial(with);
        self.index.dirty.initial = true;
    }

    /// What has changed since the last call, or since the state was loaded. The head (status, inputs, output,
    /// re-runs) is small and may have changed with any step.
    pub fn take_delta(&mut self) -> Delta {
        let stored = Dirty::stored(&self.state);
        let dirty = std::mem::replace(&mut self.index.dirty, stored);
        Delta {
            tasks: dirty.tasks,
            staged: dirty.staged,
            items: dirty.items,
            initial: dirty.initial,
            contexts: dirty.contexts,
            links: dirty.links,
            routes: dirty.routes,
            errors: dirty.errors,
        }
    }
}
