//! Faults of meaning: names, targets, joins that can't be reached.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::super::graph::{Graph, NodeId};
use super::super::spec::{COMMANDS, Definition};
use super::Fault;
use super::places::{self, Place};

/// Past so many steps along different ways, joins count as reachable.
const MAX_STEPS: usize = 50_000;

pub fn faults(definition: &Definition, graph: &Graph) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut fault = |message: String, place: Place| found.push(Fault::at(message, place.spec, place.schema));
    for (name, task) in &definition.tasks {
        if COMMANDS.contains(&name.as_str()) {
            fault(format!("The task name \"{name}\" is reserved with special function."), places::task(name));
        }
        if task.with.is_some() && task.action.is_none() {
            fault("The action property is required for with items task.".to_owned(), places::task(name));
        }
    }
    if graph.starts().is_empty() && !definition.tasks.is_empty() {
        fault(
            "Unable to identify any tasks to start the workflow. If the workflow has a loop, please add a task that \
             serves as an entry point (or lead) into the loop."
                .to_owned(),
            places::tasks(),
        );
    }
    for node in graph.nodes() {
        let Some(task) = definition.tasks.get(&*node.name) else { continue };
        for (at, transition) in task.next.iter().enumerate() {
            for target in &transition.targets {
                if !definition.tasks.contains_key(target) && !COMMANDS.contains(&target.as_str()) {
                    let place = places::transition(&node.name, at, "do");
                    fault(format!("The task \"{target}\" is not defined."), place);
                }
            }
        }
    }
    for join in unreachable_joins(graph) {
        let name = &graph.get(join).name;
        fault(
            format!(
                "The join task \"{name}\" is unreachable. A join task is determined to be unreachable if there are \
                 nested forks from multi-referenced tasks that join on the said task. This is ambiguous to the \
                 workflow engine because it does not know at which level should the join occurs."
            ),
            places::task(name),
        );
    }
    found
}

/// Joins that are reached by ways through different splits.
fn unreachable_joins(graph: &Graph) -> BTreeSet<NodeId> {
    type Splits = Arc<Vec<NodeId>>;
    let mut queue: VecDeque<(NodeId, Splits)> =
        graph.starts().iter().map(|start| (*start, Splits::default())).collect();
    let mut seen: HashSet<(NodeId, Splits)> = queue.iter().cloned().collect();
    let mut at_join: HashMap<NodeId, Splits> = HashMap::new();
    let mut found = BTreeSet::new();
    let mut steps = 0;
    while let Some((id, splits)) = queue.pop_front() {
        let node = graph.get(id);
        let mut splits = splits;
        if node.barrier.is_some() {
            let first = at_join.entry(id).or_insert_with(|| splits.clone());
            if *first != splits {
                found.insert(id);
                continue;
            }
        }
        if node.split && !node.cyclic && !splits.contains(&id) {
            let mut longer = Vec::clone(&splits);
            longer.push(id);
            splits = Arc::new(longer);
        }
        for edge in &node.edges {
            steps += 1;
            if steps > MAX_STEPS {
                return found;
            }
            let next = (edge.target, splits.clone());
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    found
}
