//! The durable engine: takes what happened from a workflow's inbox, lets the conductor decide, and writes the new
//! state together with what it leads to, in one transaction; then carries that out (DESIGN §5).
//!
//! * [`Engine::begin`] makes a workflow; [`message`] says what may be delivered to it.
//! * [`Engine::run`] is the loop of one node: claim, decide, commit, launch; and launch what others left behind.
//! * [`Host`] is the system around it: executions and the datastore. The node wires it.
//! * [`Job`] is the pure part: one workflow, its executions, what a message leads to.
//!
//! A result is used once: messages are unique in the inbox, and an execution that isn't under way any more is of no
//! interest. A launch happens once: its id is derived from its number in the workflow, which is committed before it
//! is launched. Workflows that were worked on last are kept in memory by their revision; whoever claims one that
//! moved on elsewhere loads it anew.

mod chains;
mod host;
mod job;
pub mod message;
pub mod picture;
mod rows;
mod work;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use model::resource::Object;
use model::{Clock, Id};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use host::{Answers, ChainLink, Host, HostError, Launched, Order, Report, Signal, Wish};
pub use job::{Effect, Job, Running};

use crate::chain;
use crate::changes::Creation;
use crate::error::StateError;
use crate::orquesta::{ConductError, Conductor, Document, Env, ErrorEntry, Program};
use crate::port::{Claim, Claimed, Created, Drain, WorkflowState};
use crate::rows::{Launch, Message, Received};

use self::work::{Trouble, Work};

/// What heads of workflows say whose bodies these are.
pub const ORQUESTA: &str = "orquesta";
pub const CHAIN: &str = "action-chain";

/// A workflow may look up keys named by other keys; past this many rounds it fails.
const MAX_KEY_ROUNDS: usize = 50;
/// Launches after which they are taken off the outbox.
const TOGETHER: usize = 512;
/// Launches under way at once.
const AT_ONCE: usize = 64;
/// Launches that a relay takes at once.
const RELAY: u32 = 100;

/// How an engine works.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long launches of a commit are its holder's.
    pub hold: Duration,
    /// Looks for work at least so often, rung or not.
    pub look_every: Duration,
    /// Workflows kept in memory.
    pub cached: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { hold: Duration::from_secs(10), look_every: Duration::from_secs(5), cached: 64 }
    }
}

/// A workflow to begin.
#[derive(Debug, Clone)]
pub struct Begin {
    /// Derived from the execution.
    pub id: Id,
    /// The action execution that stands for it.
    pub execution: Id,
    /// Inspected already.
    pub document: Document,
    /// What expressions see beside inputs: `st2`, `parent`.
    pub context: Object,
    pub inputs: Object,
}

/// Why a call of the engine didn't succeed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error("the state of workflow {workflow} can't be read: {reason}")]
    Corrupt { workflow: Id, reason: String },
    #[error(transparent)]
    Conduct(#[from] ConductError),
}

/// An engine of a node.
#[derive(Debug)]
pub struct Engine {
    state: Arc<dyn WorkflowState>,
    host: Arc<dyn Host>,
    clock: Arc<dyn Clock>,
    options: Options,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    jobs: HashMap<Id, (u64, Work, u64)>,
    uses: u64,
}

impl Engine {
    pub fn new(state: Arc<dyn WorkflowState>, host: Arc<dyn Host>, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self { state, host, clock, options, cache: Mutex::default() }
    }

    /// Begins a workflow and launches its first tasks. Twice is once.
    ///
    /// # Errors
    ///
    /// If the state or the host don't answer: call again.
    pub async fn begin(&self, begin: Begin) -> Result<(), EngineError> {
        let now = self.clock.now();
        let program = Arc::new(Program::new(crate::orquesta::Definition::read(&begin.document)));
        let mut answers = Answers::new();
        let (mut job, effects) = loop {
            let expressions = self.host.expressions(answers.clone());
            let env = Env { expressions: &*expressions, now };
            let begun = Conductor::create(program.clone(), begin.context.clone(), begin.inputs.clone(), env)
                .map(|conductor| Job::new(begin.id, begin.execution, now, conductor))
                .and_then(|mut job| job.start(env).map(|effects| (job, effects)));
            match begun {
                Ok(begun) => break begun,
                Err(error) => self.learn(&begin.context, error.into(), &mut answers).await?,
            }
        };
        let creation = rows::creation(&mut job, effects, begin.document, now)?;
        self.create(creation, Work::Orquesta(Box::new(job))).await
    }

    /// Begins a chain and launches its first node. Twice is once.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub async fn begin_chain(&self, begin: chain::Begin) -> Result<(), EngineError> {
        let now = self.clock.now();
        let mut answers = Answers::new();
        let (mut chain, effects) = loop {
            let mut chain = chain::Chain::new(begin.clone(), now);
            match chain.start(&*self.host.keys(answers.clone()), now) {
                Ok(effects) => break (chain, effects),
                Err(needs) => self.learn(&chains::context_of(&begin), needs.into(), &mut answers).await?,
            }
        };
        let creation = chains::creation(&mut chain, effects, now)?;
        self.create(creation, Work::Chain(Box::new(chain))).await
    }

    async fn create(&self, creation: Creation, work: Work) -> Result<(), EngineError> {
        let (id, launches) = (creation.id, creation.changes.launches.clone());
        let kept = self.keep(work, 1);
        let created = self.state.create(creation, self.options.hold).await?;
        crate::failpoint::hit(crate::failpoint::BEGUN);
        if created == Created::New {
            kept.disarm();
            self.launch_all(id, launches).await?;
        }
        Ok(())
    }

    /// Puts messages into a workflow's inbox and works on it if nobody else does.
    ///
    /// # Errors
    ///
    /// If they can't be stored: deliver them again. Once stored, somebody works on them.
    pub async fn deliver(&self, workflow: Id, messages: &[Message]) -> Result<(), EngineError> {
        self.state.deliver(workflow, messages).await?;
        // What isn't done here is done by the loop of some node.
        if let Err(error) = self.work_on(Some(workflow)).await {
            tracing::debug!(%workflow, %error, "a workflow is left to the loop");
        }
        Ok(())
    }

    /// Works until `stop` says so.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut wakes = self.state.wakes();
        let mut pause = Duration::from_millis(100);
        while !*stop.borrow() {
            match self.round().await {
                Ok(true) => pause = Duration::from_millis(100),
                Ok(false) => {
                    tokio::select! {
                        _ = stop.changed() => {}
                        rung = wakes.wait() => if !rung { return },
                        () = tokio::time::sleep(self.options.look_every) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the workflow engine can't go on; it tries again");
                    tokio::select! {
                        _ = stop.changed() => {}
                        () = tokio::time::sleep(pause.mul_f64(0.5 + rand_share())) => {}
                    }
                    pause = (pause * 2).min(self.options.look_every);
                }
            }
        }
    }

    /// Works on one workflow, or launches what was left behind; false if there was nothing to do.
    ///
    /// # Errors
    ///
    /// If the state or the host don't answer.
    pub async fn round(&self) -> Result<bool, EngineError> {
        if self.work_on(None).await? {
            return Ok(true);
        }
        let taken = self.state.take_launches(self.clock.now(), self.options.hold, RELAY).await?;
        let found = !taken.is_empty();
        let mut by_workflow: BTreeMap<Id, Vec<Launch>> = BTreeMap::new();
        for taken in taken {
            by_workflow.entry(taken.workflow).or_default().push(taken.launch);
        }
        for (workflow, launches) in by_workflow {
            self.launch_all(workflow, launches).await?;
        }
        Ok(found)
    }

    /// Drains a workflow, as long as messages come; false if there was nothing to do.
    async fn work_on(&self, workflow: Option<Id>) -> Result<bool, EngineError> {
        let mut workflow = workflow;
        let mut worked = false;
        loop {
            let now = self.clock.now();
            let claim = workflow.map_or_else(|| Claim::next(now), |workflow| Claim::one(workflow, now));
            let Claimed::Drain(drain) = self.state.claim(&claim).await? else { return Ok(worked) };
            let id = drain.state().id;
            if ![ORQUESTA, CHAIN].contains(&drain.state().engine.as_str())
                || (drain.messages().is_empty() && drain.due().is_empty())
            {
                drain.release().await;
                return Ok(worked);
            }
            worked = true;
            let more = self.drain(drain).await?;
            if !more {
                return Ok(true);
            }
            workflow = Some(id);
        }
    }

    /// One transaction: messages in, state and launches out. Returns whether more messages wait.
    async fn drain(&self, drain: Box<dyn Drain>) -> Result<bool, EngineError> {
        let now = self.clock.now();
        let head = drain.state().clone();
        let messages = self.with_results(drain.messages()).await?;
        let mut answers = Answers::new();
        let mut cached = self.recall(head.id, head.rev);
        let (mut work, effects) = loop {
            let mut work = match cached.take() {
                Some(work) => work,
                None => Work::load(&*drain, &head).await?,
            };
            match work.decide(&messages, &*self.host, &answers, now) {
                Ok(effects) => break (work, effects),
                // The work is half-way: it is loaded again.
                Err(trouble) => self.learn(&work.context(), trouble, &mut answers).await?,
            }
        };
        let used = messages.iter().map(|(seq, ..)| *seq).collect();
        let changes = work.changes(effects, used, drain.due(), (head.rev + 1, now))?;
        let launches = changes.launches.clone();
        // Before the claim is let go: whoever claims it next finds it in memory.
        let kept = self.keep(work, head.rev + 1);
        let committed = drain.commit(changes, self.options.hold).await?;
        kept.disarm();
        self.launch_all(head.id, launches).await?;
        Ok(committed.more)
    }

    /// Reads messages, and fetches results that they only refer to.
    async fn with_results(&self, received: &[Received]) -> Result<Vec<Read>, EngineError> {
        let mut messages = Vec::with_capacity(received.len());
        for Received { seq, message } in received {
            let Ok(mut content) = serde_json::from_str::<message::Content>(&message.body) else {
                tracing::warn!(kind = message.kind, source = %message.source, "a message can't be read; it is dropped");
                messages.push((*seq, message.source, None));
                continue;
            };
            if let message::Content::Status { status, result: result @ None } = &mut content
                && status.is_completed()
            {
                *result = Some(self.host.result(message.source).await?);
            }
            messages.push((*seq, message.source, Some(content)));
        }
        Ok(messages)
    }

    /// Fetches keys that an evaluation asked for.
    async fn learn(&self, context: &Object, trouble: Trouble, answers: &mut Answers) -> Result<(), EngineError> {
        let keys = match trouble {
            Trouble::Keys(keys) => keys,
            Trouble::Conduct(error) => return Err(error.into()),
        };
        let unknown: Vec<_> = keys.iter().filter(|key| !answers.contains_key(key)).cloned().collect();
        if unknown.is_empty() || answers.len() > MAX_KEY_ROUNDS * 100 {
            return Err(HostError("the datastore doesn't answer for keys that an expression reads".to_owned()).into());
        }
        answers.extend(self.host.fetch_keys(context, &unknown).await?);
        Ok(())
    }

    /// Carries launches out and takes them off the outbox. What the host can't do now is left for the next relay.
    async fn launch_all(&self, workflow: Id, launches: Vec<Launch>) -> Result<(), EngineError> {
        let mut left = &launches[..];
        while let Some(first) = left.first() {
            // Orders that follow each other go out together; what else there is keeps its place among them.
            let alike = left.iter().take_while(|launch| rows::is_order(launch)).take(TOGETHER).count().max(1);
            let (batch, rest) = left.split_at(alike);
            left = rest;
            tracing::trace!(%workflow, kind = first.kind, count = alike, "launching");
            let mut done = Vec::with_capacity(alike);
            let mut under_way: FuturesUnordered<BoxFuture<'_, Option<Id>>> = FuturesUnordered::new();
            for launch in batch {
                if under_way.len() >= AT_ONCE {
                    done.extend(under_way.next().await.flatten());
                }
                under_way.push(self.tried(workflow, launch).boxed());
            }
            while let Some(launched) = under_way.next().await {
                done.extend(launched);
            }
            if !done.is_empty() {
                self.state.mark_launched(workflow, &done).await?;
            }
        }
        Ok(())
    }

    /// The launch's id, if it was carried out.
    async fn tried(&self, workflow: Id, launch: &Launch) -> Option<Id> {
        match self.carry_out(workflow, launch).await {
            Ok(()) => Some(launch.id),
            Err(error) => {
                tracing::warn!(%workflow, launch = %launch.id, kind = launch.kind, %error, "a launch is tried again");
                None
            }
        }
    }

    async fn carry_out(&self, workflow: Id, launch: &Launch) -> Result<(), EngineError> {
        let body = rows::body_of(&*self.state, workflow, launch).await?;
        match rows::Kind::of(launch, &body)? {
            rows::Kind::Order(order) => match self.host.launch(workflow, &order).await? {
                Launched::Requested => {}
                Launched::Refused(reason) => self.refuse(workflow, order.id, reason, true).await?,
                Launched::Unknown(reason) => self.refuse(workflow, order.id, reason, false).await?,
            },
            rows::Kind::Report(report) => self.host.report(workflow, &report).await?,
            rows::Kind::Signal(signal) => self.host.signal(workflow, &signal).await?,
        }
        Ok(())
    }

    async fn refuse(&self, workflow: Id, execution: Id, reason: String, known: bool) -> Result<(), EngineError> {
        let refused = message::refused(execution, reason, known, self.clock.now());
        self.state.deliver(workflow, &[refused]).await?;
        Ok(())
    }

    /// A workflow as it was left at a revision.
    fn recall(&self, workflow: Id, rev: u64) -> Option<Work> {
        let (known, work, _) = self.cache.lock().jobs.remove(&workflow)?;
        (known == rev).then_some(work)
    }

    /// Remembers a workflow as a commit will leave it, unless the commit fails.
    fn keep(&self, work: Work, rev: u64) -> Kept<'_> {
        let workflow = work.id();
        self.remember(work, rev);
        Kept { cache: &self.cache, workflow: Some(workflow) }
    }

    fn remember(&self, work: Work, rev: u64) {
        let mut cache = self.cache.lock();
        if work.is_finished() {
            return;
        }
        cache.uses += 1;
        let now = cache.uses;
        if cache.jobs.len() >= self.options.cached
            && let Some(oldest) = cache.jobs.iter().min_by_key(|(_, (.., used))| *used).map(|(id, _)| *id)
        {
            cache.jobs.remove(&oldest);
        }
        cache.jobs.insert(work.id(), (rev, work, now));
    }
}

/// Forgets a workflow when dropped: nobody knows what became of the commit.
#[derive(Debug)]
struct Kept<'a> {
    cache: &'a Mutex<Cache>,
    workflow: Option<Id>,
}

impl Kept<'_> {
    /// It was committed.
    fn disarm(mut self) {
        self.workflow = None;
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if let Some(workflow) = self.workflow {
            self.cache.lock().jobs.remove(&workflow);
        }
    }
}

/// A message: its place in the inbox, its source, and what it says if it can be read.
pub(crate) type Read = (u64, Id, Option<message::Content>);

/// Between 0 and 1: for waits that shouldn't fall together.
fn rand_share() -> f64 {
    f64::from(std::time::Instant::now().elapsed().subsec_nanos() % 1000) / 1000.0
}

/// A workflow that can't be begun shows this.
pub fn failure(entry: &ErrorEntry) -> serde_json::Value {
    serde_json::json!({"output": null, "errors": [entry]})
}
