//! One process at a ledger, as a pure state machine: whom to ask, and what to do alone.
//!
//! While the ledger is out of reach the process spends its share: it goes on from what
//! the ledger said last, counts everything it starts as often as there are processes, and
//! keeps a tenth back for what it cannot know. What it spent so is reported before it
//! asks again. Invariant: a call that was granted is remembered until the ledger knows of
//! its end. Times are nanoseconds. Deliberately absent: clocks, tasks, the ledger.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Beyond, Claim, Ended, Join, Kinds, LedgerTerms, Note, ReplicaId, RunningCall, SharedConfig,
    Standing, Verdict, spends::Spends,
};
use crate::{
    driver::nanos,
    window::{Room, Window},
};

/// Of the quota, the part that is spent while processes do not know of each other.
const ALONE: f64 = 0.9;
/// When to ask again while the ledger is about to be there.
const SOON: u64 = 5_000_000;
/// When to look again for a free slot.
const POLL: u64 = 50_000_000;

/// What a call needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need {
    pub(crate) counted: Kinds<u64>,
    pub(crate) held: Kinds<u64>,
    pub(crate) limits: Kinds<Option<u64>>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) beyond: Beyond,
    pub(crate) band: u8,
    pub(crate) flows: u32,
}

/// What becomes of a need.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Step {
    /// Ask the ledger.
    Ask(Claim),
    /// It may start under this number.
    Granted(u64),
    /// Not yet.
    Later { after: Duration, paused: bool },
}

/// What to do for the ledger's sake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Tell(Note),
    Beat,
    Join(Join),
    Sleep(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Lost, or not yet tried: to be tried at this time.
    Out {
        probe: u64,
        tried: bool,
    },
    /// It answers; it has to hear the news first.
    Joining,
    In,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    at: u64,
    counted: Kinds<u64>,
    held: Kinds<u64>,
    /// Started alone, and not reported yet.
    alone: bool,
    ended: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Replica {
    id: ReplicaId,
    config: SharedConfig,
    terms: LedgerTerms,
    state: State,
    epoch: Option<u64>,
    seq: u64,
    calls: BTreeMap<u64, Held>,
    ended: Vec<Ended>,
    pause: Option<u64>,
    whole: Spends,
    fresh: Spends,
    standing: Standing,
    stood: u64,
    beat: u64,
    /// Windows of the time alone.
    alone: Option<Kinds<Window>>,
    /// Of the calls in flight, as heard last.
    beyond: Beyond,
}

impl Replica {
    pub(crate) fn new(id: ReplicaId, config: SharedConfig, terms: LedgerTerms) -> Self {
        let length = nanos(terms.window);
        Self {
            id,
            config,
            terms,
            state: State::Out {
                probe: 0,
                tried: false,
            },
            epoch: None,
            seq: 0,
            calls: BTreeMap::new(),
            ended: Vec::new(),
            pause: None,
            whole: Spends::new(length),
            fresh: Spends::new(length),
            standing: Standing::default(),
            stood: 0,
            beat: 0,
            alone: None,
            beyond: Beyond::default(),
        }
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.id
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.state == State::In
    }

    /// Whether the ledger was tried and did not answer.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self.state, State::Out { tried: true, .. })
    }

    /// What the ledger said last.
    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The processes that share the quota, as far as is known.
    pub(crate) fn replicas(&self) -> u32 {
        self.standing.replicas.max(self.config.replicas).max(1)
    }

    /// What to do for a call that wants to start.
    pub(crate) fn want(&mut self, need: &Need, now: u64) -> Step {
        match self.state {
            State::In => {
                self.seq += 1;
                Step::Ask(Claim {
                    replica: self.id,
                    seq: self.seq,
                    counted: need.counted,
                    held: need.held,
                    limits: need.limits,
                    concurrency: need.concurrency,
                    beyond: need.beyond,
                    band: need.band,
                    flows: need.flows,
                })
            }
            State::Joining | State::Out { tried: false, .. } => later(SOON),
            State::Out { .. } => self.want_alone(need, now),
        }
    }

    /// Learns what the ledger said to a claim; `None` when it did not answer.
    pub(crate) fn answered(&mut self, claim: &Claim, said: Option<Verdict>, now: u64) -> Step {
        match said {
            Some(Verdict::Granted) => {
                let counted = masked(&claim.counted, &claim.limits);
                let held = masked(&claim.held, &claim.limits);
                // Lost while it was granted: the next report has to hold it.
                self.start(claim.seq, counted, held, !self.is_linked(), now);
                Step::Granted(claim.seq)
            }
            Some(Verdict::Later { after, paused }) => Step::Later { after, paused },
            Some(Verdict::Unknown) => {
                if self.is_linked() {
                    self.state = State::Joining;
                }
                later(SOON)
            }
            None => {
                self.lose(now);
                later(0)
            }
        }
    }

    fn want_alone(&mut self, need: &Need, now: u64) -> Step {
        let among = self.replicas();
        if let Some(most) = need.concurrency
            && self.running() >= (most / among).max(1)
        {
            return later(POLL);
        }
        let among = u64::from(among);
        let windows = match &mut self.alone {
            Some(windows) => windows,
            none => none.insert(windows_alone(&self.terms, &self.standing, self.stood, now)),
        };
        let mut at = now;
        for (kind, window) in windows.iter_mut().enumerate() {
            let Some(limit) = need.limits[kind] else {
                continue;
            };
            let cost = (need.counted[kind] + need.held[kind]) * among;
            // A call that is larger than a share must not wait for ever.
            window.set_limit(((limit as f64 * ALONE) as u64).max(1));
            match window.room(cost, now) {
                Room::Now => {}
                Room::At(when) => at = at.max(when),
                Room::Settlement => at = at.max(now + POLL),
            }
        }
        if at > now {
            return later((at - now).min(POLL));
        }
        for (kind, window) in windows.iter_mut().enumerate() {
            if need.limits[kind].is_some() {
                window.count(need.counted[kind] * among, now);
                window.hold(need.held[kind] * among, now);
            }
        }
        self.seq += 1;
        let counted = masked(&need.counted, &need.limits);
        let held = masked(&need.held, &need.limits);
        self.start(self.seq, counted, held, true, now);
        Step::Granted(self.seq)
    }

    fn start(&mut self, seq: u64, counted: Kinds<u64>, held: Kinds<u64>, alone: bool, now: u64) {
        self.whole.add(now, &counted);
        if alone {
            self.fresh.add(now, &counted);
        }
        let call = Held {
            at: now,
            counted,
            held,
            alone,
            ended: false,
        };
        self.calls.insert(seq, call);
    }

    fn running(&self) -> u32 {
        self.calls.values().filter(|call| !call.ended).count() as u32
    }

    /// Learns that a call ended.
    pub(crate) fn end(&mut self, mut ended: Ended, beyond: Beyond, now: u64) {
        self.beyond = beyond;
        let Some(call) = self.calls.get_mut(&ended.seq) else {
            return;
        };
        for kind in 0..4 {
            if call.counted[kind] + call.held[kind] == 0 {
                (ended.counted[kind], ended.late[kind]) = (0, 0);
            }
        }
        self.whole.correct(call.at, &call.counted, &ended.counted);
        self.whole.add(now, &ended.late);
        call.ended = true;
        let call = *call;
        if call.alone && matches!(self.state, State::Out { .. }) {
            self.fresh.correct(call.at, &call.counted, &ended.counted);
            self.fresh.add(now, &ended.late);
            self.end_alone(&call, &ended, now);
            self.calls.remove(&ended.seq);
        } else {
            self.ended.push(ended);
        }
    }

    fn end_alone(&mut self, call: &Held, ended: &Ended, now: u64) {
        let among = u64::from(self.replicas());
        let Some(windows) = &mut self.alone else {
            return;
        };
        for (kind, window) in windows.iter_mut().enumerate() {
            let (old, new) = (call.counted[kind] * among, ended.counted[kind] * among);
            if old != new {
                window.correct(call.at, old, new, now);
            }
            window.release(call.held[kind] * among);
            window.count_silently(ended.late[kind] * among, now);
            window.repay(call.held[kind] * among, ended.late[kind] * among);
        }
    }

    /// Learns that the upstream asked for a pause.
    pub(crate) fn pause(&mut self, pause: Duration, now: u64) {
        let until = now.saturating_add(nanos(pause));
        self.pause = Some(self.pause.unwrap_or(0).max(until));
    }

    /// What to do now for the ledger's sake.
    pub(crate) fn work(&mut self, now: u64) -> Work {
        match self.state {
            State::In if !self.ended.is_empty() || self.pause.is_some() => Work::Tell(Note {
                replica: self.id,
                ended: self.ended.clone(),
                pause: self
                    .pause
                    .map(|at| Duration::from_nanos(at.saturating_sub(now))),
                beyond: self.beyond,
            }),
            State::In if now >= self.beat => Work::Beat,
            State::In => Work::Sleep(self.beat),
            State::Out { probe, .. } if now >= probe => Work::Beat,
            State::Out { probe, .. } => Work::Sleep(probe),
            State::Joining => {
                self.seq += 1;
                let age = |at: u64| Duration::from_nanos(now.saturating_sub(at));
                let calls = self.calls.iter().map(|(seq, call)| RunningCall {
                    seq: *seq,
                    counted: call.counted,
                    held: call.held,
                    age: age(call.at),
                });
                Work::Join(Join {
                    replica: self.id,
                    seq: self.seq,
                    epoch: self.epoch,
                    fresh: self.fresh.list(now),
                    whole: self.whole.list(now),
                    calls: calls.collect(),
                })
            }
        }
    }

    /// Learns whether a note arrived.
    pub(crate) fn told(&mut self, note: &Note, arrived: bool, now: u64) {
        if !arrived {
            return self.lose(now);
        }
        self.ended.drain(..note.ended.len());
        for ended in &note.ended {
            self.calls.remove(&ended.seq);
        }
        if note.pause.is_some() {
            self.pause = None;
        }
    }

    /// Learns what became of a beat; the inner `None` is a ledger that does not know it.
    pub(crate) fn beaten(&mut self, said: Option<Option<Standing>>, now: u64) {
        match (said, self.state) {
            (None, _) => self.lose(now),
            (Some(Some(standing)), State::In) => self.stand(standing, now),
            (Some(_), _) => self.state = State::Joining,
        }
    }

    /// Learns what became of a join.
    pub(crate) fn joined(&mut self, said: Option<Standing>, now: u64) {
        let Some(standing) = said else {
            return self.lose(now);
        };
        self.epoch = Some(standing.epoch);
        self.stand(standing, now);
        self.state = State::In;
        self.fresh.clear();
        self.alone = None;
        for call in self.calls.values_mut() {
            call.alone = false;
        }
    }

    fn stand(&mut self, standing: Standing, now: u64) {
        self.standing = standing;
        self.stood = now;
        self.beat = now + nanos(self.config.beat);
    }

    fn lose(&mut self, now: u64) {
        if let State::In = self.state {
            self.alone = None;
        }
        self.state = State::Out {
            probe: now + nanos(self.config.probe),
            tried: true,
        };
    }
}

/// The windows of a process that is left alone, as the ledger described them last.
fn windows_alone(terms: &LedgerTerms, known: &Standing, stood: u64, now: u64) -> Kinds<Window> {
    let length = nanos(terms.window);
    let jitter = nanos(terms.jitter).min(length);
    let mut windows =
        std::array::from_fn(|_| Window::of_length(length, u64::MAX >> 12, 0.0, jitter, now));
    for spent in &known.spent {
        let then = stood.saturating_sub(nanos(spent.age));
        for (kind, window) in windows.iter_mut().enumerate() {
            if spent.amounts[kind] > 0 {
                window.count_late(spent.amounts[kind], then, now);
            }
        }
    }
    windows
}

fn masked(amounts: &Kinds<u64>, limits: &Kinds<Option<u64>>) -> Kinds<u64> {
    std::array::from_fn(|kind| limits[kind].map_or(0, |_| amounts[kind]))
}

fn later(after: u64) -> Step {
    Step::Later {
        after: Duration::from_nanos(after),
        paused: false,
    }
}
