//! Jobs as rows: what a step writes, and how a job is read again. Only what has changed is written.
//!
//! | where | what |
//! |---|---|
//! | head | counters, status, what was reported |
//! | tasks | instances by place; bodies without large results |
//! | items | items of staged entries, by the entry's number |
//! | cell `staged` | staged entries without their items |
//! | cells `link`, `route`, `error`, `ctx` | lists of contexts, routes, the error log, contexts |
//! | cell `run` | executions under way |
//! | documents | the definition, inputs, output, and any body that is too large for its row |

use std::sync::Arc;

use model::resource::Object;
use model::{Id, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::host::{Order, Report, Signal};
use super::job::{Effect, Job, Running};
use super::message::Below;
use super::{EngineError, ORQUESTA};
use crate::changes::{Changes, Creation};
use crate::limits::{MAX_BODY_BYTES, MAX_PAGE};
use crate::orquesta::contexts::{Contexts, Link};
use crate::orquesta::state::{ErrorEntry, Items, Staged, State, TaskState};
use crate::orquesta::{Conductor, Definition, Document, Program, Status};
use crate::port::{Drain, Reader};
use crate::rows::{Head, HeadState, Item, ItemQuery, Launch, Task, TaskQuery, Timer};

/// Larger bodies are documents.
const MAX_INLINE: usize = MAX_BODY_BYTES / 4;
const ORDER: &str = "order";
const REPORT: &str = "report";
const SIGNAL: &str = "signal";

/// The small part of a job.
#[derive(Debug, Serialize, Deserialize)]
struct HeadBody {
    version: u32,
    next_staged: u64,
    launches: u64,
    reported: Status,
    errors: usize,
    reruns: Vec<Vec<u32>>,
    output: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    below: Vec<Below>,
}

/// A launch by its kind.
#[derive(Debug)]
pub enum Kind {
    Order(Order),
    Report(Report),
    Signal(Signal),
}

impl Kind {
    pub fn of(launch: &Launch, body: &str) -> Result<Self, EngineError> {
        let corrupt = |reason: String| EngineError::Corrupt { workflow: launch.id, reason };
        match launch.kind.as_str() {
            ORDER => serde_json::from_str(body).map(Self::Order).map_err(|error| corrupt(error.to_string())),
            REPORT => serde_json::from_str(body).map(Self::Report).map_err(|error| corrupt(error.to_string())),
            SIGNAL => serde_json::from_str(body).map(Self::Signal).map_err(|error| corrupt(error.to_string())),
            other => Err(corrupt(format!("a launch of the unknown kind '{other}'"))),
        }
    }
}

/// Whether a launch requests an execution.
pub fn is_order(launch: &Launch) -> bool {
    launch.kind == ORDER
}

/// The body of a launch, from its document if it is one.
pub async fn body_of(state: &dyn Reader, workflow: Id, launch: &Launch) -> Result<String, EngineError> {
    whole(state, workflow, launch.body.clone()).await
}

/// All of a new job.
pub fn creation(
    job: &mut Job,
    effects: Vec<Effect>,
    document: Document,
    now: Timestamp,
) -> Result<Creation, EngineError> {
    let mut changes = changes(job, effects, Vec::new(), &[], (1, now))?;
    changes.document("definition", json(&document.into_value())?.into_bytes());
    changes.document("inputs", json(&job.conductor.state().inputs)?.into_bytes());
    Ok(Creation { id: job.id, engine: ORQUESTA.to_owned(), changes })
}

/// What a step has changed, that leads to revision `rev`.
pub fn changes(
    job: &mut Job,
    effects: Vec<Effect>,
    used: Vec<u64>,
    due: &[Timer],
    (rev, now): (u64, Timestamp),
) -> Result<Changes, EngineError> {
    let delta = job.conductor.take_delta();
    let touched = std::mem::take(&mut job.touched);
    let state = job.conductor.state();
    let body = HeadBody {
        version: state.version,
        next_staged: state.next_staged,
        launches: job.launches,
        reported: job.reported,
        errors: state.errors.len(),
        reruns: state.reruns.clone(),
        output: state.output.is_some(),
        below: job.below.clone(),
    };
    let head = HeadState {
        execution: job.execution,
        status: state.status.to_string(),
        finished: job.is_finished().then_some(now),
        body: json(&body)?,
    };
    let mut changes = Changes::new(head, now);
    changes.used = used;
    changes.cleared_timers = due.iter().map(|timer| timer.key.clone()).collect();
    let mut out = Out { changes: &mut changes };
    for seq in delta.tasks {
        let task = &state.tasks[seq as usize];
        let body = out.fit(&format!("task/{seq}"), json(task)?);
        let started = task.started.unwrap_or(now);
        out.changes.tasks.push(Task {
            seq,
            id: job.task_execution(seq),
            task: task.id.to_string(),
            route: task.route,
            status: task.status.to_string(),
            created: started,
            updated: now,
            body,
        });
    }
    for number in delta.staged {
        match state.staged.get(&number) {
            Some(staged) => {
                let stored = StoredStaged {
                    items: staged.items.as_ref().map(Items::len),
                    entry: Staged { items: None, ..staged.clone() },
                };
                out.cell("staged", &key(number), json(&stored)?);
            }
            None => out.changes.removed_cells.push(("staged".to_owned(), key(number))),
        }
    }
    for (number, item) in delta.items {
        let Some(items) = state.staged.get(&number).and_then(|staged| staged.items.as_ref()) else { continue };
        let Some(status) = items.statuses().get(item as usize) else { continue };
        let result = items.result(item as usize).map(json).transpose()?.unwrap_or_default();
        let body = out.fit(&format!("item/{number}/{item}"), result);
        out.changes.items.push(Item { task: place(number), item, status: status.to_string(), body });
    }
    if delta.initial
        && delta.contexts > 0
        && let Some(initial) = state.contexts.values().first()
    {
        out.cell("ctx", &key(0), json(initial)?);
    }
    for (at, context) in state.contexts.values().iter().enumerate().skip(delta.contexts) {
        out.cell("ctx", &key(at as u64), json(context)?);
    }
    for (at, link) in state.contexts.links().iter().enumerate().skip(delta.links) {
        out.cell("link", &key(at as u64), json(link)?);
    }
    for (at, route) in state.routes.iter().enumerate().skip(delta.routes) {
        out.cell("route", &key(at as u64), json(route)?);
    }
    for (at, error) in state.errors.iter().enumerate().skip(delta.errors) {
        out.cell("error", &key(at as u64), json(error)?);
    }
    for execution in touched {
        match job.running.get(&execution) {
            Some(running) => out.cell("run", &execution.to_string(), json(running)?),
            None => out.changes.removed_cells.push(("run".to_owned(), execution.to_string())),
        }
    }
    if let Some(output) = &state.output {
        out.changes.document("output", json(output)?.into_bytes());
    }
    out.effects(effects, rev, |kind, at| {
        Id::derive(kind, job.created, &[&job.id.to_string(), &rev.to_string(), &at.to_string()])
    })?;
    Ok(changes)
}

/// A staged entry, its items counted.
#[derive(Debug, Serialize, Deserialize)]
struct StoredStaged {
    items: Option<usize>,
    entry: Staged,
}

/// Puts what is too large for a row into a document.
pub(super) struct Out<'a> {
    pub changes: &'a mut Changes,
}

/// What stands in a row for a document.
const REFERENCE: &str = "\u{1}document:";

impl Out<'_> {
    fn fit(&mut self, name: &str, body: String) -> String {
        if body.len() <= MAX_INLINE {
            return body;
        }
        let key = format!("large/{name}");
        self.changes.document(&key, body.into_bytes());
        format!("{REFERENCE}{key}")
    }

    /// What a step leads to: the log and the outbox. `derive` gives ids to what has none.
    pub fn effects(
        &mut self,
        effects: Vec<Effect>,
        revision: u64,
        derive: impl Fn(&str, usize) -> Id,
    ) -> Result<(), EngineError> {
        for (at, effect) in effects.into_iter().enumerate() {
            match effect {
                Effect::Note(kind, what) => {
                    self.changes.event(kind, json(&what)?);
                }
                Effect::Launch(order) => {
                    let id = order.id;
                    self.launch(id, ORDER, json(&order)?);
                }
                Effect::Report(report) => {
                    self.launch(derive(REPORT, at), REPORT, json(&Report { revision, ..report })?);
                }
                Effect::Signal(signal) => {
                    self.launch(derive(SIGNAL, at), SIGNAL, json(&Signal { revision, ..signal })?);
                }
            }
        }
        Ok(())
    }

    pub fn cell(&mut self, space: &str, key: &str, body: String) {
        let body = self.fit(&format!("{space}/{key}"), body);
        self.changes.cells.push(crate::rows::Cell { space: space.to_owned(), key: key.to_owned(), body });
    }

    fn launch(&mut self, id: Id, kind: &str, body: String) {
        let body = self.fit(&format!("launch/{id}"), body);
        let due = self.changes.at;
        self.changes.launches.push(Launch { id, kind: kind.to_owned(), due, body });
    }
}

/// A body, from its document if it is one.
async fn whole(state: &dyn Reader, workflow: Id, body: String) -> Result<String, EngineError> {
    let Some(key) = body.strip_prefix(REFERENCE) else { return Ok(body) };
    let corrupt = |reason: String| EngineError::Corrupt { workflow, reason };
    let bytes =
        state.document(workflow, key).await?.ok_or_else(|| corrupt(format!("the document {key} is missing")))?;
    String::from_utf8(bytes).map_err(|error| corrupt(error.to_string()))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, EngineError> {
    // NUL can't be stored as text; JSON writes it as an escape.
    serde_json::to_string(value).map_err(|error| super::HostError(error.to_string()).into())
}

pub(super) fn key(number: u64) -> String {
    format!("{number:012}")
}

fn place(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Reads a job as it is stored.
pub async fn load(drain: &dyn Drain, head: &Head) -> Result<Job, EngineError> {
    let loader = Loader { state: drain, workflow: head.id };
    let body: HeadBody = loader.parse(&head.body)?;
    let definition: Value = loader.document("definition").await?.unwrap_or_default();
    let document = Document::from_value(definition).map_err(|error| loader.corrupt(error.to_string()))?;
    let program = Arc::new(Program::new(Definition::read(&document)));
    let contexts: Vec<Arc<Object>> = loader.cells("ctx").await?.into_iter().map(|(_, context)| context).collect();
    let links: Vec<Link> = loader.cells("link").await?.into_iter().map(|(_, link)| link).collect();
    let mut errors: Vec<ErrorEntry> = loader.cells("error").await?.into_iter().map(|(_, error)| error).collect();
    errors.truncate(body.errors);
    let state = State {
        version: body.version,
        status: Status::parse(&head.status).ok_or_else(|| loader.corrupt(format!("the status '{}'", head.status)))?,
        inputs: loader.document("inputs").await?.unwrap_or_default(),
        contexts: Contexts::restore(contexts, links),
        routes: loader.cells("route").await?.into_iter().map(|(_, route)| route).collect(),
        tasks: loader.tasks().await?,
        staged: loader.staged().await?,
        next_staged: body.next_staged,
        errors,
        output: if body.output { loader.document("output").await? } else { None },
        reruns: body.reruns,
    };
    let conductor = Conductor::load(program, state)?;
    let mut job = Job::new(head.id, head.execution, head.created, conductor);
    for (key, running) in loader.cells::<Running>("run").await? {
        let execution = key.parse().map_err(|_| loader.corrupt(format!("the execution '{key}'")))?;
        job.running.insert(execution, running);
    }
    job.launches = body.launches;
    job.reported = body.reported;
    job.below = body.below;
    Ok(job)
}

pub(super) struct Loader<'a> {
    pub state: &'a dyn Reader,
    pub workflow: Id,
}

impl Loader<'_> {
    pub fn corrupt(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Corrupt { workflow: self.workflow, reason: reason.into() }
    }

    pub fn parse<T: DeserializeOwned>(&self, body: &str) -> Result<T, EngineError> {
        serde_json::from_str(body).map_err(|error| self.corrupt(error.to_string()))
    }

    pub async fn document<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, EngineError> {
        let Some(bytes) = self.state.document(self.workflow, key).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.corrupt(error.to_string()))
    }

    async fn whole<T: DeserializeOwned>(&self, body: String) -> Result<T, EngineError> {
        self.parse(&whole(self.state, self.workflow, body).await?)
    }

    pub async fn cells<T: DeserializeOwned>(&self, space: &str) -> Result<Vec<(String, T)>, EngineError> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.state.cells(self.workflow, space, after.as_deref(), MAX_PAGE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.key.clone());
            for cell in page {
                found.push((cell.key, self.whole(cell.body).await?));
            }
        }
    }

    async fn tasks(&self) -> Result<Vec<TaskState>, EngineError> {
        let mut found = Vec::new();
        let mut query = TaskQuery { limit: MAX_PAGE, ..TaskQuery::default() };
        loop {
            let page = self.state.tasks(self.workflow, &query).await?;
            let Some(last) = page.last() else { return Ok(found) };
            query.after = Some(last.seq);
            for task in page {
                found.push(self.whole(task.body).await?);
            }
        }
    }

    async fn staged(&self) -> Result<std::collections::BTreeMap<u64, Staged>, EngineError> {
        let mut found = std::collections::BTreeMap::new();
        for (key, stored) in self.cells::<StoredStaged>("staged").await? {
            let number = key.parse().map_err(|_| self.corrupt(format!("the staged entry '{key}'")))?;
            let mut staged = stored.entry;
            if let Some(count) = stored.items {
                staged.items = Some(self.items(number, count).await?);
            }
            found.insert(number, staged);
        }
        Ok(found)
    }

    async fn items(&self, number: u64, count: usize) -> Result<Items, EngineError> {
        let mut items = Items::new(count);
        let mut query = ItemQuery { limit: MAX_PAGE, ..ItemQuery::default() };
        loop {
            let page = self.state.items(self.workflow, place(number), &query).await?;
            let Some(last) = page.last() else { return Ok(items) };
            query.after = Some(last.item);
            for item in page {
                let status = Status::parse(&item.status).ok_or_else(|| self.corrupt("an item's status"))?;
                items.set(item.item as usize, status);
                if !item.body.is_empty() {
                    let result: Value = self.whole(item.body).await?;
                    items.set_result(item.item as usize, Arc::new(result));
                }
            }
        }
    }
}
