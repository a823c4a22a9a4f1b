//! The events of people who ask.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use lyceum_core::{Priority, Scope, Tokens, Usage};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Outcome, People};
use crate::{
    Ask, Estimate, OutputCounted, QueueConfig,
    admission::{Admission, Admitted, Decision, Ticket},
    simulation::{crowd::scope, judge::Judge, percentile},
};

/// The call of a round that goes ahead of others: the host's.
const HOST: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A person asks a question.
    Question(usize),
    /// A call of the person's answer with this number is due.
    Due(usize, u64, u32),
    /// A call ends.
    End(usize),
    /// An endpoint wanted to be asked again.
    Wake(usize),
}

/// The answer that a person waits for.
#[derive(Debug, Default)]
struct Answer {
    number: u64,
    began: u64,
    rounds: u32,
    /// Calls of the round that are not done.
    open: u32,
    is_open: bool,
}

struct Call {
    person: usize,
    answer: u64,
    role: u32,
    endpoint: usize,
    usage: Usage,
    way: u64,
    run: u64,
    back: u64,
    ticket: Option<Ticket>,
}

struct Endpoint {
    admission: Admission,
    /// Requests, tokens, input tokens, output tokens.
    judges: [Judge; 4],
    busy: u32,
    wake: Option<u64>,
}

/// A number over the time that is measured.
#[derive(Debug)]
struct Level {
    now: u64,
    since: u64,
    area: f64,
    from: u64,
    to: u64,
}

impl Level {
    fn new(from: u64, to: u64) -> Self {
        Self {
            now: 0,
            since: from,
            area: 0.0,
            from,
            to,
        }
    }

    fn set(&mut self, value: u64, at: u64) {
        let at = at.clamp(self.from, self.to);
        self.area += self.now as f64 * (at - self.since) as f64;
        (self.now, self.since) = (value, at);
    }

    fn up(&mut self, at: u64) {
        self.set(self.now + 1, at);
    }

    fn down(&mut self, at: u64) {
        self.set(self.now.saturating_sub(1), at);
    }

    fn mean(&mut self) -> f64 {
        self.set(self.now, self.to);
        self.area / (self.to - self.from).max(1) as f64
    }
}

pub(super) struct Run {
    config: QueueConfig,
    people: People,
    from: u64,
    to: u64,
    random: StdRng,
    scopes: Vec<Scope>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
    answers: Vec<Answer>,
    calls: Vec<Call>,
    endpoints: Vec<Endpoint>,
    took: Vec<u64>,
    waits: Vec<u64>,
    failed: u64,
    sent: u64,
    /// Answers under way that count.
    measured: u64,
    waiting: Level,
    running: Level,
    under_way: Level,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Run {
    pub(super) fn new(config: QueueConfig, people: &People, from: u64, to: u64) -> Self {
        let number = people.people.max(1);
        let endpoint = || Endpoint {
            admission: Admission::new(config, 0),
            judges: Default::default(),
            busy: 0,
            wake: None,
        };
        let mut run = Self {
            config,
            people: people.clone(),
            from,
            to,
            random: StdRng::seed_from_u64(people.seed),
            scopes: (0..number).filter_map(|person| scope(0, person)).collect(),
            events: BinaryHeap::new(),
            scheduled: 0,
            answers: (0..number).map(|_| Answer::default()).collect(),
            calls: Vec::new(),
            endpoints: (0..people.endpoints.max(1)).map(|_| endpoint()).collect(),
            took: Vec::new(),
            waits: Vec::new(),
            failed: 0,
            sent: 0,
            measured: 0,
            waiting: Level::new(from, to),
            running: Level::new(from, to),
            under_way: Level::new(from, to),
        };
        // Nobody begins at the same time as the others.
        let spread = 2.0 * nanos(people.think).max(1_000_000_000) as f64;
        for person in 0..run.answers.len() {
            let at = spread * run.random.random::<f64>();
            run.schedule(at as u64, Event::Question(person));
        }
        run
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    pub(super) fn until_the_end(&mut self) {
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            // What began in time is seen to its end, under the same load.
            if now >= self.to && self.measured == 0 {
                return;
            }
            match event {
                Event::Question(person) => self.question(person, now),
                Event::Due(person, answer, role) => self.due(person, answer, role, now),
                Event::End(call) => self.end(call, now),
                Event::Wake(endpoint) => {
                    // A later wish took the place of this one.
                    if self.endpoints[endpoint].wake == Some(now) {
                        self.endpoints[endpoint].wake = None;
                        self.decide(endpoint, now);
                    }
                }
            }
        }
    }

    fn question(&mut self, person: usize, now: u64) {
        let rounds = self.rounds();
        let answer = &mut self.answers[person];
        answer.number += 1;
        answer.began = now;
        answer.rounds = rounds;
        answer.is_open = true;
        self.measured += u64::from(self.counts(now));
        self.under_way.up(now);
        let uses_tools = self.random.random::<f64>() < self.people.tools;
        let tools = if uses_tools {
            nanos(self.people.tool_time)
        } else {
            0
        };
        self.round(person, now + tools);
    }

    /// Whether what happens at this time is measured.
    fn counts(&self, at: u64) -> bool {
        (self.from..self.to).contains(&at)
    }

    fn rounds(&mut self) -> u32 {
        let shares = self.people.rounds;
        let mut drawn = self.random.random::<f64>() * shares.iter().sum::<f64>();
        for (round, share) in (1..).zip(shares) {
            drawn -= share;
            if drawn < 0.0 {
                return round;
            }
        }
        3
    }

    fn round(&mut self, person: usize, at: u64) {
        let answer = &mut self.answers[person];
        answer.rounds -= 1;
        answer.open = self.people.calls.max(1);
        let number = answer.number;
        self.schedule(at, Event::Due(person, number, 0));
    }

    fn due(&mut self, person: usize, answer: u64, role: u32, now: u64) {
        if !self.is_waited_for(person, answer) {
            return;
        }
        if self.random.random::<f64>() < self.people.cached {
            if role + 1 < self.people.calls {
                self.schedule(now, Event::Due(person, answer, role + 1));
            }
            return self.done(person, now);
        }
        let at = self.pick();
        let call = self.call(person, answer, role, at);
        let declared = Estimate::new(
            (call.usage.input.0 as f64 * self.random.random_range(0.9..1.1)) as u64,
            self.people.max_output,
        );
        let ask = Ask {
            priority: if role == HOST {
                Priority::High
            } else {
                Priority::Normal
            },
            ..Ask::new(self.scopes[person].clone(), declared)
        };
        let deadline = self.answers[person].began + nanos(self.people.patience);
        let owner = self.calls.len();
        self.calls.push(call);
        let endpoint = &mut self.endpoints[at];
        endpoint.busy += 1;
        match endpoint.admission.enqueue(ask, Some(deadline), owner, now) {
            Ok(Admitted::Now(ticket)) => self.start(owner, ticket, now),
            Ok(Admitted::Waiting(_)) => self.waiting.up(now),
            Err(_) => {
                endpoint.busy -= 1;
                self.fail(person, now);
            }
        }
        self.decide(at, now);
    }

    fn is_waited_for(&self, person: usize, answer: u64) -> bool {
        let current = &self.answers[person];
        current.number == answer && current.is_open
    }

    /// The less busy of two endpoints.
    fn pick(&mut self) -> usize {
        let number = self.endpoints.len();
        let one = self.random.random_range(0..number);
        let other = self.random.random_range(0..number);
        if self.endpoints[other].busy < self.endpoints[one].busy {
            other
        } else {
            one
        }
    }

    fn call(&mut self, person: usize, answer: u64, role: u32, endpoint: usize) -> Call {
        let input = self.people.input as f64 * self.random.random_range(0.5..1.5);
        let output = self.people.output as f64 * self.exponential();
        let output = (output as u64).clamp(1, self.people.max_output.max(1));
        let longest = nanos(self.people.way) as f64;
        Call {
            person,
            answer,
            role,
            endpoint,
            usage: Usage {
                input: Tokens(input as u64),
                output: Tokens(output),
                ..Usage::default()
            },
            way: (longest * self.random.random::<f64>()) as u64,
            run: nanos(self.people.first_token) + (output as f64 / self.people.speed * 1e9) as u64,
            back: (longest * self.random.random::<f64>()) as u64,
            ticket: None,
        }
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.random.random::<f64>()).ln()
    }

    fn decide(&mut self, at: usize, now: u64) {
        loop {
            match self.endpoints[at].admission.next(now) {
                Decision::Grant(owner, ticket) => {
                    self.waiting.down(now);
                    self.start(owner, ticket, now);
                }
                Decision::Expired(owner) => {
                    self.waiting.down(now);
                    self.endpoints[at].busy -= 1;
                    let call = &self.calls[owner];
                    let (person, answer) = (call.person, call.answer);
                    if self.is_waited_for(person, answer) {
                        self.fail(person, now);
                    }
                }
                Decision::Ask(..) | Decision::Wait(None) => return,
                Decision::Wait(Some(until)) => {
                    let until = until.max(now + 1);
                    let endpoint = &mut self.endpoints[at];
                    if endpoint.wake.is_none_or(|wake| until < wake || wake <= now) {
                        endpoint.wake = Some(until);
                        self.schedule(until, Event::Wake(at));
                    }
                    return;
                }
            }
        }
    }

    fn start(&mut self, owner: usize, ticket: Ticket, now: u64) {
        let call = &self.calls[owner];
        let (person, answer, role) = (call.person, call.answer, call.role);
        let sent = now + call.way;
        let done = sent + call.run;
        if self.counts(now) {
            self.waits.push(ticket.waited);
            self.sent += 1;
        }
        let (input, output) = (call.usage.input.0, call.usage.output.0);
        let declared = input + self.people.max_output;
        let endpoint = &mut self.endpoints[call.endpoint];
        let [requests, tokens, inputs, outputs] = &mut endpoint.judges;
        requests.arrives(sent, 1);
        inputs.arrives(sent, input);
        for (judge, input) in [(tokens, input), (outputs, 0)] {
            match self.config.output_counted {
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
        if role + 1 < self.people.calls {
            let first = nanos(self.people.first_token);
            let rest = call.run.saturating_sub(first) as f64;
            let enough = first + (rest * self.people.overlap.clamp(0.0, 1.0)) as u64;
            let due = sent + enough + call.back;
            self.schedule(due, Event::Due(person, answer, role + 1));
        }
        self.calls[owner].ticket = Some(ticket);
        self.running.up(now);
        self.schedule(settled, Event::End(owner));
    }

    fn end(&mut self, owner: usize, now: u64) {
        let call = &mut self.calls[owner];
        let (person, answer, at) = (call.person, call.answer, call.endpoint);
        if let Some(ticket) = call.ticket.take() {
            let usage = call.usage;
            let endpoint = &mut self.endpoints[at];
            endpoint.busy -= 1;
            endpoint.admission.settle(ticket, &usage, now);
        }
        self.running.down(now);
        if self.is_waited_for(person, answer) {
            self.done(person, now);
        }
        self.decide(at, now);
    }

    /// A call of the person's answer is done.
    fn done(&mut self, person: usize, now: u64) {
        let answer = &mut self.answers[person];
        answer.open -= 1;
        if answer.open > 0 {
            return;
        }
        if answer.rounds > 0 {
            return self.round(person, now);
        }
        let began = answer.began;
        if self.counts(began) {
            self.took.push(now - began);
        }
        self.reads(person, now);
    }

    fn fail(&mut self, person: usize, now: u64) {
        self.failed += u64::from(self.counts(self.answers[person].began));
        self.reads(person, now);
    }

    fn reads(&mut self, person: usize, now: u64) {
        let answer = &mut self.answers[person];
        answer.is_open = false;
        let began = answer.began;
        self.measured -= u64::from(self.counts(began));
        self.under_way.down(now);
        let think = nanos(self.people.think) as f64 * self.exponential();
        self.schedule(now + 1 + think as u64, Event::Question(person));
    }

    pub(super) fn outcome(mut self) -> Outcome {
        let minutes = (self.to - self.from).max(1) as f64 / 60e9;
        let quotas = self.config.quotas;
        let limits = [
            quotas.requests,
            quotas.tokens,
            quotas.input_tokens,
            quotas.output_tokens,
        ];
        let (mut violations, mut used) = (0, [0.0; 4]);
        for endpoint in &self.endpoints {
            for ((judge, limit), used) in endpoint.judges.iter().zip(limits).zip(&mut used) {
                let verdict = judge.verdict(limit, self.from, self.to);
                violations += verdict.violations;
                *used += verdict.used / self.endpoints.len() as f64;
            }
        }
        let waiting = self.waiting.mean();
        let running = self.running.mean();
        let under_way = self.under_way.mean();
        self.took.sort_unstable();
        self.waits.sort_unstable();
        let took = |percent| Duration::from_nanos(percentile(&self.took, percent));
        let wait = |percent| Duration::from_nanos(percentile(&self.waits, percent));
        let answers = self.took.len() as u64;
        let all: u128 = self.took.iter().map(|took| u128::from(*took)).sum();
        let average = all / u128::from(answers.max(1));
        Outcome {
            answers,
            failed: self.failed,
            average: Duration::from_nanos(u64::try_from(average).unwrap_or(u64::MAX)),
            p50: took(50),
            p95: took(95),
            p99: took(99),
            answers_per_minute: answers as f64 / minutes,
            calls_per_minute: self.sent as f64 / minutes,
            wait_p50: wait(50),
            wait_p99: wait(99),
            waiting,
            running,
            under_way,
            quota_used: used.into_iter().fold(0.0, f64::max),
            violations,
        }
    }
}
