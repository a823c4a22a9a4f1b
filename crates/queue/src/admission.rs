//! The queue as a pure state machine: calls and `now` go in, decisions come out.
//!
//! Invariants: a call is granted at most once, never after its deadline, and only when
//! every quota has room; each [`Ticket`] is settled exactly once, because settling
//! consumes it. `now` is nanoseconds since the driver's origin and may stand still but
//! should not run backwards. Deliberately absent: tasks, wakers, clocks.

mod needing;
mod waiting;

use std::{collections::BTreeSet, time::Duration};

use lyceum_core::{QueuePosition, Scope, Usage};

use crate::{
    Ask, Estimate, ObservedLimits, QueueConfig, QueueSnapshot, QuotaUse, Refused,
    estimate::{CallerId, Estimator},
    eta::{Forecast, Outlook},
    order::{BANDS, Index, Order, Place, Served, Urgency, band_of},
    quota::{Cost, Hold, Limiter, Settlement, SharedView},
    shared::{Ended, Need},
    window::Room,
};
use waiting::{NEVER, Waiting, known, service};

/// The driver's own name for a call.
pub(crate) type Owner = usize;

/// A call's right to be sent, to be settled once.
#[derive(Debug)]
pub(crate) struct Ticket {
    hold: Hold,
    served: Option<Served>,
    caller: CallerId,
    given: Estimate,
    /// The call's number at a shared ledger.
    shared: Option<u64>,
    pub(crate) band: usize,
    /// How long the call waited, in nanoseconds.
    pub(crate) waited: u64,
    /// How long it was to wait by what was known on arrival; [`NEVER`] where nothing was.
    forecast: u64,
}

/// Waits below this, in nanoseconds, say nothing about forecasts that anybody minds.
const FORETOLD: u64 = 1_000_000_000;

impl Ticket {
    /// The tokens set aside.
    pub(crate) fn reserved(&self) -> u64 {
        self.hold.cost.input.saturating_add(self.hold.cost.output)
    }

    /// How far the wait that was foretold was off, as a multiple of the real one.
    pub(crate) fn forecast_error(&self) -> Option<f64> {
        let forecast = known(self.forecast).filter(|_| self.waited > FORETOLD)?;
        Some(forecast.abs_diff(self.waited) as f64 / self.waited as f64)
    }
}

/// What became of an ask.
#[derive(Debug)]
pub(crate) enum Admitted {
    Now(Ticket),
    Waiting(Index),
}

/// What the driver has to do next.
#[derive(Debug)]
pub(crate) enum Decision {
    /// Let this owner's call start.
    Grant(Owner, Ticket),
    /// Ask the shared ledger to let this owner's call start.
    Ask(Owner, Index, Need),
    /// Tell this owner that its call's deadline passed.
    Expired(Owner),
    /// Ask again at this time, or only after a change when there is none.
    Wait(Option<u64>),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Admission {
    config: QueueConfig,
    order: Order<Waiting>,
    limiter: Limiter,
    estimator: Estimator,
    forecast: Forecast,
    /// By band, the earliest first.
    deadlines: [BTreeSet<(u64, Index)>; BANDS],
    /// What all waiting calls need together.
    wanted: Cost,
    /// With a shared ledger: when it may be asked again.
    ask_at: Option<u64>,
    /// How often it was asked.
    asked: u32,
}

impl Admission {
    pub(crate) fn new(config: QueueConfig, now: u64) -> Self {
        let ageing = u64::try_from(config.ageing.as_nanos()).unwrap_or(u64::MAX);
        Self {
            config,
            order: Order::new(ageing, config.aged_turn),
            limiter: Limiter::new(config, now),
            estimator: Estimator::new(),
            forecast: Forecast::new(config.aged_turn),
            deadlines: Default::default(),
            wanted: Cost::new(0, 0),
            ask_at: None,
            asked: 0,
        }
    }

    /// Leaves the quotas to a ledger, of which this is known; to be repeated with news.
    pub(crate) fn share(&mut self, view: SharedView) {
        self.limiter.share(view);
        self.ask_at.get_or_insert(0);
    }

    /// When the ledger may be asked again.
    pub(crate) fn ask_at(&mut self, at: u64) {
        self.ask_at = Some(at);
    }

    /// The ledger may answer otherwise now.
    pub(crate) fn news(&mut self) {
        if let Some(at) = &mut self.ask_at {
            *at = 0;
        }
    }

    /// Learns of a pause that another process was asked for; whether it is news.
    pub(crate) fn pause_seen(&mut self, pause: u64, now: u64) -> bool {
        let new = self.limiter.throttle.paused_until() <= now;
        if new {
            self.limiter.refuse(pause, now);
        }
        new
    }

    /// Starts a call that the ledger granted under this number.
    pub(crate) fn grant_shared(&mut self, index: Index, seq: u64, now: u64) -> Option<Ticket> {
        let cost = self.order.get(index)?.payload.cost;
        let mut ticket = self.grant(index, cost, now)?;
        ticket.shared = Some(seq);
        Some(ticket)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.order.len() == 0
    }

    /// Starts a call, queues it or refuses it. `deadline` is on the clock of `now`.
    pub(crate) fn enqueue(
        &mut self,
        ask: Ask,
        deadline: Option<u64>,
        owner: Owner,
        now: u64,
    ) -> Result<Admitted, Refused> {
        let Scope {
            tenant,
            user,
            agent,
            session,
        } = ask.scope;
        let caller = self.estimator.caller(agent, ask.kind);
        let cost = self.cost(caller, ask.estimate);
        self.limiter.possible(cost)?;
        let band = band_of(ask.priority);
        if self.order.len() == 0
            && self.ask_at.is_none()
            && deadline.is_none_or(|deadline| deadline > now)
            && self.limiter.room(cost, now) == Room::Now
        {
            self.estimator.started(caller);
            return Ok(Admitted::Now(Ticket {
                hold: self.limiter.reserve(cost, now),
                served: None,
                caller,
                given: ask.estimate,
                shared: None,
                band,
                waited: 0,
                forecast: NEVER,
            }));
        }
        if self.order.len() >= self.config.capacity {
            return Err(self.forecast.full(self.order.len()));
        }
        let index = self.order.insert(
            (tenant, user, session),
            Urgency {
                band,
                critical: ask.critical,
                weight: ask.weight,
                service: service(cost),
                arrived: now,
            },
            Waiting {
                owner: owner as u32,
                cost,
                caller,
                given: ask.estimate,
                deadline: deadline.unwrap_or(NEVER),
                forecast: NEVER,
            },
        );
        self.wanted.add(cost);
        if let Some((place, outlook)) = self.outlook(index, now) {
            if let Some(deadline) = deadline {
                if now.saturating_add(outlook.cautious) >= deadline {
                    self.remove(index);
                    let left = deadline.saturating_sub(now);
                    return Err(Forecast::too_late(outlook.cautious, left));
                }
                self.deadlines[place.band].insert((deadline, index));
            }
            let last = place.ahead + 1 >= self.order.len();
            self.forecast.arrived(place.ahead, last, now);
            if let Some(entry) = self.order.get_mut(index) {
                entry.payload.forecast = outlook.likely.unwrap_or(NEVER);
            }
        }
        Ok(Admitted::Waiting(index))
    }

    /// What a call reserves: its estimate, corrected unless that alone makes it too large.
    fn cost(&self, caller: CallerId, given: Estimate) -> Cost {
        let plain = Cost {
            limited: given.limited,
            ..Cost::new(given.input.0, given.output.0)
        };
        if !self.config.learn_estimates {
            return plain;
        }
        let calls = self.limiter.running.saturating_add(1);
        let expected = self.estimator.expect(caller, given, calls);
        let corrected = Cost {
            input: expected.input,
            output: expected.output,
            variance: expected.variance,
            safe: expected.safe_output,
            declared: if given.limited {
                given.output.0
            } else {
                expected.output
            },
            limited: given.limited,
            blind: self.estimator.is_blind(caller, given),
        };
        match self.limiter.possible(corrected) {
            Ok(()) => corrected,
            Err(_) => plain,
        }
    }

    /// The next decision; to be asked again until it is [`Decision::Wait`].
    pub(crate) fn next(&mut self, now: u64) -> Decision {
        let deadlines = self.deadlines.iter().filter_map(BTreeSet::first);
        let next_deadline = deadlines.min().copied();
        if let Some((deadline, index)) = next_deadline
            && deadline <= now
            && let Some(owner) = self.expire(index, now)
        {
            return Decision::Expired(owner);
        }
        let next_deadline = next_deadline.map(|(at, _)| at);
        let Some(index) = self.candidate(now) else {
            return Decision::Wait(None);
        };
        let Some(waiting) = self.order.get(index).map(|entry| &entry.payload) else {
            return Decision::Wait(None);
        };
        let owner = waiting.owner as Owner;
        // By what is known now, not when it came: a backlog would keep the first guesses.
        // A ledger is asked for the same until it answers.
        let cost = match self.ask_at {
            Some(_) => waiting.cost,
            None => self.cost(waiting.caller, waiting.given),
        };
        let by_then = |at: u64| Decision::Wait(Some(next_deadline.map_or(at, |d| d.min(at))));
        match (self.limiter.room(cost, now), self.ask_at) {
            (Room::Now, Some(at)) if now < at => by_then(at),
            (Room::Now, Some(_)) => Decision::Ask(owner, index, self.need(index, cost, now)),
            (Room::Now, None) => match self.grant(index, cost, now) {
                Some(ticket) => Decision::Grant(owner, ticket),
                None => Decision::Wait(None),
            },
            (Room::At(at), _) => by_then(at),
            (Room::Settlement, _) => Decision::Wait(next_deadline),
        }
    }

    /// The call to start next: of the band whose turn it is, the one that would miss its
    /// deadline, else the first. Accepting a call is a promise; the charge for it keeps
    /// those who need it kept from gaining by it.
    fn candidate(&mut self, now: u64) -> Option<Index> {
        let first = self.order.first(now)?;
        let band = usize::from(self.order.get(first)?.band);
        match self.deadlines[band].first() {
            Some((deadline, index)) if *deadline <= now.saturating_add(self.forecast.lead()) => {
                Some(*index)
            }
            _ => Some(first),
        }
    }

    fn expire(&mut self, index: Index, now: u64) -> Option<Owner> {
        let entry = self.order.get(index)?;
        let waited = now.saturating_sub(entry.arrived);
        let (band, forecast) = (usize::from(entry.band), known(entry.payload.forecast));
        self.forecast.waited(band, forecast, waited);
        self.remove(index)
    }

    fn grant(&mut self, index: Index, cost: Cost, now: u64) -> Option<Ticket> {
        let (entry, served) = self.order.serve(index, now)?;
        let waiting = entry.payload;
        self.wanted.take(waiting.cost);
        let band = usize::from(entry.band);
        self.forget_deadline(band, waiting.deadline, index);
        let waited = now.saturating_sub(entry.arrived);
        self.forecast.waited(band, known(waiting.forecast), waited);
        self.estimator.started(waiting.caller);
        Some(Ticket {
            hold: self.limiter.reserve(cost, now),
            served: Some(served),
            caller: waiting.caller,
            given: waiting.given,
            shared: None,
            band,
            waited,
            forecast: waiting.forecast,
        })
    }

    /// Takes a waiting call out and names its owner.
    pub(crate) fn remove(&mut self, index: Index) -> Option<Owner> {
        let entry = self.order.remove(index)?;
        let (band, waiting) = (usize::from(entry.band), entry.payload);
        self.wanted.take(waiting.cost);
        self.forget_deadline(band, waiting.deadline, index);
        Some(waiting.owner as Owner)
    }

    /// Takes all waiting calls of a conversation out and names their owners.
    pub(crate) fn cancel(&mut self, scope: &Scope) -> Vec<Owner> {
        let (tenant, user) = (scope.tenant.clone(), scope.user.clone());
        let found = self
            .order
            .conversation(&(tenant, user, scope.session.clone()));
        found
            .into_iter()
            .filter_map(|index| self.remove(index))
            .collect()
    }

    /// Where a waiting call stands.
    pub(crate) fn position(&mut self, index: Index, now: u64) -> Option<QueuePosition> {
        let (place, outlook) = self.outlook(index, now)?;
        Some(QueuePosition {
            position: place.ahead as u64 + 1,
            estimated_wait: outlook.likely.map(Duration::from_nanos),
        })
    }

    /// The call's holder has heard of its grant, and sends it now.
    pub(crate) fn sent(&mut self, ticket: &mut Ticket, now: u64) {
        self.limiter.restamp(&mut ticket.hold, now);
    }

    /// Ends a call whose use is known.
    pub(crate) fn settle(&mut self, ticket: Ticket, usage: &Usage, now: u64) -> Option<Ended> {
        let input = self
            .limiter
            .counted_input(usage.input.0, usage.cached_input.0);
        let run = now.saturating_sub(ticket.hold.at);
        let used = Cost::new(input, usage.output.0);
        self.forecast.ran(run, ticket.hold.cost, used);
        self.estimator
            .learn(ticket.caller, ticket.given, input, usage.output.0);
        let output = usage.output.0;
        self.end(ticket, Settlement::Used { input, output }, now)
    }

    /// Ends a call whose use is not known beyond what was `seen`.
    pub(crate) fn abandon(&mut self, ticket: Ticket, seen: &Usage, now: u64) -> Option<Ended> {
        let input = self
            .limiter
            .counted_input(seen.input.0, seen.cached_input.0);
        let output = seen.output.0;
        self.end(ticket, Settlement::Uncertain { input, output }, now)
    }

    /// Ends a call that the upstream refused before it did any work.
    pub(crate) fn rejected(&mut self, ticket: Ticket, now: u64) -> Option<Ended> {
        self.end(ticket, Settlement::Rejected, now)
    }

    /// Ends a call that was never sent.
    pub(crate) fn refund(&mut self, ticket: Ticket, now: u64) -> Option<Ended> {
        self.end(ticket, Settlement::Unsent, now)
    }

    /// Returns what a shared ledger has to hear, if there is one.
    fn end(&mut self, ticket: Ticket, end: Settlement, now: u64) -> Option<Ended> {
        let sent = !matches!(end, Settlement::Unsent);
        self.estimator.ended(ticket.caller);
        let reserved = ticket.hold.cost;
        let used = self.limiter.settle(ticket.hold, end, now);
        if let Some(served) = ticket.served {
            self.order.correct(served, service(used));
        }
        let seq = ticket.shared?;
        Some(self.limiter.ended(seq, reserved, sent.then_some(used)))
    }

    /// Adopts what an answer's headers said.
    pub(crate) fn observe(&mut self, limits: &ObservedLimits, now: u64) {
        self.limiter.observe(limits, now);
    }

    /// Notes a refusal by the upstream that asks for a pause.
    pub(crate) fn throttled(&mut self, pause: u64, now: u64) {
        self.limiter.refuse(pause, now);
    }

    /// How many calls wait in each band, and how many run.
    pub(crate) fn lengths(&self) -> ([usize; BANDS], u32) {
        let waiting = std::array::from_fn(|band| self.order.band_len(band));
        (waiting, self.limiter.running)
    }

    /// What an operator sees.
    pub(crate) fn snapshot(&mut self, now: u64) -> QueueSnapshot {
        let limiter = &mut self.limiter;
        let mut quota = |kind| {
            let limit = limiter.limit(kind)?;
            let used = limiter.used(kind, now);
            Some(QuotaUse { limit, used })
        };
        let (requests, tokens) = (quota(0), quota(1));
        let (input_tokens, output_tokens) = (quota(2), quota(3));
        let mut waiting = [0; BANDS];
        let mut oldest = [None; BANDS];
        for band in 0..BANDS {
            waiting[band] = self.order.band_len(band);
            oldest[band] = self
                .order
                .oldest(band)
                .map(|arrived| Duration::from_nanos(now.saturating_sub(arrived)));
        }
        let paused = self.limiter.throttle.paused_until().saturating_sub(now);
        QueueSnapshot {
            waiting: self.order.len(),
            waiting_by_band: waiting,
            oldest_by_band: oldest,
            running: self.limiter.running,
            concurrency: self.limiter.concurrency(),
            requests,
            tokens,
            input_tokens,
            output_tokens,
            share: self.limiter.throttle.share(),
            paused: (paused > 0).then(|| Duration::from_nanos(paused)),
        }
    }

    fn outlook(&mut self, index: Index, now: u64) -> Option<(Place, Outlook)> {
        let place = self.order.place(index, now)?;
        let waiting = (self.order.len() as u64).max(1);
        let mean = self.wanted.over(waiting);
        let outlook = self.forecast.outlook(&mut self.limiter, place, mean, now);
        Some((place, outlook))
    }

    fn forget_deadline(&mut self, band: usize, deadline: u64, index: Index) {
        if let Some(deadline) = known(deadline) {
            self.deadlines[band].remove(&(deadline, index));
        }
    }
}

#[cfg(test)]
mod tests;
