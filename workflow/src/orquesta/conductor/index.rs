//! What can be computed from a state, kept beside it so that each step looks at what it is about and nothing else.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::graph::{Graph, NodeId};
use super::super::machines::task::{Others, Rest};
use super::super::state::{Items, Staged, State, TaskState};
use super::super::status::{Status, Tally};
use super::delta::Dirty;
use super::schedule::RenderedItems;
use super::{ConductError, Conductor, fingerprint};

/// A task in a route.
pub(super) type Place = (NodeId, u32);

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// The latest instance of each place.
    latest: HashMap<Place, u32>,
    /// Places of a task, by route: for looking in routes before.
    routes_of: HashMap<NodeId, BTreeSet<u32>>,
    /// Statuses of latest instances.
    tally: Tally,
    /// Latest instances that a request for a status reaches.
    interruptible: BTreeSet<u32>,
    staged: HashMap<Place, u64>,
    /// Staged entries that may be handed out, by name and route.
    ready: BTreeMap<(Arc<str>, u32), u64>,
    /// Staged entries that aren't ready, in order.
    waiting: BTreeSet<u64>,
    /// For a join in a route: sources that fired.
    fired: HashMap<Place, u64>,
    /// Fingerprints of logged errors.
    pub logged: HashSet<u64>,
    /// With-items tasks as rendered, by staged entry.
    pub rendered: HashMap<u64, Arc<RenderedItems>>,
    /// Not stored yet.
    pub dirty: Dirty,
}

impl Index {
    pub fn of(graph: &Graph, state: &State) -> Result<Self, ConductError> {
        let mut index = Self::default();
        let node_of = |id: &Arc<str>| graph.node_of(id).ok_or_else(|| ConductError::ForeignState(id.to_string()));
        for (seq, task) in (0..).zip(&state.tasks) {
            index.begin(graph, (node_of(&task.id)?, task.route), seq, &state.tasks);
        }
        let seqs: Vec<(Place, u32)> = index.latest.iter().map(|(place, seq)| (*place, *seq)).collect();
        for ((node, route), seq) in seqs {
            for (join, edges) in &graph.get(node).joins {
                if fires(graph, &state.tasks[seq as usize], node, edges) {
                    *index.fired.entry((*join, route)).or_default() += 1;
                }
            }
        }
        for (number, staged) in &state.staged {
            index.stage((node_of(&staged.id)?, staged.route), *number, staged);
        }
        index.logged = state.errors.iter().map(fingerprint).collect();
        index.dirty = Dirty::stored(state);
        Ok(index)
    }

    /// A new instance becomes the latest of its place.
    pub fn begin(&mut self, graph: &Graph, place: Place, seq: u32, tasks: &[TaskState]) {
        let status = tasks[seq as usize].status;
        if let Some(before) = self.latest.insert(place, seq) {
            let before_status = tasks[before as usize].status;
            self.tally.remove(before_status);
            self.interruptible.remove(&before);
            for (join, edges) in &graph.get(place.0).joins {
                if fires(graph, &tasks[before as usize], place.0, edges)
                    && let Some(count) = self.fired.get_mut(&(*join, place.1))
                {
                    *count = count.saturating_sub(1);
                }
            }
        }
        self.routes_of.entry(place.0).or_default().insert(place.1);
        self.tally.add(status);
        if interruptible(status) {
            self.interruptible.insert(seq);
        }
        self.dirty.tasks.insert(seq);
    }

    pub fn moved(&mut self, seq: u32, from: Status, to: Status) {
        self.tally.shift(from, to);
        if interruptible(to) {
            self.interruptible.insert(seq);
        } else {
            self.interruptible.remove(&seq);
        }
        self.dirty.tasks.insert(seq);
    }

    pub fn latest(&self, place: Place) -> Option<u32> {
        self.latest.get(&place).copied()
    }

    /// Routes in which a task has instances, from the highest below `route` downwards.
    pub fn routes_before(&self, node: NodeId, route: u32) -> impl Iterator<Item = u32> + '_ {
        self.routes_of.get(&node).into_iter().flat_map(move |routes| routes.range(..route).rev().copied())
    }

    /// Latest instances of all places.
    pub fn instances(&self) -> impl Iterator<Item = u32> + '_ {
        self.latest.values().copied()
    }

    pub fn interruptible(&self) -> Vec<u32> {
        self.interruptible.iter().copied().collect()
    }

    pub fn has_active(&self) -> bool {
        self.tally.any(Status::is_active)
    }

    pub fn has_held(&self) -> bool {
        self.tally.any(Status::is_held)
    }

    pub fn has_cancelled(&self) -> bool {
        self.tally.any(Status::is_cancelled)
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Nothing is active, staged or held.
    pub fn is_over(&self) -> bool {
        !self.has_active() && !self.has_ready() && !self.has_held()
    }

    pub fn staged(&self, place: Place) -> Option<u64> {
        self.staged.get(&place).copied()
    }

    /// Entries that may be handed out, by name and route.
    pub fn ready(&self) -> Vec<u64> {
        self.ready.values().copied().collect()
    }

    /// Entries that aren't ready, in order.
    pub fn waiting(&self) -> Vec<u64> {
        self.waiting.iter().copied().collect()
    }

    /// An entry is new, or its flags have changed.
    pub fn stage(&mut self, place: Place, number: u64, staged: &Staged) {
        self.staged.insert(place, number);
        let key = (staged.id.clone(), staged.route);
        if staged.ready && !staged.completed {
            self.ready.insert(key, number);
        } else {
            self.ready.remove(&key);
        }
        if staged.ready {
            self.waiting.remove(&number);
        } else {
            self.waiting.insert(number);
        }
        self.dirty.staged.insert(number);
    }

    pub fn unstage(&mut self, place: Place, number: u64, staged: &Staged) {
        if self.staged.get(&place) == Some(&number) {
            self.staged.remove(&place);
        }
        let key = (staged.id.clone(), staged.route);
        if self.ready.get(&key) == Some(&number) {
            self.ready.remove(&key);
        }
        self.waiting.remove(&number);
        self.rendered.remove(&number);
        self.dirty.staged.insert(number);
    }

    pub fn fire(&mut self, join: Place) {
        *self.fired.entry(join).or_default() += 1;
    }

    pub fn fired(&self, join: Place) -> u64 {
        self.fired.get(&join).copied().unwrap_or_default()
    }
}

/// Whether any of an instance's transitions to a join has fired.
pub(super) fn fires(graph: &Graph, task: &TaskState, node: NodeId, edges: &std::ops::Range<usize>) -> bool {
    graph.get(node).edges[edges.clone()].iter().any(|edge| task.next.get(&edge.id) == Some(&true))
}

const fn interruptible(status: Status) -> bool {
    status.is_active()
}

/// How items other than `item` stand.
pub(super) fn others(items: &Items, item: Option<usize>) -> Others {
    let mut tally = items.tally().clone();
    if let Some(status) = item.and_then(|item| items.statuses().get(item)) {
        tally.remove(*status);
    }
    if tally.any(Status::is_active) {
        return Others::Active;
    }
    Others::Dormant(if item.is_some() && tally.any(Status::is_held) {
        Rest::Paused
    } else if item.is_some() && tally.of(Status::Canceled) > 0 {
        Rest::Canceled
    } else if item.is_some() && tally.any(Status::is_abended) {
        Rest::Failed
    } else if tally.any(|status| !status.is_completed()) {
        Rest::Incomplete
    } else {
        Rest::Completed
    })
}

impl Conductor {
    /// The staged entry of an instance's place, if it has items.
    pub(super) fn items_of_instance(&self, seq: u32) -> Option<(u64, &Items)> {
        let task = &self.state.tasks[seq as usize];
        let node = self.program.graph.node_of(&task.id)?;
        let number = self.index.staged((node, task.route))?;
        Some((number, self.state.staged.get(&number)?.items.as_ref()?))
    }
}
