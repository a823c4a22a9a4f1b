//! The ledger's decisions as a pure state machine: claims and `now` go in, verdicts come out.
//!
//! Invariants: a call is counted once however often its claim is repeated; what ended or
//! was never sent holds nothing; `used <= limit` of every window after each grant.
//! The same algorithm runs inside a store's server. Times are nanoseconds.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    Beyond, Claim, Ended, Join, Kinds, LedgerTerms, Note, ReplicaId, Spent, Standing, Verdict,
};
use crate::{
    driver::nanos,
    window::{Beside, Room, Window},
};

/// How far a replica may be ahead of one that waits, as a share of a window's quota.
const LEAD: f64 = 0.01;
/// Standard deviations that all calls in flight may be above what is likely.
const CONFIDENCE: f64 = 3.5;
/// How long a replica that was told to come back is waited for beyond that.
const PATIENCE: u64 = 100_000_000;
/// The shortest and longest time to the next question where nobody knows better.
const SHORTEST: u64 = 2_000_000;
const LONGEST: u64 = 250_000_000;
/// Bins of a standing.
const BINS: usize = 32;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Book {
    terms: LedgerTerms,
    windows: Kinds<Window>,
    /// As claimed last.
    limits: Kinds<Option<u64>>,
    replicas: BTreeMap<ReplicaId, Peer>,
    calls: HashMap<(ReplicaId, u64), Entry>,
    epoch: u64,
    opens: u64,
    paused_until: u64,
    /// What the last grant's replica had been served.
    served: f64,
}

#[derive(Debug)]
struct Peer {
    beat: u64,
    last: u64,
    /// Shares of windows that it was granted, for each of its conversations.
    served: f64,
    band: u8,
    flows: u32,
    beyond: Beyond,
    /// It waits, and comes back before this time.
    due: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: u64,
    counted: Kinds<u64>,
    held: Kinds<u64>,
}

impl Book {
    /// An empty ledger.
    pub(crate) fn new(terms: LedgerTerms, epoch: u64, now: u64) -> Self {
        let length = nanos(terms.window);
        let jitter = nanos(terms.jitter).min(length);
        let window = || Window::of_length(length, u64::MAX >> 12, terms.burst, jitter, now);
        Self {
            terms,
            windows: std::array::from_fn(|_| window()),
            limits: [None; 4],
            replicas: BTreeMap::new(),
            calls: HashMap::new(),
            epoch,
            opens: now + nanos(terms.grace),
            paused_until: 0,
            served: 0.0,
        }
    }

    pub(crate) fn reserve(&mut self, claim: &Claim, now: u64) -> Verdict {
        self.bury(now);
        let served = self.served;
        let Some(peer) = self.replicas.get_mut(&claim.replica) else {
            return Verdict::Unknown;
        };
        peer.beat = now;
        (peer.band, peer.flows) = (claim.band, claim.flows.max(1));
        peer.beyond = claim.beyond;
        if self.calls.contains_key(&(claim.replica, claim.seq)) {
            return Verdict::Granted;
        }
        if claim.seq <= peer.last {
            return later(SHORTEST, false);
        }
        if now < self.paused_until {
            return later(self.paused_until - now, true);
        }
        if now < self.opens {
            return later(self.opens - now, false);
        }
        if peer.due.is_none_or(|due| due + PATIENCE <= now) {
            // It did not wait: what it did not use before is no claim to more now.
            peer.served = peer.served.max(served - LEAD / f64::from(peer.flows));
        }
        let (mine, band, flows) = (peer.served, peer.band, peer.flows);
        let before_me = self.replicas.iter().filter(|(id, peer)| {
            **id != claim.replica
                && peer.due.is_some_and(|due| due + PATIENCE > now)
                && (peer.band < band
                    || peer.band == band
                        && mine > peer.served + LEAD / f64::from(flows.max(peer.flows)))
        });
        let turn = before_me.filter_map(|(_, peer)| peer.due).min();
        if let Some(due) = turn {
            return self.wait(claim, due.saturating_sub(now) + SHORTEST, now);
        }
        if claim
            .concurrency
            .is_some_and(|most| self.calls.len() >= most as usize)
        {
            return self.wait(claim, LONGEST / 5, now);
        }
        let mut at = now;
        self.limits = claim.limits;
        let beside = self.beside();
        for kind in 0..4 {
            let Some(limit) = claim.limits[kind] else {
                continue;
            };
            self.windows[kind].set_limit(limit);
            let cost = claim.counted[kind] + claim.held[kind];
            let beside = if kind % 2 == 1 {
                beside
            } else {
                Beside::default()
            };
            match self.windows[kind].room_beside(cost, beside, now) {
                Room::Now => {}
                Room::At(when) => at = at.max(when),
                Room::Settlement => at = at.max(now + LONGEST / 5),
            }
        }
        if at > now {
            return self.wait(claim, at - now, now);
        }
        self.grant(claim, now);
        Verdict::Granted
    }

    /// What the calls in flight of all replicas may add.
    fn beside(&self) -> Beside {
        let (mut likely, mut variance) = (0, 0.0);
        for peer in self.replicas.values() {
            likely += peer.beyond.likely;
            variance += peer.beyond.variance as f64;
        }
        Beside {
            most: likely + (CONFIDENCE * variance.sqrt()) as i64,
            likely,
        }
    }

    fn wait(&mut self, claim: &Claim, after: u64, now: u64) -> Verdict {
        let after = after.clamp(SHORTEST, LONGEST);
        if let Some(peer) = self.replicas.get_mut(&claim.replica) {
            peer.due = Some(now + after);
        }
        later(after, false)
    }

    fn grant(&mut self, claim: &Claim, now: u64) {
        let slot = claim.concurrency.map_or(0.0, |most| 0.01 / f64::from(most));
        let share = self.share(&claim.counted, &claim.held).max(slot);
        for kind in 0..4 {
            if claim.limits[kind].is_some() {
                self.windows[kind].count(claim.counted[kind], now);
                self.windows[kind].hold(claim.held[kind], now);
            }
        }
        if let Some(peer) = self.replicas.get_mut(&claim.replica) {
            self.served = peer.served;
            peer.served += share / f64::from(peer.flows);
            // One that waited probably has more to ask, and keeps its turn that long.
            peer.due = peer.due.filter(|due| due + PATIENCE > now).map(|_| now);
            peer.last = claim.seq;
        }
        let masked = |amounts: &Kinds<u64>| {
            std::array::from_fn(|kind| claim.limits[kind].map_or(0, |_| amounts[kind]))
        };
        let entry = Entry {
            at: now,
            counted: masked(&claim.counted),
            held: masked(&claim.held),
        };
        self.calls.insert((claim.replica, claim.seq), entry);
    }

    /// The largest share that amounts have of any quota.
    fn share(&self, some: &Kinds<u64>, more: &Kinds<u64>) -> f64 {
        let amounts = some.iter().zip(more).map(|(a, b)| a + b);
        let shares = amounts.zip(self.limits);
        shares
            .filter_map(|(amount, limit)| Some(amount as f64 / limit?.max(1) as f64))
            .fold(0.0, f64::max)
    }

    pub(crate) fn tell(&mut self, note: &Note, now: u64) {
        if let Some(pause) = note.pause {
            self.paused_until = self.paused_until.max(now.saturating_add(nanos(pause)));
        }
        for ended in &note.ended {
            self.end(note.replica, ended, now);
        }
        if let Some(peer) = self.replicas.get_mut(&note.replica) {
            peer.beyond = note.beyond;
        }
    }

    fn end(&mut self, replica: ReplicaId, ended: &Ended, now: u64) {
        let Some(entry) = self.calls.remove(&(replica, ended.seq)) else {
            // A claim that is still on its way must not be granted any more.
            if let Some(peer) = self.replicas.get_mut(&replica) {
                peer.last = peer.last.max(ended.seq);
            }
            return;
        };
        let unused = self.share(&entry.counted, &entry.held);
        let unused = unused - self.share(&ended.counted, &ended.late);
        if let Some(peer) = self.replicas.get_mut(&replica) {
            peer.served -= unused / f64::from(peer.flows);
        }
        for kind in 0..4 {
            let window = &mut self.windows[kind];
            let (old, held) = (entry.counted[kind], entry.held[kind]);
            if old + held == 0 {
                continue;
            }
            if old != ended.counted[kind] {
                window.correct(entry.at, old, ended.counted[kind], now);
            }
            window.release(held);
            window.count_silently(ended.late[kind], now);
            window.repay(held, ended.late[kind]);
        }
    }

    pub(crate) fn beat(&mut self, replica: ReplicaId, now: u64) -> Option<Standing> {
        self.bury(now);
        self.replicas.get_mut(&replica)?.beat = now;
        Some(self.standing(now))
    }

    pub(crate) fn join(&mut self, join: &Join, now: u64) -> Standing {
        self.bury(now);
        let served = self.served;
        let peer = self.replicas.entry(join.replica).or_insert(Peer {
            beat: now,
            last: 0,
            served,
            band: 0,
            flows: 1,
            beyond: Beyond::default(),
            due: None,
        });
        peer.beat = now;
        if join.seq <= peer.last {
            return self.standing(now);
        }
        peer.last = join.seq;
        let same = join.epoch == Some(self.epoch);
        for spent in if same { &join.fresh } else { &join.whole } {
            let then = now.saturating_sub(nanos(spent.age));
            for kind in 0..4 {
                if spent.amounts[kind] > 0 {
                    self.windows[kind].count_late(spent.amounts[kind], then, now);
                }
            }
        }
        let known = |seq: u64| join.calls.iter().any(|call| call.seq == seq);
        let lost: Vec<u64> = self
            .calls
            .keys()
            .filter(|(replica, seq)| *replica == join.replica && !known(*seq))
            .map(|(_, seq)| *seq)
            .collect();
        for seq in lost {
            self.end(join.replica, &Ended::unsent(seq), now);
        }
        for call in &join.calls {
            let windows = &mut self.windows;
            self.calls
                .entry((join.replica, call.seq))
                .or_insert_with(|| {
                    for (window, held) in windows.iter_mut().zip(call.held) {
                        window.hold(held, now);
                    }
                    Entry {
                        at: now.saturating_sub(nanos(call.age)),
                        counted: call.counted,
                        held: call.held,
                    }
                });
        }
        self.standing(now)
    }

    /// Ends the calls of replicas that are silent for too long, as used in full.
    fn bury(&mut self, now: u64) {
        let limit = nanos(self.terms.dead_after);
        let dead = |peer: &Peer| peer.beat.saturating_add(limit) < now;
        let gone: Vec<ReplicaId> = self
            .replicas
            .iter()
            .filter(|(_, peer)| dead(peer))
            .map(|(id, _)| *id)
            .collect();
        for replica in gone {
            self.replicas.remove(&replica);
            let calls: Vec<(u64, Entry)> = self
                .calls
                .iter()
                .filter(|((id, _), _)| *id == replica)
                .map(|((_, seq), entry)| (*seq, *entry))
                .collect();
            for (seq, entry) in calls {
                let used = Ended {
                    seq,
                    counted: entry.counted,
                    late: entry.held,
                };
                self.end(replica, &used, now);
            }
        }
    }

    fn standing(&mut self, now: u64) -> Standing {
        let length = nanos(self.terms.window) + nanos(self.terms.jitter);
        let width = (length / BINS as u64).max(1);
        let mut bins = [[0; 4]; BINS + 1];
        for (kind, window) in self.windows.iter_mut().enumerate() {
            bins[0][kind] += window.held();
            for (at, amount) in window.counted(now) {
                let bin = (now.saturating_sub(at) / width) as usize;
                bins[bin.min(BINS)][kind] += amount;
            }
        }
        let spent = bins.iter().enumerate().filter(|(_, a)| **a != [0; 4]);
        Standing {
            epoch: self.epoch,
            replicas: self.replicas.len() as u32,
            waiting: self
                .replicas
                .values()
                .filter(|peer| peer.due.is_some_and(|due| due + PATIENCE > now))
                .count() as u32,
            spent: spent
                .map(|(bin, amounts)| Spent {
                    age: Duration::from_nanos(bin as u64 * width),
                    amounts: *amounts,
                })
                .collect(),
        }
    }
}

fn later(after: u64, paused: bool) -> Verdict {
    Verdict::Later {
        after: Duration::from_nanos(after),
        paused,
    }
}
