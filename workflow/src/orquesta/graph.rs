//! The graph of a definition: tasks and engine commands, the transitions between them, joins, splits and cycles
//! (spec/orquesta.md §5). Made anew from the definition whenever a workflow is loaded.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::machines::task::Command;
use super::spec::{Definition, Join, Retry};

/// A node by its place in [`Graph::nodes`].
pub type NodeId = u32;

/// How often `do: retry` runs a task again.
const RETRIES_BY_COMMAND: u32 = 3;
const WHEN_COMPLETED: &str = "<% completed() %>";

#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    ids: HashMap<Arc<str>, NodeId>,
    starts: Vec<NodeId>,
}

/// A task that can be reached, or an engine command.
#[derive(Debug, Clone)]
pub struct Node {
    pub name: Arc<str>,
    /// `None`: a task.
    pub command: Option<Command>,
    pub barrier: Option<Join>,
    /// Runs once for each arrival, each with a route of its own.
    pub split: bool,
    /// A path leads from it back to it.
    pub cyclic: bool,
    /// By name of the target, then by place of the transition.
    pub edges: Vec<Edge>,
    /// Tasks with an edge to it, each once.
    pub sources: Vec<NodeId>,
    /// Joins that it has edges to, each with the places of these.
    pub joins: Vec<(NodeId, Range<usize>)>,
    /// From the task, or by `do: retry`.
    pub retry: Option<Retry>,
}

/// A transition to one target.
#[derive(Debug, Clone)]
pub struct Edge {
    pub target: NodeId,
    /// Place in the task's `next`.
    pub transition: usize,
    pub when: Option<Arc<str>>,
    /// `<target>__t<key>`, in the source's verdicts.
    pub id: Arc<str>,
    /// `<source>__t<key>`, in the target's `prev` and in routes.
    pub back: Arc<str>,
}

impl Graph {
    pub fn compose(definition: &Definition) -> Self {
        let references = references(definition);
        let mut graph = Self::default();
        let starts = definition.tasks.keys().filter(|name| !references.contains_key(name.as_str()));
        let mut queue: Vec<NodeId> = Vec::new();
        for name in starts {
            let id = graph.node(name, definition, &references);
            graph.starts.push(id);
            queue.push(id);
        }
        let mut visited = 0;
        while visited < queue.len() {
            let source = queue[visited];
            visited += 1;
            for target in graph.connect(source, definition, &references) {
                if graph.nodes[target as usize].command.is_none() {
                    queue.push(target);
                }
            }
        }
        graph.mark_cycles();
        graph
    }

    pub fn node_of(&self, name: &str) -> Option<NodeId> {
        self.ids.get(name).copied()
    }

    pub fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Tasks that nothing leads to, by name.
    pub fn starts(&self) -> &[NodeId] {
        &self.starts
    }

    /// How many sources have to fire before a join runs.
    pub fn requirement(&self, id: NodeId) -> u64 {
        match self.get(id).barrier {
            None => 1,
            Some(Join::All) => self.get(id).sources.len() as u64,
            Some(Join::Count(count)) => count,
        }
    }

    fn node(&mut self, name: &str, definition: &Definition, references: &BTreeMap<&str, usize>) -> NodeId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let name: Arc<str> = name.into();
        let task = definition.tasks.get(&*name);
        let barrier = task.and_then(|task| task.join);
        self.nodes.push(Node {
            command: if task.is_some() { None } else { command(&name) },
            split: barrier.is_none() && references.get(&*name).is_some_and(|count| *count > 1),
            barrier,
            cyclic: false,
            edges: Vec::new(),
            sources: Vec::new(),
            joins: Vec::new(),
            retry: task.and_then(|task| task.retry.clone()),
            name: name.clone(),
        });
        self.ids.insert(name, id);
        id
    }

    /// Adds the edges of a task; returns targets that weren't known.
    fn connect(&mut self, source: NodeId, definition: &Definition, references: &BTreeMap<&str, usize>) -> Vec<NodeId> {
        let name = self.get(source).name.clone();
        let Some(task) = definition.tasks.get(&*name) else { return Vec::new() };
        let mut edges: Vec<Edge> = Vec::new();
        let mut found = Vec::new();
        let mut keys: HashMap<&str, usize> = HashMap::new();
        for (transition, next) in task.next.iter().enumerate() {
            for (place, target) in next.targets.iter().enumerate() {
                if next.targets[..place].contains(target) {
                    continue;
                }
                let when = next.when.as_deref();
                if target == "retry" && !definition.tasks.contains_key(target) {
                    self.nodes[source as usize].retry = Some(Retry {
                        when: Some(when.unwrap_or(WHEN_COMPLETED).to_owned()),
                        count: RETRIES_BY_COMMAND.into(),
                        delay: None,
                    });
                    continue;
                }
                if !definition.tasks.contains_key(target) && command(target).is_none() {
                    continue;
                }
                let known = self.ids.contains_key(target.as_str());
                let id = self.node(target, definition, references);
                if !known {
                    found.push(id);
                }
                let key = keys.entry(target).or_default();
                edges.push(Edge {
                    target: id,
                    transition,
                    when: when.map(Into::into),
                    id: format!("{target}__t{key}").into(),
                    back: format!("{name}__t{key}").into(),
                });
                *key += 1;
            }
        }
        edges.sort_by(|a, b| self.get(a.target).name.cmp(&self.get(b.target).name));
        // Equal targets are neighbours now.
        let mut begin = 0;
        for same in edges.chunk_by(|a, b| a.target == b.target) {
            let target = same[0].target;
            self.nodes[target as usize].sources.push(source);
            if self.get(target).barrier.is_some() {
                self.nodes[source as usize].joins.push((target, begin..begin + same.len()));
            }
            begin += same.len();
        }
        self.nodes[source as usize].edges = edges;
        found
    }

    /// Marks the nodes of strongly connected components that have an inner edge (Tarjan, without recursion).
    fn mark_cycles(&mut self) {
        const NEW: u32 = u32::MAX;
        let count = self.nodes.len();
        let mut order = vec![NEW; count];
        let mut low = vec![0_u32; count];
        let mut on_stack = vec![false; count];
        let mut stack: Vec<usize> = Vec::new();
        let mut next = 0;
        for root in 0..count {
            if order[root] != NEW {
                continue;
            }
            let mut path = vec![(root, 0_usize)];
            while let Some((node, edge)) = path.last_mut() {
                let node = *node;
                if *edge == 0 {
                    order[node] = next;
                    low[node] = next;
                    next += 1;
                    stack.push(node);
                    on_stack[node] = true;
                }
                if let Some(target) = self.nodes[node].edges.get(*edge).map(|edge| edge.target as usize) {
                    *edge += 1;
                    if order[target] == NEW {
                        path.push((target, 0));
                    } else if on_stack[target] {
                        low[node] = low[node].min(order[target]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == order[node] {
                    self.close_component(node, &mut stack, &mut on_stack);
                }
            }
        }
    }

    fn close_component(&mut self, root: usize, stack: &mut Vec<usize>, on_stack: &mut [bool]) {
        let begin = stack.iter().rposition(|node| *node == root).unwrap_or(0);
        let members = stack.split_off(begin);
        let by_itself = self.nodes[root].edges.iter().any(|edge| edge.target as usize == root);
        for member in &members {
            on_stack[*member] = false;
            self.nodes[*member].cyclic = members.len() > 1 || by_itself;
        }
    }
}

/// How many transitions name a target.
fn references(definition: &Definition) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for next in definition.tasks.values().flat_map(|task| &task.next) {
        for (place, target) in next.targets.iter().enumerate() {
            if !next.targets[..place].contains(target) {
                *counts.entry(target.as_str()).or_default() += 1;
            }
        }
    }
    counts
}

fn command(name: &str) -> Option<Command> {
    match name {
        "continue" => Some(Command::Continue),
        "noop" => Some(Command::Noop),
        "fail" => Some(Command::Fail),
        _ => None,
    }
}
