//! Properties of the queue for any sequence of events.

use std::collections::{BTreeMap, BTreeSet};

use lyceum_core::{Priority, Scope, SessionId, TenantId, Tokens, Usage};
use proptest::prelude::*;

use super::*;
use crate::{ObservedLimit, OutputCounted, Quotas};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const JITTER: u64 = SECOND / 2;

fn ask(tenant: u8, session: u8, priority: Priority, estimate: Estimate) -> Ask {
    let scope = Scope {
        tenant: TenantId::new(tenant.to_string()).unwrap(),
        ..Scope::local()
    };
    let session = SessionId::new(session.to_string()).unwrap();
    Ask {
        priority,
        ..Ask::new(scope.with_session(session), estimate)
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive {
        tenant: u8,
        session: u8,
        band: u8,
        input: u64,
        output: u64,
        patience: Option<u64>,
    },
    Pass(u64),
    /// Settles the n-th running call with this share of what it reserved.
    Settle(usize, f64),
    Drop(usize),
    Refund(usize),
    Cancel {
        tenant: u8,
        session: u8,
    },
    Leave(usize),
    Throttle(u64),
    /// The upstream reports a quota of this kind, which others use too by this share of
    /// what is left, and that it is whole again after this time.
    Observe(usize, f64, Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    let arrive = (0..3_u8, 0..4_u8, 0..3_u8, 0..400_u64, 0..200_u64);
    prop_oneof![
        8 => (arrive, prop::option::weighted(0.3, 1..90_u64)).prop_map(
            |((tenant, session, band, input, output), patience)| Step::Arrive {
                tenant, session, band, input, output,
                patience: patience.map(|seconds| seconds * SECOND),
            }
        ),
        4 => (0..20 * SECOND).prop_map(Step::Pass),
        6 => (any::<usize>(), 0.0..=1.0).prop_map(|(n, share)| Step::Settle(n, share)),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::Refund),
        1 => (0..3_u8, 0..4_u8).prop_map(|(tenant, session)| Step::Cancel { tenant, session }),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => (0..5 * SECOND).prop_map(Step::Throttle),
        2 => (0..4_usize, 0.0..=1.0, prop::option::of(0..MINUTE))
            .prop_map(|(kind, share, reset)| Step::Observe(kind, share, reset)),
    ]
}

fn counted() -> impl Strategy<Value = OutputCounted> {
    prop_oneof![
        Just(OutputCounted::Unknown),
        Just(OutputCounted::AtEnd),
        Just(OutputCounted::AtStart),
        Just(OutputCounted::Declared),
    ]
}

fn quotas() -> impl Strategy<Value = Quotas> {
    let limit = |range| prop::option::of(range);
    (
        limit(1..40_u64),
        limit(600..4_000_u64),
        limit(400..3_000_u64),
        limit(200..2_000_u64),
        prop::option::of(1..8_u32),
    )
        .prop_map(
            |(requests, tokens, input_tokens, output_tokens, concurrency)| Quotas {
                requests,
                tokens,
                input_tokens,
                output_tokens,
                concurrency,
            },
        )
}

/// A call at the upstream: when it arrives there and ends, and what it uses.
#[derive(Debug)]
struct Sent {
    at: u64,
    end: u64,
    input: u64,
    output: u64,
}

struct World {
    admission: Admission,
    quotas: Quotas,
    now: u64,
    asked: usize,
    /// Deadlines of waiting calls by owner.
    waiting: BTreeMap<Owner, (Index, Option<u64>)>,
    running: Vec<(Ticket, u64)>,
    sent: Vec<Sent>,
    outcomes: BTreeSet<Owner>,
}

impl World {
    fn new(quotas: Quotas, output_counted: OutputCounted) -> Self {
        let config = QueueConfig {
            quotas,
            output_counted,
            learn_estimates: false,
            capacity: 200,
            ..QueueConfig::default()
        };
        Self {
            admission: Admission::new(config, 0),
            quotas,
            now: 0,
            asked: 0,
            waiting: BTreeMap::new(),
            running: Vec::new(),
            sent: Vec::new(),
            outcomes: BTreeSet::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Arrive {
                tenant,
                session,
                band,
                input,
                output,
                patience,
            } => {
                let priority = [Priority::High, Priority::Normal, Priority::Low][usize::from(band)];
                let ask = ask(tenant, session, priority, Estimate::new(input, output));
                let deadline = patience.map(|patience| self.now + patience);
                let owner = self.asked;
                self.asked += 1;
                match self.admission.enqueue(ask, deadline, owner, self.now) {
                    Ok(Admitted::Now(ticket)) => self.start(owner, ticket),
                    Ok(Admitted::Waiting(index)) => {
                        self.waiting.insert(owner, (index, deadline));
                    }
                    Err(_) => {}
                }
            }
            Step::Pass(time) => self.pass(self.now + time),
            Step::Settle(n, share) if !self.running.is_empty() => {
                let (ticket, sent_at) = self.running.swap_remove(n % self.running.len());
                let cost = ticket.hold.cost;
                let part = |tokens: u64| (tokens as f64 * share) as u64;
                let usage = Usage {
                    input: Tokens(part(cost.input)),
                    output: Tokens(part(cost.output)),
                    ..Usage::default()
                };
                self.send(sent_at, usage.input.0, usage.output.0);
                self.admission.settle(ticket, &usage, self.now);
            }
            Step::Drop(n) if !self.running.is_empty() => {
                let (ticket, sent_at) = self.running.swap_remove(n % self.running.len());
                let cost = ticket.hold.cost;
                self.send(sent_at, cost.input, cost.output);
                self.admission.abandon(ticket, &Usage::default(), self.now);
            }
            Step::Refund(n) if !self.running.is_empty() => {
                let (ticket, _) = self.running.swap_remove(n % self.running.len());
                self.admission.refund(ticket, self.now);
            }
            Step::Cancel { tenant, session } => {
                let one = Estimate::new(1, 1);
                let scope = ask(tenant, session, Priority::Normal, one).scope;
                for owner in self.admission.cancel(&scope) {
                    assert!(self.waiting.remove(&owner).is_some());
                    assert!(self.outcomes.insert(owner));
                }
            }
            Step::Leave(n) if !self.waiting.is_empty() => {
                let owner = *self.waiting.keys().nth(n % self.waiting.len()).unwrap();
                let (index, _) = self.waiting.remove(&owner).unwrap();
                assert_eq!(self.admission.remove(index), Some(owner));
                assert!(self.outcomes.insert(owner));
            }
            Step::Throttle(pause) => self.admission.throttled(pause, self.now),
            Step::Observe(kind, share, reset) => self.observe(kind, share, reset),
            Step::Settle(..) | Step::Drop(_) | Step::Refund(_) | Step::Leave(_) => {}
        }
        self.decide();
    }

    /// Tells what an upstream would say that counts what calls make when they arrive.
    fn observe(&mut self, kind: usize, foreign: f64, reset: Option<u64>) {
        let quotas = self.quotas;
        let limits = [
            quotas.requests,
            quotas.tokens,
            quotas.input_tokens,
            quotas.output_tokens,
        ];
        let Some(limit) = limits[kind] else { return };
        let begun = |sent: &&Sent| sent.at <= self.now && self.now < sent.at + MINUTE;
        let amount = |sent: &Sent| [1, sent.input + sent.output, sent.input, sent.output][kind];
        let own: u64 = self.sent.iter().filter(begun).map(amount).sum();
        let left = limit.saturating_sub(own);
        let remaining = left - (left as f64 * foreign) as u64;
        let seen = ObservedLimit {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: reset.map(Duration::from_nanos),
        };
        let mut limits = ObservedLimits::default();
        match kind {
            0 => limits.requests = seen,
            1 => limits.tokens = seen,
            2 => limits.input_tokens = seen,
            _ => limits.output_tokens = seen,
        }
        self.admission.observe(&limits, self.now);
    }

    /// The call reaches the upstream at any time within the jitter after it was let go.
    fn send(&mut self, at: u64, input: u64, output: u64) {
        self.sent.push(Sent {
            at,
            end: self.now.max(at),
            input,
            output,
        });
    }

    fn start(&mut self, owner: Owner, ticket: Ticket) {
        assert!(self.outcomes.insert(owner), "granted twice");
        let way = (owner as u64 * 7_919) % JITTER;
        self.running.push((ticket, self.now + way));
        let limit = self.quotas.concurrency.map_or(usize::MAX, |c| c as usize);
        assert!(self.running.len() <= limit);
    }

    fn decide(&mut self) -> Option<u64> {
        loop {
            match self.admission.next(self.now) {
                Decision::Ask(..) => panic!("no ledger is shared"),
                Decision::Grant(owner, ticket) => {
                    let (_, deadline) = self.waiting.remove(&owner).unwrap();
                    assert!(deadline.is_none_or(|deadline| self.now < deadline));
                    self.start(owner, ticket);
                }
                Decision::Expired(owner) => {
                    let (_, deadline) = self.waiting.remove(&owner).unwrap();
                    assert!(deadline.unwrap() <= self.now);
                    assert!(self.outcomes.insert(owner));
                }
                Decision::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now));
                    return until;
                }
            }
        }
    }

    /// Lets time pass, with every decision at its time.
    fn pass(&mut self, until: u64) {
        while let Some(next) = self.decide().filter(|next| *next < until) {
            self.now = next;
        }
        self.now = until;
    }

    /// Settles everything until nobody waits.
    fn drain(&mut self) {
        let mut rounds = 0;
        while !self.waiting.is_empty() || !self.running.is_empty() {
            while !self.running.is_empty() {
                self.apply(Step::Settle(0, 1.0));
            }
            self.pass(self.now + 5 * SECOND);
            rounds += 1;
            assert!(rounds < 10_000, "{} calls starve", self.waiting.len());
        }
    }

    fn judge(&self, limit: Option<u64>, counted: impl Fn(&Sent) -> Vec<(u64, u64)>) {
        let Some(limit) = limit else { return };
        let mut all: Vec<(u64, u64)> = self.sent.iter().flat_map(counted).collect();
        all.sort_unstable();
        let (mut oldest, mut sum) = (0, 0);
        for (at, amount) in &all {
            sum += amount;
            while all[oldest].0 + MINUTE <= *at {
                sum -= all[oldest].1;
                oldest += 1;
            }
            assert!(sum <= limit, "{sum} of {limit} in the minute before {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever happens and whatever its headers say of others, an upstream that counts exact sliding minutes sees no excess,
    /// whether it counts output at the start or at the end of a call; every call has
    /// exactly one outcome; and nothing starves or leaks.
    #[test]
    fn quotas_hold_and_every_call_has_one_outcome(
        quotas in quotas(),
        counted in counted(),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new(quotas, counted);
        for step in steps {
            world.apply(step);
        }
        world.drain();
        world.judge(quotas.requests, |sent| vec![(sent.at, 1)]);
        world.judge(quotas.input_tokens, |sent| vec![(sent.at, sent.input)]);
        if counted != OutputCounted::AtEnd {
            world.judge(quotas.output_tokens, |sent| vec![(sent.at, sent.output)]);
            world.judge(quotas.tokens, |sent| vec![(sent.at, sent.input + sent.output)]);
        }
        if counted == OutputCounted::Unknown {
            world.judge(quotas.output_tokens, |sent| vec![(sent.end, sent.output)]);
            world.judge(quotas.tokens, |sent| vec![(sent.at, sent.input), (sent.end, sent.output)]);
        }
        let later = world.now + 2 * MINUTE;
        let snapshot = world.admission.snapshot(later);
        prop_assert_eq!((snapshot.waiting, snapshot.running), (0, 0));
        for quota in [snapshot.requests, snapshot.tokens, snapshot.input_tokens] {
            prop_assert_eq!(quota.map_or(0, |quota| quota.used), 0);
        }
    }
}

/// A queue of one slot whose holder is returned, so that everything else waits.
fn busy(config: QueueConfig) -> (Admission, Ticket) {
    let quotas = Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    };
    let mut admission = Admission::new(QueueConfig { quotas, ..config }, 0);
    let ask = ask(0, 0, Priority::High, Estimate::new(1, 1));
    match admission.enqueue(ask, None, 0, 0) {
        Ok(Admitted::Now(ticket)) => (admission, ticket),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_low_call_is_served_amid_endless_high_ones() {
    let (mut admission, mut ticket) = busy(QueueConfig::default());
    let one = Estimate::new(1, 1);
    admission
        .enqueue(ask(1, 1, Priority::Low, one), None, 1, 0)
        .unwrap();
    for round in 1..1_000 {
        let now = round * SECOND;
        let owner = round as usize + 1;
        // Another conversation each time: none of them is ahead of its share.
        let high = ask(0, (round % 200) as u8, Priority::High, one);
        admission.enqueue(high, None, owner, now).unwrap();
        admission.settle(ticket, &Usage::default(), now);
        match admission.next(now) {
            Decision::Grant(1, _) => {
                assert!((30..=40).contains(&round), "served after {round} s");
                return;
            }
            Decision::Grant(_, next) => ticket = next,
            other => panic!("{other:?}"),
        }
    }
    panic!("the low call starved");
}

#[test]
fn one_conversations_high_calls_do_not_starve_the_normal_calls_of_others() {
    let (mut admission, mut ticket) = busy(QueueConfig::default());
    let estimate = Estimate::new(100, 100);
    let used = Usage {
        input: Tokens(100),
        output: Tokens(100),
        ..Usage::default()
    };
    for other in 1..10 {
        for call in 0..50 {
            let normal = ask(0, other, Priority::Normal, estimate);
            let owner = usize::from(other) * 1_000 + call;
            admission.enqueue(normal, None, owner, 0).unwrap();
        }
    }
    let mut greedy = 0;
    for round in 1..=100 {
        let high = ask(0, 0, Priority::High, estimate);
        admission.enqueue(high, None, 1, round).unwrap();
        admission.settle(ticket, &used, round);
        let Decision::Grant(owner, next) = admission.next(round) else {
            panic!("the slot is free");
        };
        greedy += usize::from(owner == 1);
        ticket = next;
    }
    assert!(
        (10..=20).contains(&greedy),
        "{greedy} of 100 for one of ten"
    );
}

#[test]
fn a_refused_call_counts_as_a_request_and_for_no_token() {
    let quotas = Quotas {
        requests: Some(10),
        tokens: Some(10_000),
        output_tokens: Some(5_000),
        ..Quotas::default()
    };
    for output_counted in [
        OutputCounted::Unknown,
        OutputCounted::AtEnd,
        OutputCounted::AtStart,
        OutputCounted::Declared,
    ] {
        let config = QueueConfig {
            quotas,
            output_counted,
            ..QueueConfig::default()
        };
        let mut admission = Admission::new(config, 0);
        let ask = ask(0, 0, Priority::Normal, Estimate::new(100, 100));
        let Ok(Admitted::Now(ticket)) = admission.enqueue(ask, None, 0, 0) else {
            panic!("there is room");
        };
        admission.rejected(ticket, SECOND);
        let snapshot = admission.snapshot(SECOND);
        let used = [snapshot.requests, snapshot.tokens, snapshot.output_tokens];
        let used = used.map(|quota| quota.unwrap().used);
        assert_eq!(used, [1, 0, 0], "{output_counted:?}");
    }
}
