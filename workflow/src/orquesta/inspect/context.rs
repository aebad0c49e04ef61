//! Variables that are read but not assigned on the way.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use super::super::graph::{Graph, NodeId};
use super::super::spec::{Assignment, Definition, Task};
use super::expressions::{each_property, strings};
use super::places::{self, Place};
use super::{Analyzer, Fault};

/// Past so many steps along different ways, nothing more is looked for: evaluation finds the rest.
const MAX_STEPS: usize = 50_000;

/// Names by number.
type Names = Arc<BTreeSet<u32>>;

pub fn faults(definition: &Definition, graph: &Graph, given: &[&str], analyzer: &dyn Analyzer) -> Vec<Fault> {
    let mut check = Check { analyzer, numbers: HashMap::new(), faults: Vec::new() };
    let mut assigned: BTreeSet<u32> = given.iter().map(|name| check.number(name)).collect();
    check.section("input", &definition.inputs, &mut assigned);
    check.section("vars", &definition.vars, &mut assigned);
    let begin: Names = Arc::new(assigned.clone());
    let reaching = reaching(definition, graph, &begin, &mut check);
    check.ways(definition, graph, &begin, &reaching);
    for node in graph.nodes() {
        if let Some(task) = definition.tasks.get(&*node.name) {
            assigned.extend(check.published(task));
        }
    }
    check.section("output", &definition.output, &mut assigned);
    check.faults
}

struct Check<'a> {
    analyzer: &'a dyn Analyzer,
    numbers: HashMap<String, u32>,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn number(&mut self, name: &str) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(name.to_owned()).or_insert(next)
    }

    fn published(&mut self, task: &Task) -> Vec<u32> {
        let names = task.next.iter().flat_map(|next| &next.publish);
        names.map(|publication| self.number(&publication.name)).collect()
    }

    fn section(&mut self, name: &str, entries: &[Assignment], assigned: &mut BTreeSet<u32>) {
        let place = places::section(name);
        for entry in entries {
            self.look(&place.entry(entry.entry), &entry.value, assigned);
            let number = self.number(&entry.name);
            assigned.insert(number);
        }
    }

    fn task(&mut self, name: &str, task: &Task, assigned: &mut BTreeSet<u32>) {
        each_property(name, task, &mut |place, value| self.look(place, value, assigned));
        for (at, transition) in task.next.iter().enumerate() {
            if let Some(when) = &transition.when {
                self.look(&places::transition(name, at, "when"), &Value::String(when.clone()), assigned);
            }
            let place = places::transition(name, at, "publish");
            for publication in &transition.publish {
                self.look(&place.entry(publication.entry), &publication.value, assigned);
                let number = self.number(&publication.name);
                assigned.insert(number);
            }
        }
    }

    /// Looks at all expressions of a value.
    fn look(&mut self, place: &Place, value: &Value, assigned: &BTreeSet<u32>) {
        let analyzer = self.analyzer;
        let mut variables = Vec::new();
        strings(value, &mut |text| variables.extend(analyzer.variables(text)));
        for variable in variables {
            let mut messages = Vec::new();
            if variable.name.starts_with("__") {
                messages.push(format!(
                    "Variable \"{}\" that is prefixed with double underscores is considered a private variable and \
                     cannot be referenced.",
                    variable.name
                ));
            }
            if self.numbers.get(&variable.name).is_none_or(|number| !assigned.contains(number)) {
                messages.push(format!("Variable \"{}\" is referenced before assignment.", variable.name));
            }
            for message in messages {
                let fault = Fault {
                    language: Some(Some(variable.language)),
                    expression: Some(variable.expression.clone()),
                    message,
                    spec_path: Some(place.spec.clone()),
                    schema_path: Some(place.schema.clone()),
                };
                if !self.faults.contains(&fault) {
                    self.faults.push(fault);
                }
            }
        }
    }

    /// Walks all ways through the graph; what a join sees is what reaches it on any of them.
    fn ways(&mut self, definition: &Definition, graph: &Graph, begin: &Names, reaching: &[Names]) {
        let mut queue: VecDeque<(NodeId, Names)> = graph.starts().iter().map(|id| (*id, begin.clone())).collect();
        // With what a task was looked at already: more names can't bring more faults.
        let mut seen: HashMap<NodeId, Vec<Names>> = HashMap::new();
        let mut steps = 0;
        while let Some((id, names)) = queue.pop_front() {
            let node = graph.get(id);
            let Some(task) = definition.tasks.get(&*node.name) else { continue };
            let names = if node.barrier.is_some() { reaching[id as usize].clone() } else { names };
            let before = seen.entry(id).or_default();
            steps += 1 + before.len();
            if steps > MAX_STEPS {
                return;
            }
            if before.iter().any(|known| known.is_subset(&names)) {
                continue;
            }
            before.push(names.clone());
            let mut assigned = names;
            self.task(&node.name, task, Arc::make_mut(&mut assigned));
            queue.extend(node.edges.iter().map(|edge| (edge.target, assigned.clone())));
        }
    }
}

/// For each node, the names that any way to it assigns.
fn reaching(definition: &Definition, graph: &Graph, begin: &Names, check: &mut Check<'_>) -> Vec<Names> {
    let count = graph.nodes().len();
    let published: Vec<BTreeSet<u32>> = graph
        .nodes()
        .iter()
        .map(|node| {
            let task = definition.tasks.get(&*node.name);
            task.map(|task| check.published(task).into_iter().collect()).unwrap_or_default()
        })
        .collect();
    let mut reaching: Vec<Names> = vec![begin.clone(); count];
    if !graph.nodes().iter().any(|node| node.barrier.is_some()) {
        return reaching;
    }
    let mut queued = vec![true; count];
    let mut queue: VecDeque<usize> = (0..count).collect();
    while let Some(at) = queue.pop_front() {
        queued[at] = false;
        let after: BTreeSet<u32> = reaching[at].union(&published[at]).copied().collect();
        for edge in &graph.nodes()[at].edges {
            let target = edge.target as usize;
            if !after.is_subset(&reaching[target]) {
                Arc::make_mut(&mut reaching[target]).extend(&after);
                if !std::mem::replace(&mut queued[target], true) {
                    queue.push_back(target);
                }
            }
        }
    }
    reaching
}
