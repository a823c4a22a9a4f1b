//! Capacity planning in virtual time: what a quota would do to a load.
//!
//! The same state machine as in production meets a simulated crowd and an upstream
//! that counts exact sliding minutes; ten minutes of 500 conversations take
//! milliseconds. Deterministic for a seed. Deliberately absent: the async driver.

mod backlog;
mod crowd;
mod judge;
mod people;

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

pub use backlog::Backlog;
pub use crowd::Crowd;
pub use people::{Outcome, People, serve};

use crate::{
    ObservedLimit, ObservedLimits, OutputCounted, QueueConfig,
    admission::{Admission, Admitted, Decision, Ticket},
    window::MINUTE,
};
use crowd::{Call, FIRST_TOKEN, Source};
use judge::{Judge, Verdict};

/// What came of a simulated load. Arrays are ordered high, normal, low.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// Calls that arrived.
    pub offered: u64,
    /// Calls that were let through.
    pub started: u64,
    /// Calls refused on arrival.
    pub refused: u64,
    /// Calls that waited until their deadline passed.
    pub expired: u64,
    /// How full the upstream saw the fullest quota's sliding minute on average, first minute
    /// excluded, 0 to 1.
    pub quota_used: f64,
    /// The fullest that any sliding minute was, as a share of its quota.
    pub fullest: f64,
    /// Calls that arrived when the upstream's sliding minute had no room for them.
    pub violations: u64,
    /// Jain's index of the tokens served to each conversation, 1 when all had the same.
    pub jain: f64,
    /// The wait that half of each band's started calls did not exceed.
    pub wait_p50: [Duration; 3],
    /// The wait that 99 % of each band's started calls did not exceed.
    pub wait_p99: [Duration; 3],
    /// The median of `|forecast - real| / real` of waits above a second, forecast on arrival.
    pub forecast_error: f64,
    /// The share of accepted calls that started before their deadline.
    pub deadline_hits: f64,
    /// The mean of `|reserved - used| / used` in tokens.
    pub reservation_error: f64,
    /// The most calls that waited at one time.
    pub longest_queue: usize,
    /// Decisions made: arrivals, starts and settlements.
    pub decisions: u64,
}

/// Runs a crowd against a queue for `length` of virtual time.
///
/// ```
/// use std::time::Duration;
/// use lyceum_queue::{QueueConfig, Quotas, simulation::{Crowd, simulate}};
///
/// let quotas = Quotas { requests: Some(60), ..Quotas::default() };
/// let config = QueueConfig { quotas, ..QueueConfig::default() };
/// let crowd = Crowd { conversations: 20, calls_per_minute: 120.0, ..Crowd::default() };
/// let report = simulate(config, &crowd, Duration::from_secs(300));
/// assert_eq!(report.violations, 0);
/// ```
#[must_use]
pub fn simulate(config: QueueConfig, crowd: &Crowd, length: Duration) -> Report {
    let end = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let mut run = Run::new(config, crowd);
    run.until(end);
    run.report(end)
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    Begin(usize),
    End(usize),
}

#[derive(Debug)]
struct Running {
    call: usize,
    ticket: Option<Ticket>,
}

struct Run {
    config: QueueConfig,
    source: Source,
    admission: Admission,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    calls: Vec<Call>,
    running: Vec<Running>,
    /// Requests, tokens, input tokens, output tokens.
    judges: [Judge; 4],
    served: Vec<u64>,
    waits: [Vec<u64>; 3],
    forecast_errors: Vec<f64>,
    reservation_error: f64,
    settled: u64,
    refused: u64,
    expired: u64,
    waiting: usize,
    longest: usize,
    decisions: u64,
    headers: bool,
    counted: OutputCounted,
}

impl Run {
    fn new(config: QueueConfig, crowd: &Crowd) -> Self {
        let mut run = Self {
            config,
            source: Source::new(crowd),
            admission: Admission::new(config, 0),
            events: BinaryHeap::new(),
            scheduled: 0,
            calls: Vec::new(),
            running: Vec::new(),
            judges: Default::default(),
            served: vec![0; crowd.conversations as usize],
            waits: Default::default(),
            forecast_errors: Vec::new(),
            reservation_error: 0.0,
            settled: 0,
            refused: 0,
            expired: 0,
            waiting: 0,
            longest: 0,
            decisions: 0,
            headers: crowd.headers,
            counted: crowd.counted.unwrap_or(config.output_counted),
        };
        let first = run.source.gap();
        run.schedule(first, Event::Arrival);
        run
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn until(&mut self, end: u64) {
        let mut wake = None;
        loop {
            let next = self.events.peek().map(|Reverse((at, ..))| *at);
            let now = match (next, wake) {
                (Some(event), Some(wake)) => event.min(wake),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return,
            };
            if now >= end {
                return;
            }
            if next == Some(now)
                && let Some(Reverse((_, _, event))) = self.events.pop()
            {
                match event {
                    Event::Arrival => self.arrive(now),
                    Event::Begin(call) => self.begin(call, now),
                    Event::End(running) => self.settle(running, now),
                }
            }
            wake = self.decide(now);
        }
    }

    fn arrive(&mut self, now: u64) {
        let next = now + self.source.gap();
        self.schedule(next, Event::Arrival);
        let (call, ask) = self.source.call(now);
        let owner = self.calls.len();
        self.decisions += 1;
        let deadline = call.deadline;
        self.calls.push(call);
        match self.admission.enqueue(ask, deadline, owner, now) {
            Ok(Admitted::Now(ticket)) => self.start(owner, ticket, now),
            Ok(Admitted::Waiting(index)) => {
                self.waiting += 1;
                self.longest = self.longest.max(self.waiting);
                let place = self.admission.position(index, now);
                self.calls[owner].forecast = place.and_then(|place| place.estimated_wait);
            }
            Err(_) => self.refused += 1,
        }
    }

    fn decide(&mut self, now: u64) -> Option<u64> {
        loop {
            match self.admission.next(now) {
                Decision::Grant(owner, ticket) => {
                    self.waiting -= 1;
                    self.start(owner, ticket, now);
                }
                Decision::Expired(_) => {
                    self.waiting -= 1;
                    self.expired += 1;
                }
                Decision::Ask(..) => return None,
                Decision::Wait(until) => return until.map(|until| until.max(now + 1)),
            }
        }
    }

    fn start(&mut self, owner: usize, ticket: Ticket, now: u64) {
        self.decisions += 1;
        let call = &self.calls[owner];
        let sent = now + call.way;
        let done = sent + call.run;
        self.waits[ticket.band].push(ticket.waited);
        if let Some(forecast) = call.forecast
            && ticket.waited > 1_000_000_000
        {
            let real = ticket.waited as f64;
            self.forecast_errors
                .push((forecast.as_nanos() as f64 - real).abs() / real);
        }
        let (input, output) = (call.usage.input.0, call.usage.output.0);
        let [requests, tokens, inputs, outputs] = &mut self.judges;
        requests.arrives(sent, 1);
        inputs.arrives(sent, input);
        for (judge, input) in [(tokens, input), (outputs, 0)] {
            let declared = input + call.declared;
            match self.counted {
                OutputCounted::AtStart => {
                    judge.arrives_corrected(sent, declared, done, input + output);
                }
                OutputCounted::ActualAtStart => judge.arrives(sent, input + output),
                OutputCounted::Declared => judge.arrives(sent, declared),
                OutputCounted::AtEnd | OutputCounted::Made | OutputCounted::Unknown => {
                    judge.arrives(sent, input);
                    judge.ends(done, output);
                }
            }
        }
        let settled = done + call.back;
        let total = call.usage.total();
        self.served[call.conversation as usize] += total.0;
        self.reservation_error +=
            ticket.reserved().abs_diff(total.0) as f64 / total.0.max(1) as f64;
        let running = self.running.len();
        let ticket = Some(ticket);
        self.running.push(Running {
            call: owner,
            ticket,
        });
        self.calls[owner].sent = sent;
        if self.headers {
            let begun = sent + FIRST_TOKEN + self.calls[owner].back;
            self.schedule(begun.min(settled), Event::Begin(owner));
        }
        self.schedule(settled, Event::End(running));
    }

    /// What the upstream said when a call arrived.
    fn headers(&self, at: u64) -> ObservedLimits {
        let of = |judge: &Judge, limit: Option<u64>| ObservedLimit {
            limit,
            remaining: limit.map(|limit| limit.saturating_sub(judge.level(at))),
            reset: None,
        };
        let quotas = self.config.quotas;
        let [requests, tokens, inputs, outputs] = &self.judges;
        ObservedLimits {
            requests: of(requests, quotas.requests),
            tokens: of(tokens, quotas.tokens),
            input_tokens: of(inputs, quotas.input_tokens),
            output_tokens: of(outputs, quotas.output_tokens),
        }
    }

    fn begin(&mut self, call: usize, now: u64) {
        let said = self.headers(self.calls[call].sent);
        self.admission.observe(&said, now);
    }

    fn settle(&mut self, running: usize, now: u64) {
        let Running { call, ticket } = &mut self.running[running];
        if let Some(ticket) = ticket.take() {
            self.decisions += 1;
            self.settled += 1;
            self.admission.settle(ticket, &self.calls[*call].usage, now);
        }
    }

    fn report(mut self, end: u64) -> Report {
        let quotas = self.config.quotas;
        let limits = [
            quotas.requests,
            quotas.tokens,
            quotas.input_tokens,
            quotas.output_tokens,
        ];
        let from = MINUTE.min(end / 2);
        let verdicts: Vec<Verdict> = self
            .judges
            .iter()
            .zip(limits)
            .map(|(judge, limit)| judge.verdict(limit, from, end))
            .collect();
        self.waits
            .iter_mut()
            .for_each(|waits| waits.sort_unstable());
        self.forecast_errors.sort_unstable_by(f64::total_cmp);
        let started: u64 = self.waits.iter().map(|waits| waits.len() as u64).sum();
        let wait = |percent| {
            let at = |waits: &Vec<u64>| Duration::from_nanos(percentile(waits, percent));
            [at(&self.waits[0]), at(&self.waits[1]), at(&self.waits[2])]
        };
        Report {
            offered: self.calls.len() as u64,
            started,
            refused: self.refused,
            expired: self.expired,
            quota_used: verdicts.iter().map(|v| v.used).fold(0.0, f64::max),
            fullest: verdicts.iter().map(|v| v.fullest).fold(0.0, f64::max),
            violations: verdicts.iter().map(|v| v.violations).sum(),
            jain: jain(&self.served),
            wait_p50: wait(50),
            wait_p99: wait(99),
            forecast_error: percentile(&self.forecast_errors, 50),
            deadline_hits: started as f64 / (started + self.expired).max(1) as f64,
            reservation_error: self.reservation_error / started.max(1) as f64,
            longest_queue: self.longest,
            decisions: self.decisions,
        }
    }
}

fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * percent / 100)
        .copied()
        .unwrap_or_default()
}

/// Jain, Chiu, Hawe 1984: the square of the sum over n times the sum of squares.
fn jain(served: &[u64]) -> f64 {
    let sum: f64 = served.iter().map(|s| *s as f64).sum();
    let squares: f64 = served.iter().map(|s| (*s as f64).powi(2)).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (served.len() as f64 * squares)
}

#[cfg(test)]
mod tests;
