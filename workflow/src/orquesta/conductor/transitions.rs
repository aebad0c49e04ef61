//! What follows from a completed task: verdicts, publishing, routes, staging (spec/orquesta.md §3, §6, §8, §9).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::resource::Object;

use super::super::contexts::ListId;
use super::super::expression::{Failure, truthy};
use super::super::graph::{Edge, NodeId};
use super::super::machines::task::Command;
use super::super::state::{ErrorEntry, Staged};
use super::{ConductError, Conductor, Env, index, lookup, settle};

impl Conductor {
    /// Evaluates all transitions of an instance and stages what they lead to; returns engine commands to run.
    pub(super) fn follow_transitions(
        &mut self,
        place: index::Place,
        seq: u32,
        env: Env<'_>,
    ) -> Result<Vec<(index::Place, Command)>, ConductError> {
        let program = self.program.clone();
        let node = program.graph.get(place.0);
        if node.edges.is_empty() {
            self.set_term(seq, true);
            return Ok(Vec::new());
        }
        let (ctx_in, result) = {
            let instance = &self.state.tasks[seq as usize];
            (instance.ctx_in, instance.result.clone())
        };
        let ctx = self.state.contexts.merged(ctx_in);
        let mut commands = Vec::new();
        let mut staged = Vec::new();
        let mut failing = false;
        for (at, edge) in node.edges.iter().enumerate() {
            let fired = match &edge.when {
                None => Ok(true),
                Some(when) => {
                    let scope = lookup::scope(self, &ctx, &node.name, place.1, result.as_deref());
                    lookup::text(env.expressions, when, &scope).map(|value| truthy(&value))
                }
            };
            match fired {
                Ok(fired) => self.note_verdict(place, seq, at, fired),
                Err(failure) => {
                    self.log_transition(&settle(failure)?, place, edge);
                    self.fail();
                    continue;
                }
            }
            if self.state.tasks[seq as usize].next.get(&edge.id) != Some(&true) {
                continue;
            }
            let route = self.route_over(place, edge);
            let Some(list) = self.publish(place, seq, edge, &ctx, ctx_in, env)? else { continue };
            let target = (edge.target, route);
            self.arrive(target, list, edge, seq, place.1);
            match program.graph.get(edge.target).command {
                Some(command) => {
                    failing |= command == Command::Fail;
                    commands.push((target, command));
                }
                None => staged.push(target),
            }
        }
        if failing {
            for target in staged {
                self.run_on_fail(target);
            }
        }
        Ok(commands)
    }

    /// Records whether a transition fires, also for the join that it may lead to.
    fn note_verdict(&mut self, place: index::Place, seq: u32, at: usize, fired: bool) {
        let graph = &self.program.graph;
        let node = graph.get(place.0);
        let edge = &node.edges[at];
        let instance = &mut self.state.tasks[seq as usize];
        let join = node.joins.iter().find(|(_, edges)| edges.contains(&at));
        let before = join.is_some_and(|(_, edges)| index::fires(graph, instance, place.0, edges));
        instance.next.insert(edge.id.clone(), fired);
        self.index.dirty.tasks.insert(seq);
        if fired
            && !before
            && let Some((join, _)) = join
        {
            self.index.fire((*join, place.1));
        }
    }

    /// The route on the other side of a transition: a new one if it leads into a split.
    fn route_over(&mut self, place: index::Place, edge: &Edge) -> u32 {
        let target = self.program.graph.get(edge.target);
        if !target.split || target.cyclic {
            return place.1;
        }
        let details = &self.state.routes[place.1 as usize];
        if details.contains(&edge.back) {
            return place.1;
        }
        let mut details = details.clone();
        details.push(edge.back.clone());
        self.state.routes.push(details);
        u32::try_from(self.state.routes.len() - 1).unwrap_or(u32::MAX)
    }

    /// Publishes what a transition says; returns the list of contexts behind it, or `None` if an expression failed.
    fn publish(
        &mut self,
        place: index::Place,
        seq: u32,
        edge: &Edge,
        ctx: &Object,
        ctx_in: ListId,
        env: Env<'_>,
    ) -> Result<Option<ListId>, ConductError> {
        let program = self.program.clone();
        let task = program.definition.tasks.get(&*program.graph.get(place.0).name);
        let publish = task.and_then(|task| task.next.get(edge.transition)).map(|next| &next.publish);
        let Some(publish) = publish.filter(|publish| !publish.is_empty()) else { return Ok(Some(ctx_in)) };
        let result = self.state.tasks[seq as usize].result.clone();
        let name = program.graph.get(place.0).name.clone();
        let mut rolling = ctx.clone();
        let mut published = Object::new();
        let mut failures = Vec::new();
        for publication in publish {
            let scope = lookup::scope(self, &rolling, &name, place.1, result.as_deref());
            match env.expressions.evaluate(&publication.value, &scope) {
                Ok(value) => {
                    // Within one transition a variable is replaced, not merged.
                    rolling.insert(publication.name.clone(), value.clone());
                    published.insert(publication.name.clone(), value);
                }
                Err(failure) => failures.push(settle(failure)?),
            }
        }
        if !failures.is_empty() {
            for failure in failures {
                self.log_transition(&failure, place, edge);
            }
            self.fail();
            return Ok(None);
        }
        let (context, list) = self.state.contexts.push(ctx_in, published);
        self.state.tasks[seq as usize].ctx_out = Some((edge.id.clone(), context));
        Ok(Some(list))
    }

    /// A transition reaches its target: stages it, or adds to what is staged.
    fn arrive(&mut self, target: index::Place, list: ListId, edge: &Edge, seq: u32, source_route: u32) {
        let graph = &self.program.graph;
        let ready = match graph.get(target.0).barrier {
            None => true,
            Some(_) => self.index.fired((target.0, source_route)) >= graph.requirement(target.0),
        };
        let number = self.index.staged(target).filter(|number| !self.state.staged[number].completed);
        let Some(number) = number else {
            self.unstage(target);
            self.stage(target.0, target.1, list, BTreeMap::from([(edge.back.clone(), seq)]), ready);
            return;
        };
        if let Some(staged) = self.state.staged.get_mut(&number) {
            staged.ctx_in = self.state.contexts.join(staged.ctx_in, list);
            staged.prev.insert(edge.back.clone(), seq);
            staged.ready = ready;
            self.index.stage(target, number, staged);
            // It may have been rendered with less.
            if staged.items.is_none() {
                self.index.rendered.remove(&number);
            }
        }
    }

    fn run_on_fail(&mut self, target: index::Place) {
        let Some(number) = self.index.staged(target) else { return };
        if let Some(staged) = self.state.staged.get_mut(&number).filter(|staged| staged.ready) {
            staged.run_on_fail = true;
            self.index.dirty.staged.insert(number);
        }
    }

    fn log_transition(&mut self, failure: &Failure, place: index::Place, edge: &Edge) {
        let name = self.program.graph.get(place.0).name.clone();
        let mut entry = ErrorEntry::new(failure.to_string()).of_task(&name, Some(place.1));
        entry.task_transition_id = Some(edge.id.clone());
        self.log(entry);
    }

    pub(super) fn stage(
        &mut self,
        node: NodeId,
        route: u32,
        ctx_in: ListId,
        prev: BTreeMap<Arc<str>, u32>,
        ready: bool,
    ) -> u64 {
        let number = self.state.next_staged;
        self.state.next_staged += 1;
        let staged = Staged {
            id: self.program.graph.get(node).name.clone(),
            route,
            ctx_in,
            prev,
            ready,
            completed: false,
            run_on_fail: false,
            retry_delay: None,
            items: None,
        };
        self.index.stage((node, route), number, &staged);
        self.state.staged.insert(number, staged);
        number
    }

    pub(super) fn unstage(&mut self, place: index::Place) {
        if let Some(number) = self.index.staged(place)
            && let Some(staged) = self.state.staged.remove(&number)
        {
            self.index.unstage(place, number, &staged);
        }
    }
}
