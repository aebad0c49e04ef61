//! How many jobs one consumer may have in hand, and how many of them the broker may send: pure counting.
//!
//! A consumer has as many slots as it was asked to prefetch. Jobs of its own process and jobs from the broker share
//! them. The broker may send as many as its *window* says; a window as wide as the slots is what a consumer begins
//! with. Local jobs may then fill slots while messages are under way, so that messages lie here without a slot though
//! another node might have one. When that lasts, the messages are given back and the window is narrowed to what is
//! free; it is widened again as slots come free, each time to at least twice the room, so that this is rare.

/// Counters of one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    limit: usize,
    /// Local jobs beyond this go through the broker, which gives them to whoever has room: other nodes too.
    local_limit: usize,
    /// Local jobs in hand.
    local: usize,
    /// The broker's jobs in hand.
    remote: usize,
    /// Messages that came and wait for a slot.
    buffered: usize,
    /// What the broker may send now, and what of it is out: in hand or buffered.
    window: usize,
    out: usize,
    /// Windows are told apart by number: what was sent in an earlier one doesn't count in this.
    number: u64,
}

impl Slots {
    pub fn new(limit: usize, local_limit: usize) -> Self {
        let limit = limit.max(1);
        Self {
            limit,
            local_limit: local_limit.clamp(1, limit),
            local: 0,
            remote: 0,
            buffered: 0,
            window: 0,
            out: 0,
            number: 0,
        }
    }

    pub const fn limit(&self) -> usize {
        self.limit
    }

    pub const fn free(&self) -> usize {
        self.limit.saturating_sub(self.local + self.remote)
    }

    /// Local jobs that find a slot now, without taking one that was promised to the broker.
    pub fn room(&self) -> usize {
        let promised = match self.window == self.limit {
            true => self.buffered,
            false => self.window.saturating_sub(self.out) + self.buffered,
        };
        self.free().saturating_sub(promised).min(self.local_limit.saturating_sub(self.local))
    }

    pub fn take_local(&mut self) {
        self.local += 1;
    }

    pub fn settle_local(&mut self) {
        self.local = self.local.saturating_sub(1);
    }

    /// A message came in the current window; returns the window's number.
    pub fn buffer(&mut self) -> u64 {
        self.buffered += 1;
        self.out += 1;
        self.number
    }

    /// A message found a slot.
    pub fn take_remote(&mut self) {
        self.buffered = self.buffered.saturating_sub(1);
        self.remote += 1;
    }

    pub fn settle_remote(&mut self, number: u64) {
        self.remote = self.remote.saturating_sub(1);
        if number == self.number {
            self.out = self.out.saturating_sub(1);
        }
    }

    /// The broker was told that the job is done, which is still in hand.
    pub fn accept_remote(&mut self, number: u64) {
        if number == self.number {
            self.out = self.out.saturating_sub(1);
        }
    }

    /// A job in hand is over that the broker was told of before.
    pub fn leave_remote(&mut self) {
        self.remote = self.remote.saturating_sub(1);
    }

    /// A job in hand waits again, still unacknowledged.
    pub fn rebuffer(&mut self) {
        self.remote = self.remote.saturating_sub(1);
        self.buffered += 1;
    }

    /// Messages without a slot were given back or died with their channel; those in hand are no longer of this window.
    pub fn open_window(&mut self, window: usize) {
        self.buffered = 0;
        self.out = 0;
        self.number += 1;
        self.window = window.min(self.limit);
    }

    /// Messages wait though no slot is free.
    pub const fn is_stalled(&self) -> bool {
        self.buffered > 0 && self.free() == 0
    }

    /// A window is open and nothing of it is out.
    pub const fn is_idle(&self) -> bool {
        self.window > 0 && self.out == 0
    }

    /// The window to open instead of the current one, if that is worth it. `stalled`: for too long already.
    pub fn better_window(&self, stalled: bool) -> Option<usize> {
        if stalled && self.is_stalled() {
            return Some(0);
        }
        let left = self.window.saturating_sub(self.out);
        let room = self.free().saturating_sub(self.buffered);
        let worth = self.window < self.limit && room > left && (room == self.limit || room >= 2 * left);
        // What is buffered would be given back for nothing.
        (worth && self.buffered == 0).then_some(room)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn local_jobs_fill_slots_until_messages_stall() {
        let mut slots = Slots::new(4, 4);
        slots.open_window(4);
        assert_eq!(slots.room(), 4);
        for _ in 0..3 {
            slots.take_local();
        }
        let first = slots.buffer();
        assert_eq!(slots.room(), 0);
        slots.take_remote();
        let _ = slots.buffer();
        assert!(slots.is_stalled());
        assert_eq!(slots.better_window(false), None);
        assert_eq!(slots.better_window(true), Some(0));
        slots.open_window(0);
        assert_eq!(slots.better_window(true), None);
        // Of an earlier window, so it makes room here.
        slots.settle_remote(first);
        assert_eq!(slots.better_window(false), Some(1));
        slots.open_window(1);
        // Promised.
        assert_eq!(slots.room(), 0);
        for _ in 0..3 {
            slots.settle_local();
        }
        assert_eq!(slots.better_window(false), Some(4));
    }

    proptest! {
        /// Whatever happens: no more than the limit in hand, counters are never lost, and once all is settled the
        /// whole window is open again.
        #[test]
        fn counters_hold(limit in 1_usize..9, share in 1_usize..9, steps in prop::collection::vec(0_u8..7, 0..300)) {
            let mut slots = Slots::new(limit, share);
            slots.open_window(limit);
            let (mut local, mut remote, mut buffered, mut sent) = (0_usize, Vec::new(), Vec::new(), 0_usize);
            let mut window = limit;
            for step in steps {
                match step {
                    0 if slots.room() > 0 => { slots.take_local(); local += 1; }
                    1 if local > 0 => { slots.settle_local(); local -= 1; }
                    2 if sent < window => { buffered.push(slots.buffer()); sent += 1; }
                    3 if !buffered.is_empty() && local + remote.len() < limit => {
                        slots.take_remote();
                        remote.push(buffered.remove(0));
                    }
                    4 if !remote.is_empty() => {
                        let number = remote.remove(0);
                        if number == slots.number { sent -= 1; }
                        slots.settle_remote(number);
                    }
                    5 | 6 => if let Some(better) = slots.better_window(step == 6) {
                        slots.open_window(better);
                        buffered.clear();
                        (window, sent) = (better, 0);
                    },
                    _ => {}
                }
                prop_assert!(local + remote.len() <= limit && local <= share);
                prop_assert_eq!(slots.free(), limit - local - remote.len());
                if window < limit {
                    prop_assert!(window - sent + buffered.len() <= slots.free(), "a message would find no slot");
                }
            }
            for number in remote { slots.settle_remote(number); }
            for _ in 0..local { slots.settle_local(); }
            while !buffered.is_empty() {
                slots.take_remote();
                slots.settle_remote(buffered.remove(0));
            }
            if let Some(better) = slots.better_window(false) { slots.open_window(better); }
            prop_assert_eq!(slots.window, limit);
            prop_assert_eq!(slots.room(), limit.min(share));
        }
    }
}
