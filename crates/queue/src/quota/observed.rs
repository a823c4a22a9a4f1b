//! What an upstream's headers change: limits, and what others used of the same quota.

use super::{
    Limiter,
    levels::{End, Start},
};
use crate::{
    ObservedLimit, ObservedLimits,
    counting::Levels,
    window::{MINUTE, Window},
};

/// The longest time to a whole quota that is taken for a minute's: resets are rounded up.
/// Some upstreams send a day's limit under the same name.
const LONGEST_SECONDS: u64 = 300;

impl Limiter {
    /// Adopts what the upstream's headers say.
    pub(crate) fn observe(&mut self, limits: &ObservedLimits, now: u64) {
        let all = [
            limits.requests,
            limits.tokens,
            limits.input_tokens,
            limits.output_tokens,
        ];
        for (kind, seen) in all.iter().enumerate() {
            if let Some(limit) = seen.limit.filter(|_| is_per_minute(seen)) {
                self.observed[kind] = Some(limit);
                self.told = true;
            }
        }
        let known = [0, 1, 2, 3].map(|kind| self.keeps(kind));
        self.apply_limits(now);
        for (kind, seen) in all.into_iter().enumerate() {
            let (Some(limit), Some(remaining)) = (seen.limit, seen.remaining) else {
                continue;
            };
            if !is_per_minute(&seen) || !self.keeps(kind) {
                continue;
            }
            let used = limit.saturating_sub(remaining);
            if !known[kind] {
                // A window that begins in the middle of things knows nothing before.
                for window in self.both(kind) {
                    window.count_late(used, now, now);
                }
                continue;
            }
            if self.margins[kind].report(limit, remaining, now) {
                self.apply_limits(now);
            }
            self.report(kind, limit, used, now);
            self.count_foreign(kind, limit, used, seen, now);
        }
    }

    /// Tells what the upstream reports to those who learn how it counts.
    fn report(&mut self, kind: usize, limit: u64, used: u64, now: u64) {
        // What a report says was so when its call arrived, which differs too much from what
        // is so now while the first minute fills.
        let from = self.told_at.get_or_insert(now);
        if now < *from + MINUTE {
            return;
        }
        let due = self.flight.due(now).tokens;
        let Some(window) = self.starts[kind].as_mut().filter(|_| kind % 2 == 1) else {
            return;
        };
        let counted = window.used(now) as f64;
        let ended = counted - self.in_flight.expected as f64;
        let levels = Levels {
            ended,
            made: ended + due,
            declared: ended + self.in_flight.declared as f64,
        };
        self.counting.report(limit, used, levels);
    }

    /// Counts what others who share the upstream's key have used.
    ///
    /// Less than 5 % of the limit is ignored: it is the difference between a sliding
    /// window and the bucket that many upstreams really keep.
    fn count_foreign(&mut self, kind: usize, limit: u64, used: u64, seen: ObservedLimit, now: u64) {
        let due = self.flight.due(now);
        let all = self.in_flight.beside(Start::Declared, End::Free, &due);
        let declared = all.most;
        let made = due.tokens as i64 - self.in_flight.expected as i64;
        // Whichever way it counts, so much may be of this queue.
        let beyond = match kind {
            1 | 3 => u64::try_from(declared.max(made)).unwrap_or(0),
            _ => 0,
        };
        let own = self.starts[kind]
            .as_mut()
            .map_or(0, |window| window.used(now) + beyond);
        let ended = self.ends[kind]
            .as_mut()
            .map_or(0, |window| window.used(now) + due.tokens.max(0.0) as u64);
        let foreign = used.saturating_sub(own.max(ended));
        if foreign <= limit / 20 {
            return;
        }
        let reset = seen.reset.map_or(MINUTE, |reset| {
            u64::try_from(reset.as_nanos())
                .unwrap_or(MINUTE)
                .min(MINUTE)
        });
        let then = now.saturating_sub(MINUTE - reset);
        for window in self.both(kind) {
            window.count_silently(foreign, then);
        }
    }

    fn keeps(&self, kind: usize) -> bool {
        self.starts[kind].is_some() || self.ends[kind].is_some()
    }

    fn both(&mut self, kind: usize) -> impl Iterator<Item = &mut Window> {
        self.starts[kind].iter_mut().chain(&mut self.ends[kind])
    }
}

/// Whether a limit is plausible and one of a minute.
fn is_per_minute(seen: &ObservedLimit) -> bool {
    let Some(limit) = seen.limit.filter(|limit| *limit > 0) else {
        return false;
    };
    seen.remaining.is_none_or(|remaining| remaining <= limit)
        && seen
            .reset
            .is_none_or(|reset| reset.as_secs() <= LONGEST_SECONDS)
}
