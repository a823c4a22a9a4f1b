//! All quotas of one upstream together: what a call reserves, and its settlement.
//!
//! Invariant: what [`Limiter::reserve`] takes is given back or counted exactly once,
//! because a [`Hold`] is consumed by the settlement and cannot be copied.

mod cost;
mod levels;
mod margin;
mod observed;
mod told;

use crate::{
    CachedInput, OutputCounted, QueueConfig, Refused,
    counting::Counting,
    flight::Flight,
    shared::Kinds,
    throttle::Throttle,
    window::{Beside, MINUTE, Room, Window},
};
pub(crate) use cost::{Cost, Hold, Settlement};
use levels::{End, InFlight, Start};
use margin::Margin;

/// No call uses more tokens than this; an upstream that says so is not believed.
const MOST: u64 = 1 << 32;
const KINDS: usize = 4;
const NAMES: [&str; KINDS] = ["requests", "tokens", "input tokens", "output tokens"];

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Limiter {
    config: QueueConfig,
    /// Requests, tokens, input tokens, output tokens, counted from a call's start on.
    starts: [Option<Window>; KINDS],
    /// The same of kinds with output, where that is counted from a call's end on.
    ends: [Option<Window>; KINDS],
    /// What the upstream's headers said, and whether they said anything.
    observed: [Option<u64>; KINDS],
    told: bool,
    /// What is kept free of each, as the headers show that it is needed.
    margins: [Margin; KINDS],
    /// When levels were first reported.
    told_at: Option<u64>,
    pub(crate) running: u32,
    pub(crate) throttle: Throttle,
    flight: Flight,
    in_flight: InFlight,
    /// Calls that ended with an answer, for the slow start.
    answered: u32,
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
            starts: Default::default(),
            ends: Default::default(),
            observed: [None; KINDS],
            told: false,
            margins: Default::default(),
            told_at: None,
            running: 0,
            throttle: Throttle::new(),
            flight: Flight::default(),
            in_flight: InFlight::default(),
            answered: 0,
            counting: Counting::default(),
            shared: None,
        };
        limiter.apply_limits(now);
        limiter
    }

    /// Leaves the windows to a ledger, of which this is known.
    pub(crate) fn share(&mut self, view: SharedView) {
        (self.starts, self.ends) = Default::default();
        self.shared = Some(view);
    }

    /// Limits after throttling.
    pub(crate) fn limits(&self) -> Kinds<Option<u64>> {
        std::array::from_fn(|kind| self.bound(kind))
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

    /// The limit after throttling, without what is kept free.
    fn bound(&self, kind: usize) -> Option<u64> {
        let limit = self.limit(kind)?;
        let shrunk = (limit as f64 * self.throttle.share()) as u64;
        Some(shrunk.saturating_sub(self.margins[kind].of(limit)).max(1))
    }

    pub(crate) fn concurrency(&self) -> Option<u32> {
        self.throttle.concurrency(self.config.quotas.concurrency)
    }

    /// What counts, what is forecast of the calls in flight included.
    pub(crate) fn used(&mut self, kind: usize, now: u64) -> u64 {
        if let Some(view) = self.shared {
            return view.used[kind];
        }
        let due = self.flight.due(now);
        let counted = self.output_counted();
        let start = self.starts[kind].as_mut().map(|window| window.used(now));
        let end = self.ends[kind].as_mut().map(|window| window.used(now));
        match (start, end, counted.end()) {
            (_, Some(end), End::Held) => end,
            (Some(start), _, End::Free) if counted.start() == Start::Declared && kind % 2 == 1 => {
                start
                    + self
                        .in_flight
                        .declared
                        .saturating_sub(self.in_flight.expected)
            }
            (Some(start), None, _) => start,
            (_, Some(end), _) => end.saturating_add(due.tokens as u64),
            (None, None, _) => 0,
        }
    }

    /// How output is counted: as configured, or else as learned.
    pub(crate) fn output_counted(&self) -> OutputCounted {
        match self.config.output_counted {
            OutputCounted::Made if !self.counting.was_refused() => OutputCounted::Made,
            OutputCounted::Unknown | OutputCounted::Made => {
                let flying = &self.in_flight;
                let nobody_declares = flying.expected > 0 && flying.unlimited == flying.expected;
                if self.counting.made() || nobody_declares && !self.counting.was_refused() {
                    OutputCounted::Made
                } else if self.counting.declared() {
                    OutputCounted::AtStart
                } else {
                    OutputCounted::Unknown
                }
            }
            configured => configured,
        }
    }

    fn apply_limits(&mut self, now: u64) {
        if self.shared.is_some() {
            return;
        }
        let jitter = u64::try_from(self.config.jitter.as_nanos()).unwrap_or(MINUTE);
        let learns = matches!(
            self.config.output_counted,
            OutputCounted::Unknown | OutputCounted::Made
        );
        for kind in 0..KINDS {
            let Some(limit) = self.bound(kind) else {
                continue;
            };
            let output = kind % 2 == 1;
            let start = !output || learns || self.config.output_counted.start() != Start::Free;
            let end = output && (learns || self.config.output_counted.end() != End::Free);
            for (wanted, window) in [(start, &mut self.starts[kind]), (end, &mut self.ends[kind])] {
                match window {
                    Some(window) => window.set_limit(limit),
                    none if wanted => {
                        let jitter = jitter.min(MINUTE);
                        *none = Some(Window::new(limit, self.config.burst, jitter, now));
                    }
                    _ => {}
                }
            }
        }
    }

    fn amounts(input: u64, output: u64) -> [u64; KINDS] {
        [1, input.saturating_add(output), input, output]
    }

    /// What a call's output counts as at its start.
    fn at_start(counted: OutputCounted, cost: Cost) -> u64 {
        match counted.start() {
            Start::Declared => cost.declared,
            Start::Free | Start::Made => cost.output,
        }
    }

    /// Refuses what no waiting will make fit.
    pub(crate) fn possible(&self, cost: Cost) -> Result<(), Refused> {
        let output = Self::at_start(self.config.output_counted, cost);
        let amounts = Self::amounts(cost.input, output);
        for (kind, amount) in amounts.into_iter().enumerate() {
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
        // One more for each answer doubles them in every round, as TCP's slow start does.
        if self.running > self.answered.saturating_add(1) && self.feels_its_way(cost) {
            return Room::Settlement;
        }
        let counted = self.output_counted();
        let (start, end) = (counted.start(), counted.end());
        let due = self.flight.due(now);
        let beside = self.in_flight.beside(start, end, &due);
        let amounts = Self::amounts(cost.input, Self::at_start(counted, cost));
        let aside = Self::set_aside(cost);
        let mut room = Room::Now;
        for (kind, amount) in amounts.into_iter().enumerate() {
            let output = kind % 2 == 1;
            let from_start = self.starts[kind]
                .as_mut()
                .filter(|_| !output || start != Start::Free);
            if let Some(window) = from_start {
                let beside = if output { beside } else { Beside::default() };
                room = room.and(window.room_beside(amount, beside, now));
            }
            let input = if kind == 1 { cost.input } else { 0 };
            if let Some(window) = &mut self.ends[kind] {
                room = room.and(match end {
                    End::Free => Room::Now,
                    End::Ahead => window.room_ahead(input, cost.output, due, now),
                    End::Held => window.room(input + aside, now),
                });
            }
        }
        room
    }

    /// What is held of an output while nobody knows how it is counted.
    fn set_aside(cost: Cost) -> u64 {
        cost.declared.max(cost.safe)
    }

    /// Whether too little is known to start many calls at once: of the quotas, or where
    /// output is limited, of how much they make.
    fn feels_its_way(&self, cost: Cost) -> bool {
        let limited = |kind| self.limit(kind).is_some();
        (cost.blind && (limited(1) || limited(3)))
            || (self.config.slow_start && !self.told && !(0..KINDS).any(limited))
    }

    /// Calls a nanosecond that the tightest quota allows, where each reserves and uses this
    /// much and runs for `run` nanoseconds.
    pub(crate) fn rate(&self, reserved: Cost, used: Cost, run: f64) -> f64 {
        let real = used.output as f64;
        let declared = reserved.declared as f64;
        let minutes = run / MINUTE as f64;
        // What output counts for longer than a minute, as shares of a minute.
        let held = match self.output_counted() {
            OutputCounted::Unknown => Self::set_aside(reserved) as f64 * minutes,
            OutputCounted::AtStart => (declared - real).max(0.0) * minutes.min(1.0),
            OutputCounted::Declared => (declared - real).max(0.0),
            OutputCounted::AtEnd | OutputCounted::Made | OutputCounted::ActualAtStart => 0.0,
        };
        let amounts = Self::amounts(used.input, used.output).map(|amount| amount as f64);
        let amounts = amounts.into_iter().zip([0.0, held, 0.0, held]);
        amounts
            .enumerate()
            .filter(|(_, (amount, _))| *amount > 0.0)
            .filter_map(|(kind, (amount, held))| Some(self.window_rate(kind)? / (amount + held)))
            .fold(f64::INFINITY, f64::min)
    }

    /// What this process may take of a quota in a nanosecond.
    fn window_rate(&self, kind: usize) -> Option<f64> {
        let window = self.starts[kind].as_ref().or(self.ends[kind].as_ref());
        match (window, self.shared) {
            (Some(window), _) => Some(window.rate()),
            (None, Some(view)) => {
                let share = self.limits()[kind]? as f64 / f64::from(view.among.max(1));
                Some(share / view.window as f64)
            }
            (None, None) => None,
        }
    }

    /// Calls of this cost that may start at once after the first, if there are slots.
    pub(crate) fn burst(&self, cost: Cost) -> f64 {
        if self.shared.is_some() {
            return 0.0;
        }
        let counted = self.output_counted();
        let amounts = Self::amounts(cost.input, Self::at_start(counted, cost));
        let mut least = f64::INFINITY;
        for (kind, amount) in amounts.into_iter().enumerate().filter(|(_, a)| *a > 0) {
            let from_start = kind % 2 == 0 || counted.start() != Start::Free;
            let start = self.starts[kind].as_ref().filter(|_| from_start);
            let end = self.ends[kind]
                .as_ref()
                .filter(|_| counted.end() != End::Free);
            for window in start.into_iter().chain(end) {
                least = least.min(window.credit() / amount as f64);
            }
        }
        least.max(0.0)
    }

    /// Takes the cost of a call that starts now.
    pub(crate) fn reserve(&mut self, cost: Cost, now: u64) -> Hold {
        self.running += 1;
        self.flight.start(cost.output, cost.variance, now);
        self.in_flight.expected += cost.output;
        self.in_flight.declared += cost.declared;
        self.in_flight.unlimited += if cost.limited { 0 } else { cost.output };
        let held = match self.output_counted().end() {
            End::Held => Self::set_aside(cost),
            End::Free | End::Ahead => 0,
        };
        let mut kinds = 0;
        let amounts = Self::amounts(cost.input, cost.output);
        for (kind, amount) in amounts.into_iter().enumerate() {
            if let Some(window) = &mut self.starts[kind] {
                window.count(amount, now);
                kinds |= 1 << kind;
            }
            if let Some(window) = &mut self.ends[kind] {
                window.count(if kind == 1 { cost.input } else { 0 }, now);
                match held {
                    0 => window.spend(cost.output),
                    held => window.hold(held, now),
                }
                kinds |= 1 << kind;
            }
        }
        Hold {
            cost,
            at: now,
            held,
            kinds,
        }
    }

    /// The call is sent only now: it counts from now on.
    pub(crate) fn restamp(&mut self, hold: &mut Hold, now: u64) {
        let (at, cost) = (hold.at, hold.cost);
        if now <= at {
            return;
        }
        hold.at = now;
        self.flight.end(cost.output, cost.variance, at);
        self.flight.start(cost.output, cost.variance, now);
        let amounts = Self::amounts(cost.input, cost.output);
        for kind in (0..KINDS).filter(|kind| hold.kinds & (1 << kind) != 0) {
            if let Some(window) = &mut self.starts[kind] {
                window.moved(amounts[kind], at, now);
            }
            if let Some(window) = self.ends[kind].as_mut().filter(|_| kind == 1) {
                window.moved(cost.input, at, now);
            }
        }
    }

    /// Ends a reservation. Returns what was used, as far as it is known.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "taking the hold makes a second settlement impossible"
    )]
    pub(crate) fn settle(&mut self, hold: Hold, end: Settlement, now: u64) -> Cost {
        self.running = self.running.saturating_sub(1);
        self.answered = self.answered.saturating_add(1);
        let Hold {
            cost,
            at,
            held,
            kinds,
        } = hold;
        self.flight.end(cost.output, cost.variance, at);
        self.in_flight.expected -= cost.output;
        self.in_flight.declared -= cost.declared;
        self.in_flight.unlimited -= if cost.limited { 0 } else { cost.output };
        let (input, output, requests) = match end {
            Settlement::Used { input, output } => {
                self.flight.learn(now.saturating_sub(at), output);
                (input, output, 1)
            }
            Settlement::Uncertain { input, output } => {
                let reserved = Self::at_start(self.output_counted(), cost).max(held);
                (input.max(cost.input), output.max(reserved), 1)
            }
            Settlement::Rejected => (0, 0, 1),
            Settlement::Unsent => (0, 0, 0),
        };
        let used = Cost::new(input.min(MOST), output.min(MOST));
        // What was declared stays counted, unless it was never sent or refused.
        let stays = self.config.output_counted == OutputCounted::Declared && used.output > 0;
        let counted = if stays { cost.declared } else { used.output };
        let mut after = Self::amounts(used.input, counted);
        after[0] = requests;
        let before = Self::amounts(cost.input, cost.output);
        for kind in (0..KINDS).filter(|kind| kinds & (1 << kind) != 0) {
            if let Some(window) = &mut self.starts[kind] {
                window.correct(at, before[kind], after[kind], now);
            }
            if let Some(window) = &mut self.ends[kind] {
                if kind == 1 {
                    window.correct(at, cost.input, used.input, now);
                }
                window.release(held);
                window.count_ended(used.output, now);
                window.repay(held.max(cost.output), used.output);
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

    /// Notes a refusal by the upstream that asks for a pause.
    pub(crate) fn refuse(&mut self, pause: u64, now: u64) {
        self.counting.refused();
        self.throttle.refuse(pause, self.running, now);
        self.apply_limits(now);
    }
}
