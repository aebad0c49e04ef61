//! Which workflows are held in this process, the only one that has the database open.

use std::collections::HashSet;
use std::sync::Arc;

use model::Id;
use parking_lot::Mutex;

use crate::wake::Bell;

#[derive(Debug)]
pub(super) struct Claims {
    held: Mutex<HashSet<Id>>,
    bell: Arc<Bell>,
}

impl Claims {
    pub fn new(bell: Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), bell })
    }

    pub fn count(&self) -> usize {
        self.held.lock().len()
    }

    /// None if somebody holds it.
    pub fn take(self: &Arc<Self>, workflow: Id) -> Option<Guard> {
        let taken = self.held.lock().insert(workflow);
        taken.then(|| Guard { workflow, claims: Arc::clone(self), quiet: false })
    }
}

/// A workflow that is held; dropped, it is let go.
#[derive(Debug)]
pub(super) struct Guard {
    workflow: Id,
    claims: Arc<Claims>,
    /// Nothing was left undone.
    pub quiet: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.claims.held.lock().remove(&self.workflow);
        if !self.quiet {
            self.claims.bell.ring();
        }
    }
}
