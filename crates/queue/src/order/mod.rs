//! Who is served next: bands, inside them tenants, inside those conversations.
//!
//! A higher band goes first, except that one of every `aged_turn` calls goes to a lower
//! band whose first arrival waits longer than the ageing time, so that nothing starves.
//! Inside a band [`shares`] decides. Every step is logarithmic in the waiting calls.
//! Deliberately absent: quotas and clocks.

mod course;
mod few;
mod ranked;
mod shares;

use std::collections::VecDeque;

use lyceum_core::{Priority, SessionId, TenantId, UserId};
use slab::Slab;

use shares::{FlowId, Shares, Turn};

/// A waiting call's index; reused after the call has left.
pub(crate) type Index = u32;

pub(crate) const BANDS: usize = 3;

/// Who asks: a tenant, and in it a conversation or else a user.
pub(crate) type Asker = (TenantId, UserId, Option<SessionId>);

pub(crate) fn band_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// What decides a call's place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency {
    pub(crate) band: usize,
    pub(crate) critical: u32,
    /// The tenant's share.
    pub(crate) weight: u32,
    /// Tokens that the call counts for, at most `u32::MAX`.
    pub(crate) service: u64,
    pub(crate) arrived: u64,
}

/// Where a waiting call stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) band: usize,
    /// How many calls of its band are before it.
    pub(crate) in_band: usize,
    /// How many calls are served before it if nothing else arrives.
    pub(crate) ahead: usize,
    /// Nanoseconds until its turn if all goes on as it did of late, zero if that is not known.
    pub(crate) until: u64,
}

/// A waiting call.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) band: u8,
    /// Its number; a flow in which calls wait is not forgotten.
    flow: u32,
    service: u32,
    uncritical: u32,
    sequence: u64,
    pub(crate) arrived: u64,
    pub(crate) payload: T,
}

impl<T> Entry<T> {
    fn turn(&self) -> Turn {
        Turn {
            uncritical: self.uncritical,
            sequence: self.sequence,
        }
    }
}

/// Whom a call was served for, to correct the charge at settlement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    flow: FlowId,
    service: u64,
}

#[derive(Debug, Default)]
struct Band {
    len: usize,
    /// Arrivals in order, those that left included until they are met.
    arrivals: VecDeque<(u64, Index)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Order<T> {
    bands: [Band; BANDS],
    shares: Shares,
    entries: Slab<Entry<T>>,
    sequence: u64,
    /// Calls that went before a waiting lower band since one of those had its turn.
    since_aged: u32,
    ageing: u64,
    aged_turn: u32,
}

impl<T> Order<T> {
    pub(crate) fn new(ageing: u64, aged_turn: u32) -> Self {
        Self {
            bands: Default::default(),
            shares: Shares::default(),
            entries: Slab::new(),
            sequence: 0,
            since_aged: 0,
            ageing,
            aged_turn: aged_turn.max(2),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// About how many conversations have calls that wait.
    pub(crate) fn flows(&self) -> usize {
        self.shares.flows().min(self.len()).max(1)
    }

    pub(crate) fn band_len(&self, band: usize) -> usize {
        self.bands[band].len
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry<T>> {
        self.entries.get(index as usize)
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut Entry<T>> {
        self.entries.get_mut(index as usize)
    }

    /// When the band's first arrival came.
    pub(crate) fn oldest(&mut self, band: usize) -> Option<u64> {
        let arrivals = &mut self.bands[band].arrivals;
        while let Some((sequence, index)) = arrivals.front() {
            match self.entries.get(*index as usize) {
                Some(entry) if entry.sequence == *sequence => return Some(entry.arrived),
                _ => arrivals.pop_front(),
            };
        }
        None
    }

    /// Adds a call.
    pub(crate) fn insert(&mut self, asker: Asker, urgency: Urgency, payload: T) -> Index {
        self.sequence += 1;
        let sequence = self.sequence;
        let turn = Turn::new(urgency.critical, sequence);
        let vacant = self.entries.vacant_entry();
        let index = vacant.key() as Index;
        let place = (urgency.band, turn, index);
        let (flow, band) = self
            .shares
            .push(asker, urgency.weight, place, urgency.service);
        vacant.insert(Entry {
            band: band as u8,
            flow: flow.number,
            service: urgency.service as u32,
            uncritical: turn.uncritical,
            sequence,
            arrived: urgency.arrived,
            payload,
        });
        let band = &mut self.bands[band];
        band.len += 1;
        band.arrivals.push_back((sequence, index));
        index
    }

    /// The call to serve next.
    pub(crate) fn first(&mut self, now: u64) -> Option<Index> {
        let band = self.next_band(now)?;
        self.shares.first(band)
    }

    /// Takes out a call that is served.
    pub(crate) fn serve(&mut self, index: Index, now: u64) -> Option<(Entry<T>, Served)> {
        let entry = self.entries.try_remove(index as usize)?;
        let band = usize::from(entry.band);
        let out_of_turn = self.bands[..band].iter().any(|band| band.len > 0);
        self.since_aged = if out_of_turn {
            0
        } else {
            self.since_aged.saturating_add(1)
        };
        let (flow, service) = (self.shares.id(entry.flow)?, u64::from(entry.service));
        self.shares.serve(flow, band, entry.turn(), service, now);
        self.left(band);
        Some((entry, Served { flow, service }))
    }

    /// Takes out a call that is not served.
    pub(crate) fn remove(&mut self, index: Index) -> Option<Entry<T>> {
        let entry = self.entries.try_remove(index as usize)?;
        let band = usize::from(entry.band);
        if let Some(flow) = self.shares.id(entry.flow) {
            let service = u64::from(entry.service);
            self.shares.withdraw(flow, band, entry.turn(), service);
        }
        self.left(band);
        Some(entry)
    }

    /// The waiting calls of a conversation.
    pub(crate) fn conversation(&self, asker: &Asker) -> Vec<Index> {
        self.shares.conversation(asker)
    }

    /// Where a call stands.
    pub(crate) fn place(&self, index: Index, now: u64) -> Option<Place> {
        let entry = self.entries.get(index as usize)?;
        let band = usize::from(entry.band);
        let higher: usize = self.bands[..band].iter().map(|band| band.len).sum();
        let (in_band, until) = self.shares.place(entry.flow, band, entry.turn(), now)?;
        Some(Place {
            band,
            in_band,
            ahead: higher + in_band,
            until,
        })
    }

    /// Charges the real service of a call in place of the expected one.
    pub(crate) fn correct(&mut self, served: Served, service: u64) {
        self.shares.correct(served.flow, served.service, service);
    }

    fn next_band(&mut self, now: u64) -> Option<usize> {
        let highest = self.bands.iter().position(|band| band.len > 0)?;
        if self.since_aged + 1 < self.aged_turn {
            return Some(highest);
        }
        let mut choice = (highest, u64::MAX);
        for band in highest + 1..BANDS {
            if let Some(arrived) = self.oldest(band)
                && now.saturating_sub(arrived) > self.ageing
                && arrived < choice.1
            {
                choice = (band, arrived);
            }
        }
        Some(choice.0)
    }

    fn left(&mut self, number: usize) {
        let band = &mut self.bands[number];
        band.len -= 1;
        if band.arrivals.len() > 2 * band.len + 64 {
            let entries = &self.entries;
            band.arrivals.retain(|(sequence, index)| {
                let entry = entries.get(*index as usize);
                entry.is_some_and(|entry| entry.sequence == *sequence)
            });
        }
    }
}
