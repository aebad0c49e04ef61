//! Which rights this node may use until when.

use std::sync::Arc;
use std::time::Instant;

use model::{Duty, Lease, Session};

use super::{Inner, sleep_until, slot};
use crate::state::{NodeId, State};

/// The last accepted renewal of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    pub epoch: u64,
    /// When it was *sent*, plus lease, minus margin.
    pub valid_until: Instant,
}

/// What callers may rely on at a moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct View {
    pub session: Option<Session>,
    pub duties: [Option<Lease>; Duty::ALL.len()],
}

impl View {
    /// Pure. A duty needs all three: the state says so, the session was renewed in time, nobody asked for it back.
    pub fn at(now: Instant, me: NodeId, renewed: Option<Renewed>, state: &State) -> Self {
        let Some(renewed) = renewed.filter(|renewed| now < renewed.valid_until) else { return Self::default() };
        let Some(session) = state.sessions.get(&me).filter(|session| session.epoch == renewed.epoch) else {
            return Self::default();
        };
        let mut view =
            Self { session: Some(Session { node: session.name.clone(), epoch: session.epoch }), ..Self::default() };
        for duty in Duty::ALL {
            let Some(held) = state.duties.get(&duty) else { continue };
            let mine = held.holder.is_some_and(|holder| holder.node == me && holder.session == renewed.epoch);
            if mine && held.wanted_by.is_none() {
                view.duties[slot(duty)] = Some(Lease { epoch: held.epoch, valid_until: renewed.valid_until });
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
    let mut changed = inner.changed.subscribe();
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
        let next = view.session.as_ref().and(renewed).map(|renewed| renewed.valid_until);
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
    use std::time::Duration;

    use super::*;
    use crate::state::Command;

    fn join(state: &mut State, node: NodeId) {
        state.apply(&Command::RegisterSession {
            node,
            name: format!("n{node}"),
            roles: BTreeSet::new(),
            duties: Duty::ALL.into_iter().collect(),
            ttl_ms: 5_000,
        });
    }

    #[test]
    fn rights_end_with_the_renewal_the_session_or_a_hand_over() {
        let now = Instant::now();
        let valid_until = now + Duration::from_secs(4);
        let renewed = Some(Renewed { epoch: 1, valid_until });
        let mut state = State::default();
        assert_eq!(View::at(now, 1, renewed, &state), View::default());

        join(&mut state, 1);
        let view = View::at(now, 1, renewed, &state);
        assert_eq!(view.session, Some(Session { node: "n1".into(), epoch: 1 }));
        assert_eq!(view.duties, [Some(Lease { epoch: 1, valid_until }); 3]);
        assert_eq!(View::at(valid_until, 1, renewed, &state), View::default(), "not renewed in time");
        assert_eq!(View::at(now, 2, renewed, &state), View::default(), "somebody else's");

        join(&mut state, 2);
        let view = View::at(now, 1, renewed, &state);
        assert_eq!(view.duties.iter().flatten().count(), 2, "one is wanted by the node that joined");

        join(&mut state, 1);
        assert_eq!(View::at(now, 1, renewed, &state), View::default(), "a newer session took its place");
    }
}
