//! openraft's state machine port: applies committed entries to [`State`], makes and installs snapshots.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use coordinator::{Grant, Heard};
use futures::{Stream, TryStreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::log::LogStore;
use crate::state::{Event, Granted, Response, State};
use crate::types::{LogId, SnapshotRecord, StoredMembership, TypeConfig, damaged};

/// The state at an index.
#[derive(Default)]
pub struct Applied {
    pub state: State,
    pub last: Option<LogId>,
    pub members: StoredMembership,
    /// The latest term of which an entry was applied since the start, and the highest session epoch before that.
    pub term: (u64, u64),
    /// Up to where the current snapshot reaches.
    pub snapshot: Option<u64>,
    /// The state's hash at the last indexes that [`HASH_EVERY`] divides, oldest first.
    pub hashes: VecDeque<(u64, String)>,
}

/// Replicas are compared at indexes that this divides; at every index it would cost more than applying.
const HASH_EVERY: u64 = 64;
/// How many hashes are kept.
const HASHES: usize = 32;

impl Applied {
    /// Keeps the state's hash if it is due at this index.
    fn note_hash(&mut self, index: u64) {
        if index.is_multiple_of(HASH_EVERY) {
            self.hashes.push_back((index, self.state.hash()));
            if self.hashes.len() > HASHES {
                self.hashes.pop_front();
            }
        }
    }
}

/// Reads the state; cheap to clone.
#[derive(Clone)]
pub struct MachineReader(Arc<RwLock<Applied>>);

impl MachineReader {
    /// Don't block and don't wait in `look`.
    pub fn with<T>(&self, look: impl FnOnce(&Applied) -> T) -> T {
        look(&self.0.read())
    }
}

/// The state machine of this node.
pub struct Machine {
    applied: Arc<RwLock<Applied>>,
    log: LogStore,
    told: Told,
}

/// Who is told of what is applied.
#[derive(Clone)]
pub struct Told {
    /// Counts changes of the state.
    pub changed: watch::Sender<u64>,
    /// Counts those that may concern sessions, duties and sensors: permits come and go a thousand times as often.
    pub rights: watch::Sender<u64>,
    /// Permits that were granted to waiting requests.
    pub grants: coordinator::Feed,
}

impl Told {
    /// Tells of a change of anything.
    pub fn tell_all(&self) {
        self.tell(true);
    }

    fn tell(&self, rights: bool) {
        if rights {
            self.rights.send_modify(|count| *count = count.wrapping_add(1));
        }
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Default for Told {
    fn default() -> Self {
        Self { changed: watch::channel(0).0, rights: watch::channel(0).0, grants: coordinator::Feed::default() }
    }
}

impl Machine {
    /// Starts from the snapshot on disk; openraft re-applies the log behind it. Blocks.
    pub fn open(log: LogStore, told: Told) -> io::Result<Self> {
        let mut applied = Applied::default();
        if let Some((record, data)) = log.read_snapshot()? {
            applied = restore(record, &data)?;
        }
        // Whoever listened to the machine before this one may have missed grants.
        told.grants.tell(Heard::Lost);
        Ok(Self { applied: Arc::new(RwLock::new(applied)), log, told })
    }

    pub fn reader(&self) -> MachineReader {
        MachineReader(self.applied.clone())
    }

    fn report(&self, event: Event) {
        log_event(&event);
        if let Event::PermitGranted(Granted { key, request, slot, token }) = event {
            self.told.grants.tell(Heard::Granted { key, request, grant: Grant { slot, token } });
        }
    }
}

fn restore(record: SnapshotRecord, data: &[u8]) -> io::Result<Applied> {
    let (last, members) = record.into_parts()?;
    let state = State::from_snapshot(data).map_err(damaged)?;
    // An entry of the snapshot's term may come yet: none of its sessions counts as earlier than that.
    let term = (last.map_or(0, |last| last.leader_id.term), 0);
    let snapshot = last.map(|last| last.index);
    Ok(Applied { state, last, members, term, snapshot, hashes: VecDeque::new() })
}

fn log_event(event: &Event) {
    match event {
        Event::SessionRegistered { node, epoch } => tracing::info!(node = format!("{node:x}"), epoch, "session began"),
        Event::SessionEnded { node, epoch, expired } => {
            tracing::info!(node = format!("{node:x}"), epoch, expired, "session ended");
        }
        Event::DutyAssigned { duty, node, epoch } => {
            tracing::info!(duty = duty.as_str(), node = format!("{node:x}"), epoch, "duty assigned");
        }
        Event::DutyWanted { duty, node } => {
            tracing::info!(duty = duty.as_str(), node = format!("{node:x}"), "duty is to be handed over");
        }
        Event::ContentAdvanced { revision } => tracing::info!(revision, "content advanced"),
        Event::VersionAgreed { version } => tracing::info!(version, "all members read commands of this version"),
        Event::SessionSuspended { node, epoch } => {
            tracing::info!(node = format!("{node:x}"), epoch, "session suspended, its duties and sensors are free");
        }
        Event::SessionResumed { node, epoch } => {
            tracing::info!(node = format!("{node:x}"), epoch, "session resumed");
        }
        Event::SessionDrains { node, epoch } => tracing::info!(node = format!("{node:x}"), epoch, "session drains"),
        Event::SensorAssigned { sensor, node, epoch } => {
            tracing::info!(sensor, node = format!("{node:x}"), epoch, "sensor assigned");
        }
        Event::SensorMoves { sensor, node } => {
            tracing::info!(sensor, node = format!("{node:x}"), "sensor is to stop there");
        }
        Event::PermitGranted(_) => {}
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let applied = self.applied.read();
        Ok((applied.last, applied.members.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut rights = false;
        while let Some((entry, responder)) = entries.try_next().await? {
            rights |= match &entry.payload {
                EntryPayload::Normal(proposal) => proposal.command.is_about_rights(),
                // A new leader, or other members.
                EntryPayload::Blank | EntryPayload::Membership(_) => true,
            };
            let response = {
                let mut applied = self.applied.write();
                applied.last = Some(entry.log_id);
                if applied.term.0 < entry.log_id.leader_id.term {
                    applied.term = (entry.log_id.leader_id.term, applied.state.last_session_epoch);
                }
                let response = match entry.payload {
                    EntryPayload::Blank => Response::Done,
                    EntryPayload::Normal(proposal) => {
                        let (response, events) = applied.state.apply_in(entry.log_id.leader_id.term, &proposal.command);
                        events.into_iter().for_each(|event| self.report(event));
                        response
                    }
                    EntryPayload::Membership(members) => {
                        applied.members = StoredMembership::new(Some(entry.log_id), members);
                        Response::Done
                    }
                };
                applied.note_hash(entry.log_id.index);
                response
            };
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        self.told.tell(rights);
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let applied = self.applied.read();
        Builder {
            state: applied.state.clone(),
            last: applied.last,
            members: applied.members.clone(),
            applied: self.applied.clone(),
            log: self.log.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<TypeConfig>, snapshot: Vec<u8>) -> io::Result<()> {
        let record = || SnapshotRecord::of(meta.last_log_id, &meta.last_membership);
        let restored = restore(record(), &snapshot)?;
        self.log.save_snapshot(&record(), snapshot).await?;
        *self.applied.write() = restored;
        self.told.grants.tell(Heard::Lost);
        self.told.tell_all();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, Vec<u8>>>> {
        let Some((record, snapshot)) = self.log.read_snapshot()? else { return Ok(None) };
        let (last_log_id, last_membership) = record.into_parts()?;
        let meta = SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership };
        Ok(Some(SnapshotOf::<TypeConfig, Vec<u8>> { meta, snapshot }))
    }
}

/// A copy of the state that becomes a snapshot.
pub struct Builder {
    state: State,
    last: Option<LogId>,
    members: StoredMembership,
    applied: Arc<RwLock<Applied>>,
    log: LogStore,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, Vec<u8>>> {
        let data = self.state.to_snapshot().map_err(damaged)?;
        self.log.save_snapshot(&SnapshotRecord::of(self.last, &self.members), data.clone()).await?;
        self.applied.write().snapshot = self.last.map(|last| last.index);
        let meta = SnapshotMetaOf::<TypeConfig> { last_log_id: self.last, last_membership: self.members.clone() };
        Ok(SnapshotOf::<TypeConfig, Vec<u8>> { meta, snapshot: data })
    }
}
