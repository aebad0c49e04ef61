//! Which rights this node may use until when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Duty, Lease, Session};

use super::{Inner, sleep_until, slot};
use crate::state::{Holder, NodeId, State};

/// The last accepted renewal of a session. Times are measured from when it was *sent*; the margin is taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    pub epoch: u64,
    /// Until when the session lives for certain.
    pub session_until: Instant,
    /// In which era duties and sensors may be used, and until when; of the last renewal that counted for them.
    pub lease: Option<(u64, Instant)>,
}

impl Renewed {
    /// What a renewal changes. `era`: the era in which it counted for the lease as well, if it did.
    pub fn next(before: Option<Self>, epoch: u64, era: Option<u64>, sent: Instant, limits: Limits) -> Self {
        let before = before.filter(|before| before.epoch == epoch);
        let lease = match era {
            Some(era) => Some((era, sent + limits.lease)),
            None => before.and_then(|before| before.lease),
        };
        Self { epoch, session_until: sent + limits.session, lease }
    }

    /// When something of it ends next.
    fn next_end(&self, now: Instant) -> Option<Instant> {
        let lease = self.lease.map(|(_, until)| until);
        [Some(self.session_until), lease].into_iter().flatten().filter(|&at| at > now).min()
    }
}

/// How long a renewal counts, from when it was sent: TTL and lease, less the margin.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub session: Duration,
    pub lease: Duration,
}

/// What this process has given up: it never shows that again under the same epoch, whatever its copy of the state says.
/// A release may be applied long after it was sent.
#[derive(Debug, Default)]
pub struct GivenUp {
    /// By [`slot`]; the epoch, 0 for none.
    pub duties: [u64; Duty::ALL.len()],
    pub sensors: BTreeMap<String, u64>,
    /// The last lease that was shown of each sensor.
    pub shown: BTreeMap<String, Lease>,
}

impl GivenUp {
    pub fn duty(&mut self, duty: Duty, epoch: u64) {
        let known = &mut self.duties[slot(duty)];
        *known = epoch.max(*known);
    }

    pub fn sensor(&mut self, sensor: &str, epoch: u64) {
        let known = self.sensors.entry(sensor.to_owned()).or_default();
        *known = epoch.max(*known);
    }

    /// Remembers what is shown, and forgets what can't matter any more.
    fn note(&mut self, now: Instant, view: &View, state: &State) {
        self.shown.retain(|sensor, lease| now < lease.valid_until || state.sensors.contains_key(sensor));
        self.sensors.retain(|sensor, _| state.sensors.contains_key(sensor));
        self.shown.extend(view.sensors.iter().map(|(sensor, lease)| (sensor.clone(), *lease)));
    }

    /// Sensors that this node holds and can't be running, so that nobody else will say that they are stopped: they were
    /// never shown under this epoch, or are to go and their last lease is over, or the user has stopped them and the
    /// release was lost.
    pub fn stopped_sensors(&self, now: Instant, me: NodeId, state: &State) -> Vec<(String, u64)> {
        let held = state.sensors.iter().filter(|(_, held)| held.holder.is_some_and(|holder| holder.node == me));
        let stopped = held.filter(|(sensor, held)| {
            let told = self.sensors.get(*sensor).is_some_and(|&epoch| epoch >= held.epoch);
            let shown = self.shown.get(*sensor).filter(|lease| lease.epoch == held.epoch);
            told || (held.moves || held.unwanted) && shown.is_none_or(|lease| lease.valid_until <= now)
        });
        stopped.map(|(sensor, held)| (sensor.clone(), held.epoch)).collect()
    }
}

/// What callers may rely on at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    pub session: Option<Session>,
    pub duties: [Option<Lease>; Duty::ALL.len()],
    pub sensors: BTreeMap<String, Lease>,
}

impl View {
    /// Pure. A duty or sensor needs all of it: the state says so, the lease was renewed in time and in the era that
    /// this node knows of, nobody asked for it back.
    pub fn at(now: Instant, me: NodeId, renewed: Option<Renewed>, state: &State, given_up: &mut GivenUp) -> Self {
        let view = Self::of(now, me, renewed, state, given_up);
        given_up.note(now, &view, state);
        view
    }

    fn of(now: Instant, me: NodeId, renewed: Option<Renewed>, state: &State, given_up: &GivenUp) -> Self {
        let Some(renewed) = renewed.filter(|renewed| now < renewed.session_until) else { return Self::default() };
        let Some(session) = state.sessions.get(&me).filter(|session| session.epoch == renewed.epoch) else {
            return Self::default();
        };
        let mut view =
            Self { session: Some(Session { node: session.name.clone(), epoch: session.epoch }), ..Self::default() };
        let lease = renewed.lease.filter(|&(era, until)| now < until && era == session.era && !session.suspended);
        let Some((_, valid_until)) = lease else { return view };
        let mine = Some(Holder { node: me, session: renewed.epoch });
        for (&duty, held) in &state.duties {
            if held.holder == mine && held.wanted_by.is_none() && held.epoch > given_up.duties[slot(duty)] {
                view.duties[slot(duty)] = Some(Lease { epoch: held.epoch, valid_until });
            }
        }
        for (sensor, held) in &state.sensors {
            let stopped = given_up.sensors.get(sensor).is_some_and(|&epoch| held.epoch <= epoch);
            if held.holder == mine && !held.moves && !held.unwanted && !stopped {
                view.sensors.insert(sensor.clone(), Lease { epoch: held.epoch, valid_until });
            }
        }
        view
    }
}

impl Inner {
    fn show(&self, view: View) {
        let set = |sender: &tokio::sync::watch::Sender<Option<Lease>>, value: Option<Lease>| {
            sender.send_if_modified(|current| std::mem::replace(current, value) != value)
        };
        // On loss the duties go before the session that carries them.
        for (sender, lease) in self.duties.iter().zip(view.duties) {
            set(sender, lease);
        }
        self.sensors.send_if_modified(|current| {
            let differs = **current != view.sensors;
            if differs {
                *current = Arc::new(view.sensors);
            }
            differs
        });
        self.session.send_if_modified(|current| {
            let differs = *current != view.session;
            *current = view.session;
            differs
        });
    }

    /// Takes all rights back at once.
    pub(super) fn show_nothing(&self) {
        let _given_up = self.given_up.lock();
        self.renewed.send_replace(None);
        self.show(View::default());
    }

    /// Publishes what holds now; says when to look again. What is given up meanwhile waits, so that it isn't shown after.
    fn publish_once(&self) -> Option<Instant> {
        let core = self.core.read().clone();
        let Some(core) = core.filter(|_| !self.cancel.is_cancelled() && !self.is_removed()) else {
            let _given_up = self.given_up.lock();
            self.show(View::default());
            return None;
        };
        core.reader.with(|applied| {
            let mut given_up = self.given_up.lock();
            let (now, renewed) = (Instant::now(), *self.renewed.borrow());
            let view = View::at(now, self.identity.node_id, renewed, &applied.state, &mut given_up);
            let next = view.session.as_ref().and(renewed).and_then(|renewed| renewed.next_end(now));
            self.show(view);
            next
        })
    }
}

/// Keeps the published leases true.
pub async fn publish(inner: Arc<Inner>) {
    let mut changed = inner.told.rights.subscribe();
    let mut renewals = inner.renewed.subscribe();
    loop {
        changed.borrow_and_update();
        renewals.borrow_and_update();
        let next = inner.publish_once();
        tokio::select! {
            () = inner.cancel.cancelled() => {
                inner.show_nothing();
                return;
            }
            () = sleep_until(next) => {}
            _ = changed.changed() => {}
            _ = renewals.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::state::Command;

    const LIMITS: Limits = Limits { session: Duration::from_secs(4), lease: Duration::from_secs(1) };

    fn join(state: &mut State, node: NodeId) {
        state.apply(&Command::RegisterSession {
            node,
            name: format!("n{node}"),
            roles: BTreeSet::from(["sensors".to_owned()]),
            duties: Duty::ALL.into_iter().collect(),
            ttl_ms: 5_000,
            lease_ms: 1_200,
            claim: None,
        });
    }

    #[test]
    fn rights_end_with_the_renewal_the_session_or_a_hand_over() {
        let now = Instant::now();
        let valid_until = now + LIMITS.lease;
        let renewed = Some(Renewed::next(None, 1, Some(0), now, LIMITS));
        let mut state = State::default();
        let mut none = GivenUp::default();
        assert_eq!(View::at(now, 1, renewed, &state, &mut none), View::default());

        join(&mut state, 1);
        let refs = BTreeSet::from(["p.s".to_owned(), "p.t".to_owned()]);
        state.apply(&Command::WantSensors { revision: 0, refs, pins: BTreeMap::new() });
        let session = Some(Session { node: "n1".into(), epoch: 1 });
        let view = View::at(now, 1, renewed, &state, &mut none);
        assert_eq!(view.session, session);
        assert_eq!(view.duties, [Some(Lease { epoch: 1, valid_until }); 3]);
        assert_eq!(view.sensors.len(), 2);
        let only_session = View { session, ..View::default() };
        assert_eq!(
            View::at(valid_until, 1, renewed, &state, &mut none),
            only_session,
            "the lease is over, the session isn't"
        );
        assert_eq!(
            View::at(now + LIMITS.session, 1, renewed, &state, &mut none),
            View::default(),
            "not renewed in time"
        );
        assert_eq!(View::at(now, 2, renewed, &state, &mut none), View::default(), "somebody else's");

        join(&mut state, 2);
        let view = View::at(now, 1, renewed, &state, &mut none);
        assert_eq!(view.duties.iter().flatten().count(), 2, "one is wanted by the node that joined");
        assert_eq!(view.sensors.len(), 1, "a sensor is to move");

        join(&mut state, 1);
        assert_eq!(View::at(now, 1, renewed, &state, &mut none), View::default(), "a newer session took its place");
    }

    #[test]
    fn a_lease_counts_in_its_era_only() {
        let now = Instant::now();
        let mut state = State::default();
        let mut none = GivenUp::default();
        join(&mut state, 1);
        let old = Renewed::next(None, 1, Some(0), now, LIMITS);
        // A renewal in the next era came before this node has heard of the suspension in between.
        let ahead = Renewed::next(Some(old), 1, Some(1), now, LIMITS);
        assert_eq!(View::at(now, 1, Some(ahead), &state, &mut none).duties, [None; 3]);
        state.apply(&Command::SuspendSession { node: 1, epoch: 1, era: 0, term: 0 });
        assert_eq!(View::at(now, 1, Some(ahead), &state, &mut none).duties, [None; 3]);
        state.apply(&Command::ResumeSession { node: 1, epoch: 1, era: 1 });
        assert_eq!(View::at(now, 1, Some(old), &state, &mut none).duties, [None; 3]);
        assert!(View::at(now, 1, Some(ahead), &state, &mut none).duties.iter().all(Option::is_some));
        let session_only = Renewed::next(Some(ahead), 1, None, now + LIMITS.lease, LIMITS);
        assert_eq!(session_only.lease, ahead.lease, "what counted for the session only moves no lease");
        assert!(session_only.session_until > ahead.session_until);
    }
}
