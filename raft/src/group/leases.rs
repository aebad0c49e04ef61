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
    pub fn at(now: Instant, me: NodeId, renewed: Option<Renewed>, state: &State) -> Self {
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
            if held.holder == mine && held.wanted_by.is_none() {
                view.duties[slot(duty)] = Some(Lease { epoch: held.epoch, valid_until });
            }
        }
        for (sensor, held) in &state.sensors {
            if held.holder == mine && !held.moves && !held.unwanted {
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
        self.renewed.send_replace(None);
        self.show(View::default());
    }
}

/// Keeps the published leases true.
pub async fn publish(inner: Arc<Inner>) {
    let mut changed = inner.told.changed.subscribe();
    let mut renewals = inner.renewed.subscribe();
    loop {
        changed.borrow_and_update();
        let renewed = *renewals.borrow_and_update();
        let core = inner.core.read().clone();
        let view = match &core {
            Some(core) if !inner.cancel.is_cancelled() => {
                let me = inner.identity.node_id;
                core.reader.with(|applied| View::at(Instant::now(), me, renewed, &applied.state))
            }
            _ => View::default(),
        };
        drop(core);
        let next = view.session.as_ref().and(renewed).and_then(|renewed| renewed.next_end(Instant::now()));
        inner.show(view);
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
        });
    }

    #[test]
    fn rights_end_with_the_renewal_the_session_or_a_hand_over() {
        let now = Instant::now();
        let valid_until = now + LIMITS.lease;
        let renewed = Some(Renewed::next(None, 1, Some(0), now, LIMITS));
        let mut state = State::default();
        assert_eq!(View::at(now, 1, renewed, &state), View::default());

        join(&mut state, 1);
        state.apply(&Command::WantSensors { refs: BTreeSet::from(["p.s".to_owned(), "p.t".to_owned()]) });
        let session = Some(Session { node: "n1".into(), epoch: 1 });
        let view = View::at(now, 1, renewed, &state);
        assert_eq!(view.session, session);
        assert_eq!(view.duties, [Some(Lease { epoch: 1, valid_until }); 3]);
        assert_eq!(view.sensors.len(), 2);
        let only_session = View { session, ..View::default() };
        assert_eq!(View::at(valid_until, 1, renewed, &state), only_session, "the lease is over, the session isn't");
        assert_eq!(View::at(now + LIMITS.session, 1, renewed, &state), View::default(), "not renewed in time");
        assert_eq!(View::at(now, 2, renewed, &state), View::default(), "somebody else's");

        join(&mut state, 2);
        let view = View::at(now, 1, renewed, &state);
        assert_eq!(view.duties.iter().flatten().count(), 2, "one is wanted by the node that joined");
        assert_eq!(view.sensors.len(), 1, "a sensor is to move");

        join(&mut state, 1);
        assert_eq!(View::at(now, 1, renewed, &state), View::default(), "a newer session took its place");
    }

    #[test]
    fn a_lease_counts_in_its_era_only() {
        let now = Instant::now();
        let mut state = State::default();
        join(&mut state, 1);
        let old = Renewed::next(None, 1, Some(0), now, LIMITS);
        // A renewal in the next era came before this node has heard of the suspension in between.
        let ahead = Renewed::next(Some(old), 1, Some(1), now, LIMITS);
        assert_eq!(View::at(now, 1, Some(ahead), &state).duties, [None; 3]);
        state.apply(&Command::SuspendSession { node: 1, epoch: 1, era: 0 });
        assert_eq!(View::at(now, 1, Some(ahead), &state).duties, [None; 3]);
        state.apply(&Command::ResumeSession { node: 1, epoch: 1, era: 1 });
        assert_eq!(View::at(now, 1, Some(old), &state).duties, [None; 3]);
        assert!(View::at(now, 1, Some(ahead), &state).duties.iter().all(Option::is_some));
        let session_only = Renewed::next(Some(ahead), 1, None, now + LIMITS.lease, LIMITS);
        assert_eq!(session_only.lease, ahead.lease, "what counted for the session only moves no lease");
        assert!(session_only.session_until > ahead.session_until);
    }
}
