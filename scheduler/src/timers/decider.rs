//! Which slots are due: pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use model::timer::Schedule;
use model::{Id, Timestamp};

use crate::settings::Misfire;

/// Missed slots are counted up to this.
const COUNT_LIMIT: u64 = 100_000;

/// When late slots fire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub misfire: Misfire,
    pub window: Duration,
    pub grace: Duration,
}

/// A slot to fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tick {
    pub trigger: Id,
    pub reference: Arc<str>,
    /// Trace tag of its instance.
    pub trace_tag: Arc<str>,
    pub at: Timestamp,
}

/// Slots of one timer that don't fire by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missed {
    pub reference: Arc<str>,
    pub count: u64,
    /// Whether one tick fires for them.
    pub coalesced: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    pub ticks: Vec<Tick>,
    pub missed: Vec<Missed>,
}

/// A timer as the store describes it.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub trigger: Id,
    pub reference: Arc<str>,
    pub trace_tag: Arc<str>,
    pub created_at: Timestamp,
    pub schedule: Schedule,
}

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A timer is there, as new or changed.
    Put(Definition),
    Removed(Id),
    /// Time went on. At most about this many ticks are given; call again while [`Decider::next`] is due.
    Clock {
        limit: usize,
    },
}

#[derive(Debug)]
struct Timer {
    definition: Definition,
    /// Slots up to here are decided.
    cursor: Timestamp,
    next: Option<Timestamp>,
}

/// All timers. `floor` is how far an earlier holder is known to have fired.
#[derive(Debug)]
pub(super) struct Decider {
    policy: Policy,
    floor: Timestamp,
    timers: HashMap<Id, Timer>,
    due: BTreeSet<(Timestamp, Id)>,
    /// The latest time seen: the clock may go back, what was decided doesn't.
    latest: Timestamp,
}

impl Decider {
    pub(super) fn new(policy: Policy, floor: Timestamp) -> Self {
        Self { policy, floor, timers: HashMap::new(), due: BTreeSet::new(), latest: floor }
    }

    pub(super) fn step(&mut self, event: Event, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        match event {
            Event::Put(definition) => self.put(definition, now),
            Event::Removed(id) => self.remove(id),
            Event::Clock { limit } => {
                while effects.ticks.len() < limit
                    && let Some((at, id)) = self.due.first().copied()
                    && at <= now
                {
                    self.due.pop_first();
                    self.fire(id, at, now, &mut effects);
                }
                if self.next().is_none_or(|next| next > now) {
                    self.latest = self.latest.max(now);
                }
            }
        }
        effects
    }

    /// When the next slot is.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn ids(&self) -> Vec<Id> {
        self.timers.keys().copied().collect()
    }

    /// Every slot up to here was given out.
    pub(super) fn decided(&self) -> Timestamp {
        let open = self.next().map(|next| next.minus(Duration::from_micros(1)));
        open.map_or(self.latest, |open| open.min(self.latest)).max(self.floor)
    }

    fn put(&mut self, definition: Definition, now: Timestamp) {
        let id = definition.trigger;
        let cursor = match self.timers.get(&id) {
            // The same again: its phase and progress stay.
            Some(known) if known.definition.schedule == definition.schedule => return,
            Some(known) => known.cursor.max(now),
            // New to this holder: nothing before its creation, nothing that an earlier holder fired.
            None => definition.created_at.max(self.floor),
        };
        self.remove(id);
        let next = definition.schedule.next_after(cursor);
        self.due.extend(next.map(|next| (next, id)));
        self.timers.insert(id, Timer { definition, cursor, next });
    }

    fn remove(&mut self, id: Id) {
        if let Some(timer) = self.timers.remove(&id)
            && let Some(next) = timer.next
        {
            self.due.remove(&(next, id));
        }
    }

    /// Decides about the slot `at`, or about a run of late slots that begins with it.
    fn fire(&mut self, id: Id, at: Timestamp, now: Timestamp, effects: &mut Effects) {
        let policy = self.policy;
        let Some(timer) = self.timers.get_mut(&id) else { return };
        let late_until = now.minus(policy.grace);
        let window_start = now.minus(policy.window.max(policy.grace));
        let too_old = at <= window_start;
        let is_date = matches!(timer.definition.schedule, Schedule::Date(_));
        match policy.misfire {
            _ if at > late_until => timer.tick(at, effects),
            _ if is_date && (too_old || policy.misfire == Misfire::Skip) => timer.leave_out(at, false, effects),
            Misfire::Skip => timer.leave_out(late_until, false, effects),
            Misfire::FireOnce => timer.leave_out(late_until, true, effects),
            Misfire::FireAll if too_old => timer.leave_out(window_start, true, effects),
            Misfire::FireAll => timer.tick(at, effects),
        }
        timer.next = timer.definition.schedule.next_after(timer.cursor);
        self.due.extend(timer.next.map(|next| (next, id)));
    }
}

impl Timer {
    fn tick(&mut self, at: Timestamp, effects: &mut Effects) {
        let Definition { trigger, reference, trace_tag, .. } = &self.definition;
        effects.ticks.push(Tick { trigger: *trigger, reference: reference.clone(), trace_tag: trace_tag.clone(), at });
        self.cursor = at;
    }

    /// Passes over the slots up to `until`; the latest of them may fire for all.
    fn leave_out(&mut self, until: Timestamp, coalesce: bool, effects: &mut Effects) {
        let schedule = &self.definition.schedule;
        let count = schedule.count_between(self.cursor, until, COUNT_LIMIT);
        let latest = coalesce.then(|| schedule.latest_between(self.cursor, until)).flatten();
        let missed = count - u64::from(latest.is_some());
        if missed > 0 {
            let reference = self.definition.reference.clone();
            effects.missed.push(Missed { reference, count: missed, coalesced: latest.is_some() });
        }
        if let Some(latest) = latest {
            self.tick(latest, effects);
        }
        self.cursor = until;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn seconds(n: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + n * 1_000_000)
    }

    fn decider(misfire: Misfire, floor: Timestamp) -> Decider {
        Decider::new(Policy { misfire, window: WINDOW, grace: Duration::from_secs(1) }, floor)
    }

    fn interval(n: u8, created: i64, every: u64) -> Definition {
        let created_at = seconds(created);
        Definition {
            trigger: Id::derive("test", created_at, &[&n.to_string()]),
            reference: format!("core.{n}").into(),
            trace_tag: "t".into(),
            created_at,
            schedule: Schedule::Interval { anchor: created_at, every: Duration::from_secs(every) },
        }
    }

    fn ticks(effects: &Effects) -> Vec<i64> {
        effects.ticks.iter().map(|tick| (tick.at.micros() - seconds(0).micros()) / 1_000_000).collect()
    }

    fn clock(decider: &mut Decider, at: i64) -> Effects {
        decider.step(Event::Clock { limit: 1_000 }, seconds(at))
    }

    #[test]
    fn late_slots_by_policy() {
        for (misfire, fired, missed) in [
            (Misfire::Skip, vec![100], 9),
            (Misfire::FireOnce, vec![90, 100], 8),
            // 10 – 30 are older than the window (≤ 40): the latest of them stands for all.
            (Misfire::FireAll, vec![40, 50, 60, 70, 80, 90, 100], 3),
        ] {
            let mut timers = decider(misfire, seconds(0));
            timers.step(Event::Put(interval(1, 0, 10)), seconds(0));
            let effects = clock(&mut timers, 100);
            assert_eq!(ticks(&effects), fired, "{misfire:?}");
            assert_eq!(effects.missed.iter().map(|missed| missed.count).sum::<u64>(), missed, "{misfire:?}");
            assert_eq!(ticks(&clock(&mut timers, 110)), [110]);
        }
    }

    #[test]
    fn dates_fire_once_and_only_within_the_window() {
        for (noticed, fired) in [(10, true), (60, true), (75, false)] {
            let mut timers = decider(Misfire::FireAll, seconds(0));
            let definition = Definition { schedule: Schedule::Date(seconds(10)), ..interval(1, 0, 1) };
            timers.step(Event::Put(definition), seconds(0));
            let effects = clock(&mut timers, noticed);
            assert_eq!(effects.ticks.len(), usize::from(fired), "{noticed}");
            assert_eq!(effects.missed.len(), usize::from(!fired), "{noticed}");
            assert_eq!(clock(&mut timers, noticed + 100), Effects::default());
        }
    }

    #[test]
    fn the_clock_going_back_repeats_nothing() {
        let mut timers = decider(Misfire::FireAll, seconds(0));
        timers.step(Event::Put(interval(1, 0, 10)), seconds(0));
        assert_eq!(ticks(&clock(&mut timers, 25)), [10, 20]);
        assert_eq!(ticks(&clock(&mut timers, 5)), [] as [i64; 0]);
        assert_eq!(timers.decided(), seconds(25));
        assert_eq!(ticks(&clock(&mut timers, 31)), [30]);
    }

    #[test]
    fn an_equal_definition_keeps_the_phase_and_a_new_one_starts_now() {
        let mut timers = decider(Misfire::FireAll, seconds(0));
        timers.step(Event::Put(interval(1, 0, 10)), seconds(0));
        timers.step(Event::Put(interval(1, 0, 10)), seconds(8));
        assert_eq!(ticks(&clock(&mut timers, 10)), [10]);
        timers.step(Event::Put(Definition { schedule: Schedule::Date(seconds(15)), ..interval(1, 0, 1) }), seconds(12));
        assert_eq!(ticks(&clock(&mut timers, 21)), [15]);
        timers.step(Event::Removed(interval(1, 0, 10).trigger), seconds(22));
        assert_eq!(timers.next(), None);
    }

    #[derive(Debug, Clone)]
    enum Happening {
        Advance(u8),
        Back(u8),
        Put(u8),
        Remove(u8),
        /// Crash: ticks given since the durable cursor was taken may be lost; another holder goes on after a while.
        Crash {
            lost: bool,
            pause: u8,
        },
        Save,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            6 => (1u8..30).prop_map(Happening::Advance),
            1 => (1u8..40).prop_map(Happening::Back),
            2 => (0u8..4).prop_map(Happening::Put),
            1 => (0u8..4).prop_map(Happening::Remove),
            1 => (any::<bool>(), 0u8..20).prop_map(|(lost, pause)| Happening::Crash { lost, pause }),
            2 => Just(Happening::Save),
        ]
    }

    proptest! {
        /// C1: whatever happens, each slot of a timer's life is fired once by its id, and none is left out while the
        /// time without a holder is within the window.
        #[test]
        fn every_slot_once(happenings in prop::collection::vec(happening(), 1..60)) {
            let mut now = 0i64;
            let mut timers = decider(Misfire::FireAll, seconds(0));
            let mut cursor = timers.decided();
            let mut store: BTreeSet<(Id, Timestamp)> = BTreeSet::new();
            let mut unsaved: Vec<(Id, Timestamp)> = Vec::new();
            let mut alive: HashMap<u8, Definition> = HashMap::new();
            let mut expected: BTreeSet<(Id, Timestamp)> = BTreeSet::new();
            let mut forgotten: BTreeSet<Id> = BTreeSet::new();
            let mut high = 0i64;
            // At the end the clock is where it was at its latest: what a crash lost is due again.
            for happening in happenings.into_iter().chain([Happening::Advance(0)]) {
                match happening {
                    Happening::Advance(0) => now = high + 1,
                    Happening::Advance(by) => now += i64::from(by),
                    Happening::Back(by) => now = (now - i64::from(by)).max(0),
                    Happening::Put(n) => {
                        // A timer made while the clock is set back starts then.
                        let fresh = || interval(n, high.max(now), u64::from(n) * 3 + 2);
                        let definition = alive.entry(n).or_insert_with(fresh);
                        timers.step(Event::Put(definition.clone()), seconds(now));
                    }
                    Happening::Remove(n) => {
                        if let Some(definition) = alive.remove(&n) {
                            forgotten.insert(definition.trigger);
                            timers.step(Event::Removed(definition.trigger), seconds(now));
                        }
                    }
                    Happening::Crash { lost, pause } => {
                        if lost {
                            for tick in &unsaved {
                                store.remove(tick);
                            }
                        }
                        unsaved.clear();
                        now += i64::from(pause);
                        timers = decider(Misfire::FireAll, cursor);
                        for definition in alive.values() {
                            timers.step(Event::Put(definition.clone()), seconds(now));
                        }
                    }
                    Happening::Save => {
                        cursor = timers.decided();
                        unsaved.clear();
                    }
                }
                let before: BTreeSet<(Id, Timestamp)> = store.clone();
                loop {
                    let effects = timers.step(Event::Clock { limit: 3 }, seconds(now));
                    for tick in &effects.ticks {
                        prop_assert!(tick.at <= seconds(now), "before its time");
                        store.insert((tick.trigger, tick.at));
                        if !before.contains(&(tick.trigger, tick.at)) {
                            unsaved.push((tick.trigger, tick.at));
                        }
                    }
                    prop_assert!(effects.missed.is_empty(), "{:?}", effects.missed);
                    if timers.next().is_none_or(|next| next > seconds(now)) {
                        break;
                    }
                }
                high = high.max(now);
                // Ticks take the cursor with them every few seconds.
                if seconds(high).since(cursor) > Duration::from_secs(15) {
                    cursor = timers.decided();
                    unsaved.clear();
                }
                for definition in alive.values() {
                    let mut at = definition.created_at;
                    while let Some(next) = definition.schedule.next_after(at).filter(|next| *next <= seconds(high)) {
                        expected.insert((definition.trigger, next));
                        at = next;
                    }
                }
            }
            // Ticks that a crash lost of a timer that was removed afterwards are nobody's.
            expected.retain(|(id, _)| !forgotten.contains(id));
            store.retain(|(id, _)| !forgotten.contains(id));
            prop_assert_eq!(store, expected);
        }
    }
}
