//! The handle of a node's membership in the group, and the tasks behind it.
//!
//! * [`core`]: the running openraft instance; proposals and renewals.
//! * [`keeper`]: holds a session: registers, renews, hands duties over, reopens the log after a storage failure.
//! * [`leases`]: which duties and sensors may be used until when: a pure view, and the task that publishes it.
//! * [`deadlines`]: the leader's book of when sessions are suspended and end, pure; why leases don't overlap.
//! * [`reaper`]: the leader's task over it. [`witness`]: how much of its waiting a new leader may save.
//! * [`requests`]: what callers ask of the group: sensors, permits, agreed values, content.
//! * [`members`]: on the leader, who belongs to the group: joins, promotions, removals.
//! * [`home`]: the threads of a cluster's consensus.

pub(crate) mod core;
mod deadlines;
mod home;
mod keeper;
mod leases;
pub(crate) mod members;
mod reaper;
mod requests;
#[cfg(test)]
mod simulation;
mod status;
mod witness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Duty, Lease, Session};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use leases::Limits;
pub use status::{Content, DutyStatus, MemberStatus, SensorStatus, SessionStatus, Status};

use self::core::{Core, Parts};
use self::home::Home;
use self::leases::{GivenUp, Renewed};
use crate::error::RaftError;
use crate::identity::Identity;
use crate::join;
use crate::network::listener::Server;
use crate::network::peers::Peers;
use crate::network::tls::Tls;
use crate::network::wire::AdminCall;
use crate::options::{ClusterOptions, Options};
use crate::state::{COMMAND_VERSION, Command, Response};
use crate::storage::Told;
use crate::types::Reads;

/// A node's membership in the consensus group. Clones share it; when the last one is dropped, the group stops as by
/// [`Group::shutdown`], without anybody waiting.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    _guard: Arc<DropGuard>,
}

/// What the tasks share.
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    /// None in a group of one.
    pub(crate) cluster: Option<Cluster>,
    /// None while the log is being reopened, and after the end.
    core: RwLock<Option<Arc<Core>>>,
    /// Told of what is applied; outlives the core.
    told: Told,
    renewed: watch::Sender<Option<Renewed>>,
    session: watch::Sender<Option<Session>>,
    duties: [watch::Sender<Option<Lease>>; Duty::ALL.len()],
    sensors: watch::Sender<Arc<BTreeMap<String, Lease>>>,
    /// Locked within a look at the state, never around one.
    given_up: Mutex<GivenUp>,
    /// Why the group doesn't work, while it doesn't.
    trouble: Mutex<Option<String>>,
    /// Whether this node wants a session.
    begun: watch::Sender<bool>,
    /// Somebody found the core dead.
    broken: Notify,
    pub(crate) cancel: CancellationToken,
}

/// What a node of a cluster has besides.
pub(crate) struct Cluster {
    pub options: ClusterOptions,
    pub peers: Arc<Peers>,
    pub joining: join::Joining,
    /// Held while the leader changes the membership: one change at a time.
    pub changing: tokio::sync::Mutex<()>,
}

fn slot(duty: Duty) -> usize {
    Duty::ALL.iter().position(|other| *other == duty).unwrap_or(0)
}

impl Group {
    /// Opens the node's log, makes it a group of one at the first start, and starts to keep a session.
    ///
    /// Returns once the log is recovered; the session and the duties arrive in [`session`](Self::session) and
    /// [`duty`](Self::duty) a few commits later. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`RaftError::Option`], [`RaftError::Identity`] (a foreign or damaged directory) and [`RaftError::Storage`] (the
    /// file is in use, damaged, or the disk is full).
    pub async fn open(options: Options) -> Result<Self, RaftError> {
        options.validate()?;
        let home = Home::new(options.cluster.is_some())?;
        // On the threads on which its tasks are to run.
        let opened = home.spawn(open(options)).await;
        let Opened { inner, server } = opened.map_err(|error| RaftError::Storage(error.to_string()))??;
        let cancel = inner.cancel.clone();
        let tasks = vec![home.handle().clone().spawn(run(inner.clone(), server, home))];
        Ok(Self { inner, tasks: Arc::new(Mutex::new(tasks)), _guard: Arc::new(cancel.drop_guard()) })
    }

    /// This node's session while it is provably live; None before, between and after sessions.
    pub fn session(&self) -> watch::Receiver<Option<Session>> {
        self.inner.session.subscribe()
    }

    /// This node's lease of a duty; None while another node holds it or nobody may.
    ///
    /// Every renewal changes the value: it moves `valid_until`. A holder that can't renew sees None at `valid_until`,
    /// and must check [`Lease::is_valid`] before each step, for it may itself be late.
    pub fn duty(&self, duty: Duty) -> watch::Receiver<Option<Lease>> {
        self.inner.duties[slot(duty)].subscribe()
    }

    /// Asks for a session, if the node was opened without [`Options::begin_at_once`]: now it can do what duties and
    /// sensors ask of it.
    pub fn begin(&self) {
        self.inner.begun.send_replace(true);
    }

    /// Waits until this node has a session and every duty that it is willing to do is held by somebody.
    ///
    /// # Errors
    /// [`RaftError::Timeout`], with [`Group::check`] telling what is missing.
    pub async fn wait_ready(&self, within: Duration) -> Result<(), RaftError> {
        let mut changed = self.inner.told.changed.subscribe();
        let mut session = self.session();
        let ready = || {
            let epoch = self.inner.session.borrow().as_ref().map(|session| session.epoch);
            let core = self.inner.core.read().clone();
            epoch.is_some_and(|epoch| {
                core.is_some_and(|core| core.reader.with(|applied| self.inner.is_settled(&applied.state, epoch)))
            })
        };
        let wait = async {
            while !ready() {
                tokio::select! {
                    _ = changed.changed() => {}
                    _ = session.changed() => {}
                }
            }
        };
        tokio::time::timeout(within, wait).await.map_err(|_| timed_out(within))
    }

    /// Whether the group works for this node: for readiness. Costs no I/O.
    ///
    /// # Errors
    /// The storage failure if there is one, else [`RaftError::NoSession`].
    pub fn check(&self) -> Result<(), RaftError> {
        if self.inner.cancel.is_cancelled() {
            return Err(RaftError::Stopped);
        }
        if self.inner.is_removed() {
            return Err(RaftError::Removed);
        }
        if let Some(reason) = self.inner.trouble.lock().clone() {
            return Err(RaftError::Storage(reason));
        }
        match &*self.inner.session.borrow() {
            Some(_) => Ok(()),
            None => Err(RaftError::NoSession),
        }
    }

    /// The content that the cluster should have. None before the first.
    pub fn content_revision(&self) -> Option<Content> {
        let core = self.inner.core.read().clone()?;
        core.reader.with(|applied| Content::current(&applied.state.content))
    }

    /// The hash of the content at a past revision, if it is among the last
    /// [`CONTENT_HISTORY`](crate::state::CONTENT_HISTORY).
    pub fn content_at(&self, revision: u64) -> Option<String> {
        let core = self.inner.core.read().clone()?;
        let found = |(number, hash): &(u64, String)| (*number == revision).then(|| hash.clone());
        core.reader.with(|applied| applied.state.content.history.iter().find_map(found))
    }

    /// Told (by a counter) after every change of the replicated state, among them of the content revision.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.told.changed.subscribe()
    }

    /// Removes a node by name, from whichever node: it votes and follows no more, its rights end, and it stays away
    /// until it comes back as a new node (with an empty data directory). For nodes that are gone for good.
    ///
    /// # Errors
    /// [`RaftError::NotAdmitted`] with the reason when it is unknown or the last voter.
    pub async fn remove_node(&self, name: &str) -> Result<(), RaftError> {
        members::order(&self.inner, AdminCall::Remove { node: name.to_owned() }).await
    }

    /// Makes another voter the leader: the named one, or the one with the longest log.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<(), RaftError> {
        members::order(&self.inner, AdminCall::Transfer { to: to.map(str::to_owned) }).await
    }

    /// The highest versions (of commands, snapshots and calls) that all members read.
    pub fn min_version(&self) -> Reads {
        let core = self.inner.core.read().clone();
        core.map_or_else(Reads::default, |core| core.min_versions())
    }

    /// Cuts this node's connections to the named one in both directions, or mends them. For tests of partitions.
    #[doc(hidden)]
    pub fn cut_off(&self, name: &str, cut: bool) {
        let Some(core) = self.inner.core.read().clone() else { return };
        let Some(peers) = self.inner.peers() else { return };
        core.members().iter().filter(|member| member.name == name).for_each(|member| peers.set_cut(member.id, cut));
    }

    /// What this node knows of the group.
    pub fn status(&self) -> Status {
        status::status(&self.inner)
    }

    /// Stops: takes the duties back from their users, ends the session so that others go on at once, closes the log.
    /// Stop the users of duties first: after this call their epochs are refused. Waits for all tasks.
    pub async fn shutdown(&self) {
        self.inner.cancel.cancel();
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if task.await.is_err() {
                tracing::error!("a task of the raft group panicked");
            }
        }
    }
}

/// A file in the data directory of a node that was removed.
const REMOVED: &str = "removed";

struct Opened {
    inner: Arc<Inner>,
    server: Option<Server>,
}

/// Opens everything, in the runtime of the consensus.
async fn open(options: Options) -> Result<Opened, RaftError> {
    join::enroll::if_needed(&options).await?;
    let tls = match options.cluster.clone() {
        Some(cluster) => {
            Some(Arc::new(blocking(move || Tls::load(cluster.tls.clone(), cluster.ca_key.is_some())).await?))
        }
        None => None,
    };
    if let (Some(tls), Some(cluster)) = (&tls, &options.cluster)
        && tls.name() != options.node_name
    {
        let reason = format!("is the certificate of node '{}', this one is '{}'", tls.name(), options.node_name);
        return Err(RaftError::Certificate { path: cluster.tls.cert.clone(), reason });
    }
    let (dir, expected) = (options.data_dir.clone(), options.cluster_id.clone());
    let usual = match (&tls, &options.cluster) {
        (Some(tls), Some(cluster)) if expected.is_none() && !Identity::exists(&dir) => {
            join::cluster_to_join(cluster, &options.node_name, tls.clone()).await.or_else(|| tls.authority())
        }
        _ => None,
    };
    let identity = blocking(move || Identity::load_or_create(&dir, expected.as_deref(), usual.as_deref())).await?;
    let mut server = None;
    let mut cluster = None;
    if let (Some(options), Some(tls)) = (&options.cluster, tls) {
        server = Some(Server::bind(options.listen, tls.clone()).await?);
        let (name, id) = (tls.name(), identity.cluster_id.clone());
        let peers = Peers::new(identity.node_id, name, id, tls, tokio::runtime::Handle::current());
        cluster = Some(Cluster {
            options: options.clone(),
            peers: Arc::new(peers),
            joining: join::Joining::default(),
            changing: tokio::sync::Mutex::default(),
        });
    }
    if let Some(cluster) = cluster.as_ref().filter(|_| options.data_dir.join(REMOVED).exists()) {
        cluster.joining.set_removed();
    }
    let told = Told::default();
    let peers = cluster.as_ref().map(|cluster| cluster.peers.clone());
    let parts = Parts { options: &options, identity: &identity, peers, told: told.clone() };
    let core = Core::start(parts).await?;
    let begun = options.begin_at_once;
    let inner = Arc::new(Inner {
        identity: Identity { has_log: true, ..identity },
        options,
        cluster,
        core: RwLock::new(Some(Arc::new(core))),
        told,
        renewed: watch::channel(None).0,
        session: watch::channel(None).0,
        duties: std::array::from_fn(|_| watch::channel(None).0),
        sensors: watch::channel(Arc::default()).0,
        given_up: Mutex::default(),
        trouble: Mutex::new(None),
        begun: watch::channel(begun).0,
        broken: Notify::new(),
        cancel: CancellationToken::new(),
    });
    Ok(Opened { inner, server })
}

/// Everything that runs for a node, until it is cancelled. `_home` goes last.
async fn run(inner: Arc<Inner>, server: Option<Server>, _home: Home) {
    // Other nodes are answered until the session has ended: its end needs them.
    let serving = CancellationToken::new();
    let server = server.map(|server| tokio::spawn(server.run(inner.clone(), serving.clone())));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(leases::publish(inner.clone()));
    tasks.spawn(reaper::run(inner.clone()));
    tasks.spawn(keeper::run(inner.clone()));
    if inner.cluster.is_some() {
        tasks.spawn(join::run(inner.clone()));
        tasks.spawn(members::run(inner.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() {
            tracing::error!("a task of the raft group panicked");
        }
    }
    serving.cancel();
    if let Some(server) = server {
        let _ = server.await;
    }
}

impl Inner {
    /// Starts a core; the former one must be closed.
    pub(crate) async fn start_core(&self) -> Result<Core, RaftError> {
        let peers = self.peers().cloned();
        let told = self.told.clone();
        Core::start(Parts { options: &self.options, identity: &self.identity, peers, told }).await
    }

    /// Whether the group has removed this node.
    pub(crate) fn is_removed(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.joining.is_removed())
    }

    /// Takes all rights back for good.
    pub(crate) fn set_removed(&self) {
        if let Some(cluster) = &self.cluster
            && !cluster.joining.is_removed()
        {
            // First, so that no later renewal shows anything.
            cluster.joining.set_removed();
            // For later starts; without it they ask again.
            if let Err(error) = std::fs::write(self.options.data_dir.join(REMOVED), b"") {
                tracing::warn!(%error, "the removal can't be noted");
            }
        }
        self.show_nothing();
        self.told.tell_all();
    }

    pub(crate) fn peers(&self) -> Option<&Arc<Peers>> {
        self.cluster.as_ref().map(|cluster| &cluster.peers)
    }

    /// Proposes a command and waits until it is applied.
    async fn propose(&self, command: Command) -> Result<Response, RaftError> {
        let core = self.live_core()?;
        let answer = core.propose(command, self.options.request_timeout).await;
        if matches!(&answer, Err(RaftError::Storage(_))) {
            self.broken.notify_one();
        }
        match answer? {
            Response::Refused(refusal) => Err(refusal.into()),
            response => Ok(response),
        }
    }

    /// The highest version of commands that every member reads.
    fn min_version(&self, core: &Core) -> u16 {
        let alone = core.reader.with(|applied| applied.members.membership().nodes().count() == 1);
        if alone { COMMAND_VERSION } else { core.min_versions().command }
    }

    pub(crate) fn live_core(&self) -> Result<Arc<Core>, RaftError> {
        if let Some(core) = self.core.read().clone() {
            return Ok(core);
        }
        if self.cancel.is_cancelled() {
            return Err(RaftError::Stopped);
        }
        Err(RaftError::Storage(self.trouble.lock().clone().unwrap_or_else(|| "the log is being reopened".to_owned())))
    }

    fn is_settled(&self, state: &crate::state::State, epoch: u64) -> bool {
        let held = |duty: &Duty| match state.duties.get(duty).and_then(|duty| duty.holder) {
            Some(holder) if holder.node == self.identity.node_id => {
                holder.session == epoch && self.duties[slot(*duty)].borrow().is_some()
            }
            Some(_) => true,
            None => false,
        };
        state.is_live(self.identity.node_id, epoch) && self.options.duties.iter().all(held)
    }
}

fn unexpected(response: &Response) -> RaftError {
    RaftError::Storage(format!("an answer that doesn't fit the command: {response:?}"))
}

fn timed_out(after: Duration) -> RaftError {
    RaftError::Timeout(u64::try_from(after.as_millis()).unwrap_or(u64::MAX))
}

/// Runs what blocks off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RaftError> + Send + 'static,
) -> Result<T, RaftError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RaftError::Storage(format!("a blocking step of the raft group failed: {error}")))?
}

/// Sleeps until an instant, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
