//! Contexts: an append-only list of maps, and the lists of indexes from which each task's context is merged
//! (spec/orquesta.md §6).
//!
//! A task's list is kept as what it adds to another list, not as its numbers: a chain of tasks that all publish would
//! need the square of its length otherwise, and joins within cycles even more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use model::resource::Object;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A list of context indexes by its number. 0 is the list of the initial context alone.
pub type ListId = u32;

/// Merged contexts kept in memory.
const CACHED: usize = 24;
/// Longer lists are merged without repetitions (same values; only the order of keys may differ).
const EXACT: u64 = 4_096;

/// What a list adds to another. All lists begin with context 0 and hold it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    Initial,
    /// One context more.
    Push {
        base: ListId,
        context: u32,
    },
    /// A second list behind the first, without its context 0.
    Join {
        base: ListId,
        more: ListId,
    },
}

/// All contexts of a workflow.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Contexts {
    pub(super) values: Vec<Arc<Object>>,
    pub(super) links: Vec<Link>,
    #[serde(skip)]
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    merged: HashMap<ListId, (Arc<Object>, u64)>,
    lengths: Vec<u64>,
    uses: u64,
}

impl Contexts {
    /// With its initial context; list 0 holds it.
    pub fn new(initial: Object) -> Self {
        Self { values: vec![Arc::new(initial)], links: vec![Link::Initial], cache: Mutex::default() }
    }

    pub(crate) fn restore(values: Vec<Arc<Object>>, links: Vec<Link>) -> Self {
        Self { values, links, cache: Mutex::default() }
    }

    /// Whether there is an initial context: there is none if inputs or vars couldn't be evaluated.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn links(&self) -> &[Link] {
        &self.links
    }

    pub fn values(&self) -> &[Arc<Object>] {
        &self.values
    }

    /// Adds a context; returns its index and the list that has it at its end.
    pub fn push(&mut self, base: ListId, context: Object) -> (u32, ListId) {
        let index = number(self.values.len());
        self.values.push(Arc::new(context));
        (index, self.link(Link::Push { base, context: index }))
    }

    /// Replaces keys of the initial context.
    pub fn amend_initial(&mut self, with: Object) {
        let Some(initial) = self.values.first_mut() else { return };
        Arc::make_mut(initial).extend(with);
        self.cache = Mutex::default();
    }

    /// The list `base` with `more` behind it.
    pub fn join(&mut self, base: ListId, more: ListId) -> ListId {
        // Nothing but the initial context comes with it.
        if more == 0 {
            return base;
        }
        self.link(Link::Join { base, more })
    }

    fn link(&mut self, link: Link) -> ListId {
        let id = number(self.links.len());
        self.links.push(link);
        id
    }

    /// The indexes of a list, as the reference would keep them.
    pub fn indexes(&self, list: ListId) -> Vec<u32> {
        let mut found = Vec::new();
        let mut todo = vec![list];
        // From its end to its beginning.
        while let Some(list) = todo.pop() {
            match self.links[list as usize] {
                Link::Initial => found.push(0),
                Link::Push { base, context } => {
                    found.push(context);
                    todo.push(base);
                }
                Link::Join { base, more } => {
                    todo.push(base);
                    todo.push(more);
                }
            }
        }
        // Only the first 0, which is the last one here, is meant.
        let first = found.pop();
        found.retain(|index| *index != 0);
        found.extend(first);
        found.reverse();
        found
    }

    /// The indexes of a list, each only where it comes last.
    fn last_indexes(&self, list: ListId) -> Vec<u32> {
        let mut found = Vec::new();
        let mut todo = vec![list];
        let mut lists = HashSet::new();
        let mut seen = HashSet::from([0]);
        while let Some(list) = todo.pop() {
            // All that this list holds was met further to the right.
            if !lists.insert(list) {
                continue;
            }
            match self.links[list as usize] {
                Link::Initial => {}
                Link::Push { base, context } => {
                    if seen.insert(context) {
                        found.push(context);
                    }
                    todo.push(base);
                }
                Link::Join { base, more } => {
                    todo.push(base);
                    todo.push(more);
                }
            }
        }
        found.push(0);
        found.reverse();
        found
    }

    /// How long a list is, repetitions included.
    fn length(&self, cache: &mut Cache, list: ListId) -> u64 {
        // A list refers to earlier ones only.
        for link in &self.links[cache.lengths.len()..] {
            let length = match *link {
                Link::Initial => 1,
                Link::Push { base, .. } => cache.lengths[base as usize].saturating_add(1),
                Link::Join { base, more } => {
                    cache.lengths[base as usize].saturating_add(cache.lengths[more as usize] - 1)
                }
            };
            cache.lengths.push(length);
        }
        cache.lengths[list as usize]
    }

    /// The merged context of a list.
    pub fn merged(&self, list: ListId) -> Arc<Object> {
        if self.is_empty() {
            return Arc::default();
        }
        if list == 0 {
            return self.values[0].clone();
        }
        let mut cache = self.cache.lock();
        cache.uses += 1;
        let now = cache.uses;
        if let Some((merged, used)) = cache.merged.get_mut(&list) {
            *used = now;
            return merged.clone();
        }
        let merged = Arc::new(self.merge_from(&mut cache, list));
        if cache.merged.len() >= CACHED
            && let Some(oldest) = cache.merged.iter().min_by_key(|(_, (_, used))| *used).map(|(list, _)| *list)
        {
            cache.merged.remove(&oldest);
        }
        cache.merged.insert(list, (merged.clone(), now));
        merged
    }

    /// Goes back to a list that is merged already, and forward again from there.
    fn merge_from(&self, cache: &mut Cache, list: ListId) -> Object {
        let mut additions: Vec<Link> = Vec::new();
        let mut at = list;
        let begin = loop {
            if let Some((merged, _)) = cache.merged.get(&at) {
                break merged.clone();
            }
            match self.links[at as usize] {
                Link::Initial => break self.values[0].clone(),
                link @ (Link::Push { base, .. } | Link::Join { base, .. }) => {
                    additions.push(link);
                    at = base;
                }
            }
        };
        if self.length(cache, list).saturating_sub(self.length(cache, at)) > EXACT {
            return self.fold(&self.last_indexes(list));
        }
        let mut merged = Object::clone(&begin);
        for link in additions.into_iter().rev() {
            match link {
                Link::Initial => {}
                Link::Push { context, .. } => merge(&mut merged, &self.values[context as usize]),
                Link::Join { more, .. } => {
                    for index in self.indexes(more).into_iter().skip(1) {
                        merge(&mut merged, &self.values[index as usize]);
                    }
                }
            }
        }
        merged
    }

    fn fold(&self, indexes: &[u32]) -> Object {
        let mut merged = Object::new();
        for index in indexes {
            merge(&mut merged, &self.values[*index as usize]);
        }
        merged
    }

    /// Merges all of a list but context 0 into `merged`.
    pub fn merge_rest(&self, merged: &mut Object, list: ListId) {
        let length = self.length(&mut self.cache.lock(), list);
        let indexes = if length > EXACT { self.last_indexes(list) } else { self.indexes(list) };
        for index in indexes.into_iter().skip(1) {
            merge(merged, &self.values[index as usize]);
        }
    }
}

impl Clone for Contexts {
    fn clone(&self) -> Self {
        Self::restore(self.values.clone(), self.links.clone())
    }
}

/// Maps merge into maps; anything else is replaced by what comes later.
pub fn merge(into: &mut Object, from: &Object) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(known)), Value::Object(value)) => merge(known, value),
            (Some(known), _) => *known = value.clone(),
            (None, _) => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
