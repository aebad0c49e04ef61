//! How executions come by the permits of their concurrency policies: pure, `event -> effects`.
//!
//! An execution needs one permit of each of its keys. It asks for them in the order of the keys, and keeps what it has
//! while it waits for the next: all executions ask in the same order, so whoever holds the highest key that anybody
//! waits for never waits for one of the others, and no circle can form (P2). After lost memory it may hold a later key
//! and have lost an earlier one: therefore it gives up the later ones whenever it has to wait. Asks for one key leave this node one at a
//! time and in the order in which they came, so that the coordinator's order of asking is ours.
//!
//! Nothing here is the truth: the coordinator knows who holds and who waits, the store who may run. Forgetting all of
//! it and asking again changes nothing.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use coordinator::{Answer, Grant};
use model::{HeldPermit, Id, Timestamp};

/// Waiters that ask again when a key seems to have forgotten wishes.
const ASK_AGAIN: usize = 100;

/// One policy as it applies to one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// Policy and, for attribute policies, the values.
    pub key: String,
    pub threshold: u32,
    /// Cancel what doesn't fit instead of letting it wait.
    pub cancel: bool,
}

/// Something to do; its outcome comes back as a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ask the coordinator: [`Seekers::asked`].
    Ask { id: Id, limit: Limit },
    /// Give these up before it waits for another: [`Seekers::retreated`].
    Retreat { id: Id, keys: Vec<String> },
    /// Put it down as waiting for these keys. Nothing comes back.
    Wait { id: Id, keys: Vec<String> },
    /// Put these permits down and let it go on: [`Seekers::admitted`].
    Admit { id: Id, permits: Vec<HeldPermit> },
    /// A policy cancels it, unless it goes on meanwhile. Nothing comes back.
    Cancel { id: Id },
    /// It needs these no more. Nothing comes back.
    Release { id: Id, keys: Vec<String> },
    /// Bring store and coordinator together: [`Seekers::mended`].
    Mend { key: String, limit: u32 },
}

/// How [`Effect::Admit`] went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It goes on, by this or by another commit.
    GoesOn,
    /// It is over, or runs without.
    NotNeeded,
    /// The store knows others on these keys' slots.
    Taken(Vec<String>),
    /// The store failed.
    Failed,
}

/// What [`Effect::Mend`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The coordinator had forgotten permits.
    pub restored: bool,
    /// It has more permits than holders: if somebody waits, it has forgotten wishes.
    pub free: bool,
    /// Executions that hold a permit for the coordinator, but not yet in the store.
    pub granted: Vec<Id>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its ask for the next key waits until those before it were answered.
    InLine,
    /// Its ask for the next key is on its way.
    Asking,
    /// It is in the next key's queue, and gives up later keys.
    Retreating,
    /// The coordinator has put it into the next key's queue.
    Waiting,
    /// Something failed; asks again at the next [`Seekers::retry`].
    Stalled,
    /// It has all permits, and the commit is on its way.
    Admitting,
    /// The store contradicted; its keys are being mended.
    Mending,
}

#[derive(Debug)]
struct Seeker {
    /// By key, distinct.
    limits: Vec<Limit>,
    /// For the first of the limits.
    granted: Vec<HeldPermit>,
    stage: Stage,
    /// Whether the store says that it waits, or will.
    noted: bool,
    /// A grant that was heard before the answer to the ask arrived.
    heard: Option<Grant>,
    /// Begin anew when the ask that is on its way is answered.
    anew: bool,
    since: Timestamp,
}

impl Seeker {
    fn next_key(&self) -> Option<&Limit> {
        self.limits.get(self.granted.len())
    }

    fn keys(&self) -> Vec<String> {
        self.limits.iter().map(|limit| limit.key.clone()).collect()
    }
}

#[derive(Debug, Default)]
struct Lane {
    busy: bool,
    line: VecDeque<Id>,
}

/// All executions of this node that want permits.
#[derive(Debug, Default)]
pub(super) struct Seekers {
    seekers: HashMap<Id, Seeker>,
    lanes: HashMap<String, Lane>,
    /// Who waits at the coordinator for a key, by age.
    waiting: HashMap<String, BTreeSet<(Timestamp, Id)>>,
    stalled: HashSet<Id>,
    mending: HashSet<String>,
    contradicted: HashSet<Id>,
    /// Those that ended while an ask of theirs was on its way.
    ended: HashSet<Id>,
    effects: Vec<Effect>,
}

impl Seekers {
    pub(super) fn knows(&self, id: Id) -> bool {
        self.seekers.contains_key(&id)
    }

    pub(super) fn len(&self) -> usize {
        self.seekers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seekers.is_empty()
    }

    pub(super) fn any_stalled(&self) -> bool {
        !self.stalled.is_empty()
    }

    /// All, by age.
    pub(super) fn ids(&self) -> Vec<Id> {
        let mut ids: Vec<(Timestamp, Id)> = self.seekers.iter().map(|(id, seeker)| (seeker.since, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Keys for which somebody waits, with their limits.
    pub(super) fn awaited(&self) -> Vec<(String, u32)> {
        let limit_of = |key: &String, waiters: &BTreeSet<(Timestamp, Id)>| {
            let (_, id) = waiters.first()?;
            let limit = self.seekers.get(id)?.limits.iter().find(|limit| limit.key == *key)?;
            Some((key.clone(), limit.threshold))
        };
        self.waiting.iter().filter_map(|(key, waiters)| limit_of(key, waiters)).collect()
    }

    /// What the calls so far led to.
    pub(super) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// An execution wants to run under these limits. `noted`: the store says already that it waits.
    pub(super) fn want(&mut self, id: Id, since: Timestamp, mut limits: Vec<Limit>, noted: bool) {
        limits.sort_by(|a, b| a.key.cmp(&b.key));
        limits.dedup_by(|a, b| a.key == b.key);
        if let Some(seeker) = self.seekers.get_mut(&id) {
            if seeker.limits != limits && !matches!(seeker.stage, Stage::Admitting) {
                let dropped: Vec<String> =
                    seeker.keys().into_iter().filter(|key| limits.iter().all(|limit| limit.key != *key)).collect();
                seeker.noted &= dropped.is_empty() && seeker.limits.len() == limits.len();
                if !dropped.is_empty() {
                    self.effects.push(Effect::Release { id, keys: dropped });
                }
                self.leave_queue(id);
                if let Some(seeker) = self.seekers.get_mut(&id) {
                    seeker.limits = limits;
                }
                self.begin(id);
            }
            return;
        }
        let seeker =
            Seeker { limits, granted: Vec::new(), stage: Stage::Stalled, noted, heard: None, anew: false, since };
        self.seekers.insert(id, seeker);
        self.begin(id);
    }

    /// It needs nothing any more: it is over.
    pub(super) fn over(&mut self, id: Id) {
        if self.seekers.get(&id).is_some_and(|seeker| seeker.stage == Stage::Asking) {
            self.ended.insert(id);
        }
        if let Some(keys) = self.forget(id) {
            self.effects.push(Effect::Release { id, keys });
        }
    }

    /// It goes on by somebody else's commit, and keeps its permits.
    pub(super) fn forget(&mut self, id: Id) -> Option<Vec<String>> {
        self.leave_queue(id);
        self.stalled.remove(&id);
        self.contradicted.remove(&id);
        Some(self.seekers.remove(&id)?.keys())
    }

    /// The coordinator's answer; `None` if there was none.
    pub(super) fn asked(&mut self, id: Id, key: &str, answer: Option<Answer>) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.busy = false;
        }
        self.answered(id, key, answer);
        self.run_lane(key);
    }

    fn answered(&mut self, id: Id, key: &str, answer: Option<Answer>) {
        let wanted = self.seekers.get(&id).map(|seeker| seeker.limits.iter().any(|limit| limit.key == key));
        // Of one that goes on by another commit, the permit is right where it is.
        if (self.ended.remove(&id) && wanted.is_none()) || wanted == Some(false) {
            self.effects.push(Effect::Release { id, keys: vec![key.to_owned()] });
        }
        let Some(seeker) = self.seekers.get_mut(&id).filter(|seeker| seeker.stage == Stage::Asking) else { return };
        if seeker.next_key().is_none_or(|limit| limit.key != key) && !seeker.anew {
            // An answer from before it was forgotten and came again.
            return;
        }
        if std::mem::take(&mut seeker.anew) {
            return self.go_on(id);
        }
        match (answer, seeker.heard.take()) {
            (Some(Answer::Granted(grant)), _) | (Some(Answer::Queued), Some(grant)) => self.granted(id, grant),
            (Some(Answer::Queued), None) => {
                let later: Vec<String> = seeker.keys().split_off(seeker.granted.len() + 1);
                if later.is_empty() {
                    self.wait(id);
                } else {
                    seeker.stage = Stage::Retreating;
                    self.effects.push(Effect::Retreat { id, keys: later });
                }
                self.note(id);
            }
            (Some(Answer::Busy), _) => {
                let held: Vec<String> = seeker.granted.iter().map(|held| held.key.clone()).collect();
                self.seekers.remove(&id);
                if !held.is_empty() {
                    self.effects.push(Effect::Release { id, keys: held });
                }
                self.effects.push(Effect::Cancel { id });
            }
            (None, _) => {
                self.stall(id);
                self.note(id);
                self.stall_lines();
            }
        }
    }

    /// It gave up later keys, or couldn't.
    pub(super) fn retreated(&mut self, id: Id, done: bool) {
        let Some(seeker) = self.seekers.get_mut(&id).filter(|seeker| seeker.stage == Stage::Retreating) else { return };
        match seeker.heard.take() {
            _ if std::mem::take(&mut seeker.anew) => self.go_on(id),
            _ if !done => self.stall(id),
            Some(grant) => self.granted(id, grant),
            None => self.wait(id),
        }
    }

    /// A waiting request was granted. False if this node knows nothing of it.
    pub(super) fn heard(&mut self, id: Id, key: &str, grant: Grant) -> bool {
        let Some(seeker) = self.seekers.get_mut(&id) else { return false };
        if seeker.next_key().is_some_and(|limit| limit.key == key) && !seeker.anew {
            match seeker.stage {
                Stage::Waiting => {
                    self.leave_queue(id);
                    self.granted(id, grant);
                }
                Stage::Asking | Stage::Retreating => seeker.heard = Some(grant),
                Stage::InLine | Stage::Stalled | Stage::Admitting | Stage::Mending => {}
            }
        }
        true
    }

    pub(super) fn admitted(&mut self, id: Id, outcome: Admitted) {
        match outcome {
            Admitted::GoesOn => drop(self.forget(id)),
            Admitted::NotNeeded => self.over(id),
            Admitted::Failed => self.stall(id),
            Admitted::Taken(keys) => {
                let Some(seeker) = self.seekers.get_mut(&id) else { return };
                seeker.stage = Stage::Mending;
                let limits: Vec<(String, u32)> = seeker
                    .limits
                    .iter()
                    .filter(|limit| keys.contains(&limit.key))
                    .map(|limit| (limit.key.clone(), limit.threshold))
                    .collect();
                if limits.is_empty() {
                    return self.stall(id);
                }
                self.contradicted.insert(id);
                for (key, limit) in limits {
                    self.mend(key, limit);
                }
            }
        }
    }

    /// Compares store and coordinator of a key, unless that is under way.
    pub(super) fn mend(&mut self, key: String, limit: u32) {
        if self.mending.insert(key.clone()) {
            self.effects.push(Effect::Mend { key, limit });
        }
    }

    /// A key was compared; `None` if that failed.
    pub(super) fn mended(&mut self, key: &str, found: Option<Found>) {
        self.mending.remove(key);
        let Found { restored, free, granted } = found.unwrap_or_default();
        for id in granted {
            // It was granted this permit and hasn't heard.
            let waits = |s: &&Seeker| s.stage == Stage::Waiting && s.next_key().is_some_and(|limit| limit.key == key);
            if self.seekers.get(&id).filter(waits).is_some() {
                self.begin(id);
            }
        }
        let is_about = |id: &Id| self.seekers.get(id).is_some_and(|seeker| seeker.limits.iter().any(|l| l.key == key));
        for id in self.contradicted.iter().copied().filter(is_about).collect::<Vec<Id>>() {
            self.contradicted.remove(&id);
            // If nothing was wrong with the coordinator, the store has to be put right first: by recovery.
            if restored { self.begin(id) } else { self.stall(id) }
        }
        if restored || free {
            let waiters = self.waiting.get(key).into_iter().flatten().map(|(_, id)| *id);
            for id in waiters.take(if restored { usize::MAX } else { ASK_AGAIN }).collect::<Vec<Id>>() {
                self.begin(id);
            }
        }
    }

    /// What failed is tried again.
    pub(super) fn retry(&mut self) {
        let mut stalled: Vec<Id> = self.stalled.drain().collect();
        stalled.sort_by_key(|id| self.seekers.get(id).map(|seeker| (seeker.since, *id)));
        for id in stalled {
            self.begin(id);
        }
    }

    /// Grants may have been missed: all ask again, the oldest first.
    pub(super) fn lost(&mut self) {
        for id in self.ids() {
            let Some(seeker) = self.seekers.get_mut(&id) else { continue };
            match seeker.stage {
                Stage::Waiting | Stage::Stalled | Stage::Asking | Stage::InLine | Stage::Retreating => self.begin(id),
                Stage::Admitting | Stage::Mending => {}
            }
        }
    }

    // --- steps -------------------------------------------------------------------------------------------------

    /// Asks for all of its permits, from the first.
    fn begin(&mut self, id: Id) {
        self.leave_queue(id);
        self.stalled.remove(&id);
        let Some(seeker) = self.seekers.get_mut(&id) else { return };
        seeker.granted.clear();
        seeker.heard = None;
        if matches!(seeker.stage, Stage::Asking | Stage::Retreating) {
            // The answer begins anew.
            seeker.anew = true;
            return;
        }
        self.go_on(id);
    }

    /// It is in the next key's queue.
    fn wait(&mut self, id: Id) {
        let Some(seeker) = self.seekers.get_mut(&id) else { return };
        seeker.stage = Stage::Waiting;
        if let Some(limit) = seeker.limits.get(seeker.granted.len()) {
            self.waiting.entry(limit.key.clone()).or_default().insert((seeker.since, id));
        }
    }

    fn granted(&mut self, id: Id, grant: Grant) {
        let Some(seeker) = self.seekers.get_mut(&id) else { return };
        if let Some(limit) = seeker.next_key() {
            let key = limit.key.clone();
            seeker.granted.push(HeldPermit { key, slot: grant.slot, token: grant.token });
        }
        self.go_on(id);
    }

    /// Asks for the next permit, or is admitted.
    fn go_on(&mut self, id: Id) {
        let Some(seeker) = self.seekers.get_mut(&id) else { return };
        match seeker.next_key().map(|limit| limit.key.clone()) {
            Some(key) => {
                seeker.stage = Stage::InLine;
                self.lanes.entry(key.clone()).or_default().line.push_back(id);
                self.run_lane(&key);
            }
            None => {
                seeker.stage = Stage::Admitting;
                let permits = seeker.granted.clone();
                self.effects.push(Effect::Admit { id, permits });
            }
        }
    }

    /// Sends the next ask of a key, if none is on its way.
    fn run_lane(&mut self, key: &str) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        while !lane.busy {
            let Some(id) = lane.line.pop_front() else {
                self.lanes.remove(key);
                return;
            };
            // It may have left, or stand in the line twice.
            let Some(seeker) = self.seekers.get_mut(&id).filter(|seeker| seeker.stage == Stage::InLine) else {
                continue;
            };
            if let Some(limit) = seeker.next_key().filter(|limit| limit.key == key).cloned() {
                seeker.stage = Stage::Asking;
                lane.busy = true;
                self.effects.push(Effect::Ask { id, limit });
            }
        }
    }

    /// The coordinator doesn't answer: nobody in line needs to find that out for himself.
    fn stall_lines(&mut self) {
        for lane in self.lanes.values_mut() {
            for id in std::mem::take(&mut lane.line) {
                if let Some(seeker) = self.seekers.get_mut(&id).filter(|seeker| seeker.stage == Stage::InLine) {
                    seeker.stage = Stage::Stalled;
                    seeker.granted.clear();
                    self.stalled.insert(id);
                    if !std::mem::replace(&mut seeker.noted, true) {
                        self.effects.push(Effect::Wait { id, keys: seeker.keys() });
                    }
                }
            }
        }
        self.lanes.retain(|_, lane| lane.busy);
    }

    fn stall(&mut self, id: Id) {
        if let Some(seeker) = self.seekers.get_mut(&id) {
            seeker.stage = Stage::Stalled;
            seeker.granted.clear();
            self.stalled.insert(id);
        }
    }

    fn note(&mut self, id: Id) {
        if let Some(seeker) = self.seekers.get_mut(&id)
            && !seeker.noted
        {
            seeker.noted = true;
            let keys = seeker.keys();
            self.effects.push(Effect::Wait { id, keys });
        }
    }

    fn leave_queue(&mut self, id: Id) {
        let Some(seeker) = self.seekers.get(&id) else { return };
        let Some(limit) = seeker.next_key() else { return };
        if seeker.stage == Stage::Waiting
            && let Some(waiters) = self.waiting.get_mut(&limit.key)
        {
            waiters.remove(&(seeker.since, id));
            if waiters.is_empty() {
                self.waiting.remove(&limit.key);
            }
        }
    }
}

#[cfg(test)]
#[path = "seek_tests.rs"]
mod tests;
