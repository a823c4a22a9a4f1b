//! All quotas of one upstream together: what a call reserves, and its settlement.
//!
//! Invariant: what [`Limiter::reserve`] takes is given back or counted exactly once,
//! because a [`Hold`] is consumed by the settlement and cannot be copied.

use crate::{
    CachedInput, ObservedLimit, ObservedLimits, OutputCounted, QueueConfig, Refused,
    counting::Counting,
    flight::Flight,
    shared::{Ended, Kinds},
    throttle::Throttle,
    window::{MINUTE, Room, Window},
};

/// What one call takes from the quotas, besides one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// The variance of the output, where a margin for it is kept for all calls together.
    pub(crate) variance: u64,
}

impl Cost {
    pub(crate) fn new(input: u64, output: u64) -> Self {
        Self {
            input,
            output,
            variance: 0,
        }
    }
}

/// What a running call has reserved.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) cost: Cost,
    pub(crate) at: u64,
    /// As what it was reserved.
    counted: OutputCounted,
}

/// How a reservation ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Settlement {
    /// The upstream said what was used.
    Used { input: u64, output: u64 },
    /// Nobody knows; at most what was reserved, or more where more was seen.
    Uncertain { input: u64, output: u64 },
    /// The upstream refused it before it did any work.
    Rejected,
    /// The call was never sent.
    Unsent,
}

/// No call uses more tokens than this; an upstream that says so is not believed.
const MOST: u64 = 1 << 32;
/// The longest window, in seconds, that is taken for a minute: resets are rounded up.
const LONGEST: f64 = 300.0;
const KINDS: usize = 4;
const NAMES: [&str; KINDS] = ["requests", "tokens", "input tokens", "output tokens"];

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Limiter {
    config: QueueConfig,
    /// Requests, tokens, input tokens, output tokens.
    windows: [Option<Window>; KINDS],
    /// What the upstream's headers said.
    observed: [Option<u64>; KINDS],
    pub(crate) running: u32,
    pub(crate) throttle: Throttle,
    flight: Flight,
    counting: Counting,
    /// Set when a ledger keeps the windows for several processes.
    shared: Option<SharedView>,
}

/// What is known of a ledger that keeps the windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedView {
    /// Nanoseconds.
    pub(crate) window: u64,
    /// Processes among which the quota is divided now.
    pub(crate) among: u32,
    pub(crate) used: Kinds<u64>,
}

impl Limiter {
    pub(crate) fn new(config: QueueConfig, now: u64) -> Self {
        let mut limiter = Self {
            config,
            windows: Default::default(),
            observed: [None; KINDS],
            running: 0,
            throttle: Throttle::new(),
            flight: Flight::default(),
            counting: Counting::default(),
            shared: None,
        };
        limiter.apply_limits(now);
        limiter
    }

    /// Leaves the windows to a ledger, of which this is known.
    pub(crate) fn share(&mut self, view: SharedView) {
        self.windows = Default::default();
        self.shared = Some(view);
    }

    /// Limits after throttling.
    pub(crate) fn limits(&self) -> Kinds<Option<u64>> {
        let share = self.throttle.share();
        let shrunk = |limit: u64| ((limit as f64 * share) as u64).max(1);
        std::array::from_fn(|kind| self.limit(kind).map(shrunk))
    }

    /// What of a cost counts at a call's start, and what is set aside for its end.
    pub(crate) fn split(&self, cost: Cost) -> (Kinds<u64>, Kinds<u64>) {
        match self.config.output_counted {
            OutputCounted::AtStart | OutputCounted::Declared => (Self::amounts(cost), [0; KINDS]),
            OutputCounted::Unknown | OutputCounted::AtEnd => (
                [1, cost.input, cost.input, 0],
                [0, cost.output, 0, cost.output],
            ),
        }
    }

    /// How a call ended, in a ledger's words.
    pub(crate) fn ended(&self, seq: u64, reserved: Cost, used: Option<Cost>) -> Ended {
        // What was declared stays counted.
        let stays = self.config.output_counted == OutputCounted::Declared;
        let used = used.map(|used| match used {
            Cost { input, output, .. } if stays && output > 0 => {
                Cost::new(input, output.max(reserved.output))
            }
            used => used,
        });
        let (counted, late) = used.map_or(([0; KINDS], [0; KINDS]), |used| self.split(used));
        Ended { seq, counted, late }
    }

    /// Limits before throttling: the lower of the configured and the observed one.
    pub(crate) fn limit(&self, kind: usize) -> Option<u64> {
        let quotas = &self.config.quotas;
        let configured = [
            quotas.requests,
            quotas.tokens,
            quotas.input_tokens,
            quotas.output_tokens,
        ][kind];
        match (configured, self.observed[kind]) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    pub(crate) fn concurrency(&self) -> Option<u32> {
        self.throttle.concurrency(self.config.quotas.concurrency)
    }

    pub(crate) fn used(&mut self, kind: usize, now: u64) -> u64 {
        let ahead = u64::from(self.counts_output_ahead(kind));
        let due = self.flight.due(now).tokens as u64 * ahead;
        match (&mut self.windows[kind], self.shared) {
            (Some(window), _) => window.used(now).saturating_add(due),
            (None, Some(view)) => view.used[kind],
            (None, None) => 0,
        }
    }

    /// When output is counted: as configured, or else as learned.
    pub(crate) fn output_counted(&self) -> OutputCounted {
        match self.config.output_counted {
            OutputCounted::Unknown if self.counting.at_end() => OutputCounted::AtEnd,
            configured => configured,
        }
    }

    /// Whether this quota forecasts the output of calls in flight.
    fn counts_output_ahead(&self, kind: usize) -> bool {
        self.output_counted() == OutputCounted::AtEnd && matches!(kind, 1 | 3)
    }

    fn apply_limits(&mut self, now: u64) {
        if self.shared.is_some() {
            return;
        }
        let jitter = u64::try_from(self.config.jitter.as_nanos()).unwrap_or(MINUTE);
        for kind in 0..KINDS {
            let Some(limit) = self.limit(kind) else {
                continue;
            };
            let limit = ((limit as f64 * self.throttle.share()) as u64).max(1);
            match &mut self.windows[kind] {
                Some(window) => window.set_limit(limit),
                none => {
                    let jitter = jitter.min(MINUTE);
                    *none = Some(Window::new(limit, self.config.burst, jitter, now));
                }
            }
        }
    }

    fn amounts(cost: Cost) -> [u64; KINDS] {
        let total = cost.input.saturating_add(cost.output);
        [1, total, cost.input, cost.output]
    }

    /// Refuses what no waiting will make fit.
    pub(crate) fn possible(&self, cost: Cost) -> Result<(), Refused> {
        for (kind, amount) in Self::amounts(cost).into_iter().enumerate() {
            match self.limit(kind) {
                Some(limit) if amount > limit => {
                    return Err(Refused::TooLarge {
                        quota: NAMES[kind],
                        cost: amount,
                        limit,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When a call of this cost may start.
    pub(crate) fn room(&mut self, cost: Cost, now: u64) -> Room {
        if now < self.throttle.paused_until() {
            return Room::At(self.throttle.paused_until());
        }
        if self.throttle.recover(self.running, now) {
            self.apply_limits(now);
        }
        if self
            .concurrency()
            .is_some_and(|limit| self.running >= limit)
        {
            return Room::Settlement;
        }
        let mut room = Room::Now;
        let ahead = [0, 1, 2, 3].map(|kind| self.counts_output_ahead(kind));
        let windows = self.windows.iter_mut().zip(Self::amounts(cost));
        for (kind, (window, amount)) in windows.enumerate() {
            let Some(window) = window else { continue };
            let own = if ahead[kind] {
                let due = self.flight.due(now);
                window.room_ahead(amount - cost.output, cost.output, due, now)
            } else {
                window.room(amount, now)
            };
            room = match (room, own) {
                (_, Room::Settlement) => return Room::Settlement,
                (Room::At(a), Room::At(b)) => Room::At(a.max(b)),
                (Room::Now, other) | (other, _) => other,
            };
        }
        room
    }

    /// Calls a nanosecond that the tightest quota allows, where each reserves and uses this
    /// much and runs for `run` nanoseconds.
    pub(crate) fn rate(&self, reserved: Cost, used: Cost, run: f64) -> f64 {
        let (most, real) = (reserved.output as f64, used.output as f64);
        let minutes = run / MINUTE as f64;
        // What output counts for longer than a minute, as shares of a minute.
        let held = match self.config.output_counted {
            OutputCounted::AtEnd if self.shared.is_some() => most * minutes,
            OutputCounted::Unknown => most * minutes,
            OutputCounted::AtStart => (most - real).max(0.0) * minutes.min(1.0),
            OutputCounted::Declared => (most - real).max(0.0),
            OutputCounted::AtEnd => 0.0,
        };
        let amounts = Self::amounts(used).map(|amount| amount as f64);
        let amounts = amounts.into_iter().zip([0.0, held, 0.0, held]);
        amounts
            .enumerate()
            .filter(|(_, (amount, _))| *amount > 0.0)
            .filter_map(|(kind, (amount, held))| Some(self.window_rate(kind)? / (amount + held)))
            .fold(f64::INFINITY, f64::min)
    }

    /// What this process may take of a quota in a nanosecond.
    fn window_rate(&self, kind: usize) -> Option<f64> {
        match (&self.windows[kind], self.shared) {
            (Some(window), _) => Some(window.rate()),
            (None, Some(view)) => {
                let share = self.limits()[kind]? as f64 / f64::from(view.among.max(1));
                Some(share / view.window as f64)
            }
            (None, None) => None,
        }
    }

    /// Calls of this cost that may start at once after the first.
    pub(crate) fn burst(&self, cost: Cost) -> f64 {
        if let Some(limit) = self.concurrency()
            && self.running >= limit
        {
            return 0.0;
        }
        if self.shared.is_some() {
            return 0.0;
        }
        let windows = self.windows.iter().zip(Self::amounts(cost));
        windows
            .filter(|(_, amount)| *amount > 0)
            .filter_map(|(window, amount)| Some(window.as_ref()?.credit() / amount as f64))
            .fold(f64::INFINITY, f64::min)
            .max(0.0)
    }

    /// Takes the cost of a call that starts now.
    pub(crate) fn reserve(&mut self, cost: Cost, now: u64) -> Hold {
        self.running += 1;
        self.flight.start(cost.output, cost.variance, now);
        let counted = self.output_counted();
        let amounts = Self::amounts(cost);
        for (kind, window) in self.windows.iter_mut().enumerate() {
            let Some(window) = window else { continue };
            match (kind, counted) {
                (1 | 3, OutputCounted::Unknown) => {
                    window.count(amounts[kind] - cost.output, now);
                    window.hold(cost.output, now);
                }
                (1 | 3, OutputCounted::AtEnd) => {
                    window.count(amounts[kind] - cost.output, now);
                    window.spend(cost.output);
                }
                _ => window.count(amounts[kind], now),
            }
        }
        Hold {
            cost,
            at: now,
            counted,
        }
    }

    /// Ends a reservation. Returns what was used, as far as it is known.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking the hold makes a second settlement impossible"
    )]
    pub(crate) fn settle(&mut self, hold: Hold, end: Settlement, now: u64) -> Cost {
        self.running = self.running.saturating_sub(1);
        let Hold { cost, at, counted } = hold;
        self.flight.end(cost.output, cost.variance, at);
        let (used, requests) = match end {
            Settlement::Used { input, output } => {
                self.flight.learn(now.saturating_sub(at), output);
                (Cost::new(input, output), 1)
            }
            Settlement::Uncertain { input, output } => {
                let input = input.max(cost.input);
                (Cost::new(input, output.max(cost.output)), 1)
            }
            Settlement::Rejected => (Cost::new(0, 0), 1),
            Settlement::Unsent => (Cost::new(0, 0), 0),
        };
        let used = Cost::new(used.input.min(MOST), used.output.min(MOST));
        let (before, after) = (Self::amounts(cost), Self::amounts(used));
        for (kind, window) in self.windows.iter_mut().enumerate() {
            let Some(window) = window else { continue };
            match (kind, counted) {
                (0, _) => window.correct(at, 1, requests, now),
                (1 | 3, OutputCounted::Unknown | OutputCounted::AtEnd) => {
                    if kind == 1 {
                        window.correct(at, cost.input, used.input, now);
                    }
                    if counted == OutputCounted::Unknown {
                        window.release(cost.output);
                    }
                    window.count_ended(used.output, now);
                    window.repay(cost.output, used.output);
                }
                // What was declared stays counted, unless it was never sent or refused.
                (1 | 3, OutputCounted::Declared) if requests == 1 && used.output > 0 => {
                    if kind == 1 {
                        window.correct(at, cost.input, used.input, now);
                    }
                }
                _ => window.correct(at, before[kind], after[kind], now),
            }
        }
        used
    }

    /// The input that counts against the quota.
    pub(crate) fn counted_input(&self, input: u64, cached: u64) -> u64 {
        match self.config.cached_input {
            CachedInput::Counted => input,
            CachedInput::Free => input.saturating_sub(cached),
        }
    }

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
            }
        }
        self.apply_limits(now);
        for (kind, (window, seen)) in self.windows.iter_mut().zip(all).enumerate() {
            if let Some(window) = window
                && is_per_minute(&seen)
            {
                if let (1 | 3, Some(limit), Some(left)) = (kind, seen.limit, seen.remaining) {
                    let held = window.held();
                    let ended = window.used(now).saturating_sub(held);
                    self.counting
                        .report(limit, limit.saturating_sub(left), ended, held);
                }
                count_foreign(window, seen, now);
            }
        }
    }

    /// Notes a refusal by the upstream that asks for a pause.
    pub(crate) fn refuse(&mut self, pause: u64, now: u64) {
        self.counting.refused();
        self.throttle.refuse(pause, self.running, now);
        self.apply_limits(now);
    }
}

/// Whether a limit is one of a minute. Some upstreams send a day's limit under the same
/// name; it shows in how long the used part takes to come back.
fn is_per_minute(seen: &ObservedLimit) -> bool {
    let Some(limit) = seen.limit.filter(|limit| *limit > 0) else {
        return false;
    };
    let used = limit.saturating_sub(seen.remaining.unwrap_or(limit));
    match seen.reset {
        Some(reset) if used > 0 => reset.as_secs_f64() * limit as f64 / used as f64 <= LONGEST,
        _ => true,
    }
}

/// Counts what others who share the upstream's key have used.
///
/// Less than 5 % of the limit is ignored: it is the difference between a sliding
/// window and the bucket that many upstreams really keep.
fn count_foreign(window: &mut Window, seen: ObservedLimit, now: u64) {
    let (Some(limit), Some(remaining)) = (seen.limit, seen.remaining) else {
        return;
    };
    let used = limit.saturating_sub(remaining);
    let foreign = used.saturating_sub(window.used(now));
    if foreign <= limit / 20 {
        return;
    }
    let reset = seen.reset.map_or(MINUTE, |reset| {
        u64::try_from(reset.as_nanos())
            .unwrap_or(MINUTE)
            .min(MINUTE)
    });
    window.count_silently(foreign, now.saturating_sub(MINUTE - reset));
}
