//! One quota: an exact bound over any sliding minute, and an even pace inside it.
//!
//! The bound is a ring of 512 buckets (117 ms of a minute) that remembers what was
//! counted when. Invariant: `used() <= limit` after every admitted cost, where `used` is
//! everything counted in the last `length + jitter`, rounded up to a bucket, plus what is
//! held for running calls. So an upstream that counts an exact sliding window of that
//! length, mostly a minute, never sees more, as long as calls use no more than they
//! reserved. Where they may, the caller says what they may add, and a sum that is forecast
//! holds as far as the forecast does.
//!
//! The pace is only for smoothness, and so may be approximate: credit grows at the
//! highest even rate that will not run into the bound within the next minute. After a
//! burst that rate is `(limit - burst) / 60 s`; once the burst has left the window it
//! is `limit / 60 s`, so a burst is paid back without a stall and without a loss.
//! Deliberately absent: clocks; `now` is nanoseconds since the owner's origin.

mod room;

use crate::flight::Due;
pub(crate) use room::{Beside, Room};

/// The window that upstreams count, in nanoseconds.
pub(crate) const MINUTE: u64 = 60_000_000_000;

const BUCKETS: u64 = 512;
#[cfg(test)]
const WIDTH: u64 = MINUTE / BUCKETS;
/// A computed pace is used for this part of the window.
const PACES: u64 = 256;
/// The pace aims this much above the even rate, so that rounding never leaves quota
/// unused; the bound holds back what is too much.
const PACE_LEAD: f64 = 1.01;

/// Standard deviations that a forecast of calls in flight leaves free for what ends before
/// the next decisions are felt, and for what ends later: as time passes, what was later
/// comes near, and there is time to send less.
const NEAR: f64 = 3.6;
const FAR: f64 = 2.5;
/// The share of the limit kept for what ends while a call is on its way.
const ON_THE_WAY: f64 = 0.01;
/// The share of the limit that a pause may leave to be caught up at once, while calls in
/// flight fill the window: more would come back as a burst and a pause every minute.
const CATCH_UP: f64 = 0.03;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Window {
    limit: u64,
    burst: f64,
    length: u64,
    /// Of one bucket.
    width: u64,
    jitter: u64,
    /// Counted amounts by bucket number modulo the ring's length.
    ring: Vec<u64>,
    /// The number of the oldest bucket that still counts.
    oldest: u64,
    counted: u64,
    held: u64,
    /// What calls in flight may add to what is counted of them, or take from it.
    beside: Beside,
    credit: f64,
    /// Per nanosecond.
    pace: f64,
    paced: u64,
    pace_until: u64,
}

impl Window {
    /// An unused quota of `limit` a minute, of which the share `burst` may go at once.
    pub(crate) fn new(limit: u64, burst: f64, jitter: u64, now: u64) -> Self {
        Self::of_length(MINUTE, limit, burst, jitter, now)
    }

    /// The same over a window of `length` nanoseconds instead of a minute.
    pub(crate) fn of_length(length: u64, limit: u64, burst: f64, jitter: u64, now: u64) -> Self {
        let width = (length / BUCKETS).max(1);
        let live = (length + jitter).div_ceil(width) + 2;
        let mut window = Self {
            limit,
            burst: burst.clamp(0.0, 1.0),
            length,
            width,
            jitter,
            ring: vec![0; live as usize],
            oldest: now / width,
            counted: 0,
            held: 0,
            beside: Beside::default(),
            credit: 0.0,
            pace: 0.0,
            paced: now,
            pace_until: 0,
        };
        window.credit = window.credit_limit();
        window
    }

    /// The sustained rate in amounts a nanosecond.
    pub(crate) fn rate(&self) -> f64 {
        self.limit as f64 / (self.length + self.jitter) as f64
    }

    /// What may go at once, as last paced.
    pub(crate) fn credit(&self) -> f64 {
        self.credit
            .min(self.limit as f64 - (self.counted + self.held) as f64)
    }

    /// Changes the limit; what was counted stays counted.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        if limit != self.limit {
            self.limit = limit;
            self.pace_until = 0;
        }
    }

    /// What counts against the limit now.
    pub(crate) fn used(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.counted.saturating_add(self.held)
    }

    /// Whether `cost` fits now and `later` fits when it and the calls in flight end, where
    /// `due` is what those still add.
    ///
    /// While they end, what was counted earlier leaves the window; so the sum is forecast
    /// at several moments of that time instead of adding all that is due to what counts now.
    pub(crate) fn room_ahead(&mut self, cost: u64, later: u64, due: Due, now: u64) -> Room {
        self.advance(now);
        // What counts at once can be refused by what ends while it is on its way.
        let spare = if cost > 0 { ON_THE_WAY } else { 0.0 };
        let limit = self.limit as f64 * (1.0 - spare);
        let mut fits = self.counted.saturating_add(cost) < self.limit;
        let over = due.over.min(self.length);
        let blind = (self.jitter / 5 * 8).min(over);
        let mut headroom = 0.0;
        for (ahead, deviations) in [(blind, NEAR), (over / 2, FAR), (over, FAR)] {
            let deviations = if due.over == 0 { NEAR } else { deviations };
            let share = due.share(ahead as f64);
            let left = (self.counted - self.leaving(now + ahead)) as f64;
            let most = left + due.most(share, deviations);
            fits &= most + cost as f64 + later as f64 * share <= limit;
            headroom = limit - most;
        }
        self.pace_at(self.lasting_rate(headroom, over, now), now);
        self.credit = self.credit.min(headroom.max(limit * CATCH_UP));
        if !fits && (self.counted > 0 || due.tokens > 0.0) {
            return if self.counted > 0 {
                Room::At(
                    self.expiry(self.oldest)
                        .clamp(now + 1_000, now + self.pace_valid()),
                )
            } else {
                Room::Settlement
            };
        }
        self.paced_room(now)
    }

    /// The rate at which `headroom` lasts until what was counted first leaves the window,
    /// `over` nanoseconds before which a call has to start to end then. After that the even
    /// rate: spending what leaves as it leaves would repeat each burst every minute.
    fn lasting_rate(&self, headroom: f64, over: u64, now: u64) -> f64 {
        let even = self.limit as f64 / self.length as f64;
        let most = even * PACE_LEAD;
        let quiet = self.expiry(self.oldest).saturating_sub(now + over) as f64;
        if self.counted == 0 || quiet < self.length as f64 / 60.0 {
            return most;
        }
        (headroom / quiet).clamp(even / 2.0, most)
    }

    /// What stops counting by `then`.
    fn leaving(&self, then: u64) -> u64 {
        let buckets = self.oldest..self.oldest + self.ring.len() as u64;
        let leaving = buckets.take_while(|number| self.expiry(*number) <= then);
        let sum: u64 = leaving.map(|number| self.ring[self.slot(number)]).sum();
        sum.min(self.counted)
    }

    /// Whether `cost` fits. A cost above a limit that shrank fits an empty window.
    pub(crate) fn room(&mut self, cost: u64, now: u64) -> Room {
        self.room_beside(cost, Beside::default(), now)
    }

    /// Whether `cost` fits beside what calls in flight may come to count for.
    pub(crate) fn room_beside(&mut self, cost: u64, beside: Beside, now: u64) -> Room {
        self.beside = beside;
        let used = self.used(now);
        let bound = used.saturating_add_signed(beside.most);
        if used > 0 && bound.saturating_add(cost) > self.limit {
            return self.room_later(cost, now);
        }
        if beside == Beside::default() {
            self.pace(now);
        } else {
            // What leaves varies as much as what comes; smoothing one by the other would
            // only lose what lies between.
            let headroom = self.limit as f64 - bound as f64;
            self.pace_at(self.lasting_rate(headroom, 0, now), now);
            let most = self.limit as f64 * CATCH_UP;
            self.credit = self.credit.min(headroom.max(most));
        }
        if used == 0 {
            return Room::Now;
        }
        self.paced_room(now)
    }

    fn paced_room(&self, now: u64) -> Room {
        if self.credit >= 0.0 {
            return Room::Now;
        }
        let wait = (-self.credit / self.pace).min(self.pace_valid() as f64);
        Room::At(now + (wait as u64).max(1_000))
    }

    fn room_later(&self, cost: u64, now: u64) -> Room {
        let mut used = self.counted + self.held;
        let beside = self.beside.most;
        let bound = |used: u64| used.saturating_add_signed(beside).saturating_add(cost);
        for number in self.oldest..self.oldest + self.ring.len() as u64 {
            used -= self.ring[self.slot(number)];
            if used == 0 || bound(used) <= self.limit {
                let then = self.expiry(number);
                // A forecast changes as time passes.
                return Room::At(match beside {
                    0 => then,
                    _ => then.clamp(now + 1_000, now + self.pace_valid()),
                });
            }
        }
        Room::Settlement
    }

    /// Counts `amount` now and takes it from the pace.
    pub(crate) fn count(&mut self, amount: u64, now: u64) {
        self.pace(now);
        self.credit -= amount as f64;
        self.count_silently(amount, now);
    }

    /// Counts `amount` at `then`, at most a window ago, without slowing the pace.
    pub(crate) fn count_silently(&mut self, amount: u64, then: u64) {
        self.advance(then);
        let slot = self.slot((then / self.width).max(self.oldest));
        self.ring[slot] += amount;
        self.counted += amount;
    }

    /// Counts what the upstream counted when a call ended, without slowing the pace.
    ///
    /// It is heard of later than it was counted, never earlier, so it leaves the upstream's
    /// window in time without the jitter; half of it stays as a margin for the forecast.
    pub(crate) fn count_ended(&mut self, amount: u64, now: u64) {
        self.advance(now);
        self.count_silently(amount, now.saturating_sub(self.jitter / 2));
    }

    /// Counts what was spent at `then` and is known only now, and ends any burst.
    pub(crate) fn count_late(&mut self, amount: u64, then: u64, now: u64) {
        self.advance(now);
        let ring = self.ring.len() as u64;
        let number = (then / self.width).max((now / self.width + 1).saturating_sub(ring));
        if self.expiry(number) <= now {
            return;
        }
        // All buckets outside of `oldest..=now` are empty, so it may go back.
        self.oldest = self.oldest.min(number);
        let slot = self.slot(number);
        self.ring[slot] += amount;
        self.counted += amount;
        self.credit = self.credit.min(0.0);
        self.pace_until = 0;
    }

    /// What is held.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// What counts, with the time at which it was counted at the latest.
    pub(crate) fn counted(&mut self, now: u64) -> impl Iterator<Item = (u64, u64)> {
        self.advance(now);
        let last = self.oldest + self.ring.len() as u64;
        (self.oldest..last)
            .map(|number| ((number + 1) * self.width, self.ring[self.slot(number)]))
            .filter(|(_, amount)| *amount > 0)
    }

    /// Takes `amount` from the pace alone.
    pub(crate) fn spend(&mut self, amount: u64) {
        self.credit -= amount as f64;
    }

    /// Keeps `amount` reserved until it is released, and takes it from the pace.
    pub(crate) fn hold(&mut self, amount: u64, now: u64) {
        self.pace(now);
        self.credit -= amount as f64;
        self.held += amount;
    }

    /// Ends a hold.
    pub(crate) fn release(&mut self, amount: u64) {
        self.held = self.held.saturating_sub(amount);
    }

    /// Corrects what was counted at `then` from `old` to `new`, where it still counts.
    pub(crate) fn correct(&mut self, then: u64, old: u64, new: u64, now: u64) {
        self.advance(now);
        self.credit += old as f64 - new as f64;
        let number = then / self.width;
        if number < self.oldest {
            return;
        }
        let slot = self.slot(number);
        let corrected = (self.ring[slot] + new).saturating_sub(old);
        self.counted = self.counted - self.ring[slot] + corrected;
        self.ring[slot] = corrected;
    }

    /// Counts at `now` what was counted at `then`, without a change of the pace.
    pub(crate) fn moved(&mut self, amount: u64, then: u64, now: u64) {
        if amount == 0 || then / self.width == now / self.width {
            return;
        }
        let credit = self.credit;
        self.correct(then, amount, 0, now);
        self.count_silently(amount, now);
        self.credit = credit;
    }

    /// Gives back to the pace what a settlement did not use.
    pub(crate) fn repay(&mut self, reserved: u64, used: u64) {
        self.credit += reserved as f64 - used as f64;
    }

    /// How long a computed pace is used.
    fn pace_valid(&self) -> u64 {
        self.length / PACES
    }

    fn slot(&self, number: u64) -> usize {
        (number % self.ring.len() as u64) as usize
    }

    /// When a bucket stops counting: a window after its last possible entry.
    fn expiry(&self, number: u64) -> u64 {
        (number + 1) * self.width + self.length + self.jitter
    }

    fn advance(&mut self, now: u64) {
        if self.counted == 0 {
            self.oldest = self.oldest.max(now / self.width);
            return;
        }
        while self.counted > 0 && self.expiry(self.oldest) <= now {
            let slot = self.slot(self.oldest);
            self.counted -= std::mem::take(&mut self.ring[slot]);
            self.oldest += 1;
        }
        if self.counted == 0 {
            self.oldest = self.oldest.max(now / self.width);
        }
    }

    /// The most credit: the burst, at least some calls where the limit allows them.
    fn credit_limit(&self) -> f64 {
        let limit = self.limit as f64;
        (limit * self.burst - 1.0)
            .max((limit * 0.5).min(4.0) - 1.0)
            .max(0.0)
    }

    fn pace(&mut self, now: u64) {
        if now >= self.pace_until {
            self.pace = self.even_rate(now);
            self.pace_until = now + self.pace_valid();
        }
        self.grow(now);
    }

    /// Grows the credit at this rate.
    fn pace_at(&mut self, rate: f64, now: u64) {
        self.pace = rate;
        self.pace_until = now + self.pace_valid();
        self.grow(now);
    }

    fn grow(&mut self, now: u64) {
        let grown = now.saturating_sub(self.paced) as f64 * self.pace;
        self.credit = (self.credit + grown).min(self.credit_limit());
        self.paced = self.paced.max(now);
    }

    /// The highest constant rate that never meets the bound within the coming window.
    fn even_rate(&mut self, now: u64) -> f64 {
        let even = self.rate();
        let mut free = self.limit as f64 - self.used(now) as f64 - self.beside.most as f64;
        let mut rate = f64::INFINITY;
        for number in self.oldest..self.oldest + self.ring.len() as u64 {
            let amount = self.ring[self.slot(number)];
            if amount > 0 {
                rate = rate.min(free / (self.expiry(number) - now) as f64);
                free += amount as f64;
            }
        }
        free += self.beside.likely as f64;
        rate = rate.min(free / (self.length + self.jitter) as f64);
        (rate * PACE_LEAD).clamp(even / 16.0, even * PACE_LEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn send_as_fast_as_allowed(window: &mut Window, cost: u64, until: u64) -> Vec<u64> {
        let mut now = 0;
        let mut sent = Vec::new();
        while now < until {
            match window.room(cost, now) {
                Room::Now => {
                    window.count(cost, now);
                    sent.push(now);
                }
                Room::At(at) => now = at.max(now + 1),
                Room::Settlement => panic!("nothing is held"),
            }
        }
        sent
    }

    #[test]
    fn no_sliding_minute_exceeds_the_limit_and_nearly_all_is_used() {
        for (limit, cost) in [(500, 1), (40_000, 700), (3, 1), (10, 1), (1, 1)] {
            let mut window = Window::new(limit, 0.1, SECOND / 2, 0);
            let sent = send_as_fast_as_allowed(&mut window, cost, 10 * MINUTE);
            for (i, start) in sent.iter().enumerate() {
                let inside = sent[i..]
                    .iter()
                    .take_while(|t| **t < start + MINUTE)
                    .count();
                assert!(
                    inside as u64 * cost <= limit,
                    "{limit}: {inside} in a minute"
                );
            }
            // One call less than the share, as a call is either sent or not.
            let least = (limit * 10) as f64 * 0.97 - cost as f64;
            let used = sent.len() as u64 * cost;
            assert!(used as f64 >= least, "{limit}: only {used} used");
        }
    }

    #[test]
    fn a_burst_is_paid_back_without_a_stall() {
        let mut window = Window::new(500, 0.1, SECOND / 2, 0);
        let sent = send_as_fast_as_allowed(&mut window, 1, 5 * MINUTE);
        assert!(sent[..50].iter().all(|t| *t == 0), "the burst goes at once");
        let longest = sent.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest < SECOND, "stalled for {longest} ns");
    }

    #[test]
    fn what_is_held_counts_until_a_minute_after_its_settlement() {
        let mut window = Window::new(100, 1.0, 0, 0);
        window.hold(100, 0);
        assert_eq!(window.room(1, 5 * MINUTE), Room::Settlement);
        window.release(100);
        window.count_silently(60, 5 * MINUTE);
        assert_eq!(window.used(6 * MINUTE - 1), 60);
        assert_eq!(window.used(6 * MINUTE + WIDTH), 0);
    }
}
