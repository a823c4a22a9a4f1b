//! Who is served next: bands, inside them tenants, inside those conversations.
//!
//! Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996) with tokens as the
//! service, on two levels. A tenant owns *slots* in its band's order, one for each of
//! its waiting calls; a conversation owns slots in its tenant's order in the same way.
//! A slot is a virtual start tag that never changes, so the place of a call is exact:
//! its depth in the conversation picks the conversation's slot, whose rank picks the
//! tenant's slot, whose rank in the band is the place. Every step is logarithmic.
//!
//! Invariants: a flow has as many slots as waiting calls, a lane as many as its flows
//! together; tags of one owner ascend. Two backlogged tenants (or conversations of
//! one) are served within one call's cost of each other.
//!
//! A higher band goes first, except that every [`aged_turn`](crate::QueueConfig)-th
//! call goes to a lower band whose first arrival waits longer than the ageing time.
//! Deliberately absent: quotas and clocks.

use std::collections::{HashMap, VecDeque};

use lyceum_core::{Priority, Scope, SessionId, TenantId, UserId};
use slab::Slab;

use crate::ranked::RankedSet;

/// A waiting call's index; reused after the call has left.
pub(crate) type Index = u32;

pub(crate) const BANDS: usize = 3;
/// Virtual time for one token at weight one: room for weights to divide.
const TOKEN: u64 = 16;

pub(crate) fn band_of(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum FlowKey {
    Session(SessionId),
    User(UserId),
}

impl FlowKey {
    fn of(session: Option<SessionId>, user: UserId) -> Self {
        session.map_or(Self::User(user), Self::Session)
    }
}

/// What the order has to know of a call.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    pub(crate) band: u8,
    critical: u32,
    flow: u32,
    /// Arrival number, unique.
    sequence: u64,
    pub(crate) arrived: u64,
    /// Tokens it counts for in fairness.
    service: u64,
    pub(crate) payload: T,
}

/// Names the flow and lane a call was served for, to correct them at settlement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    band: u8,
    flow: u32,
    born: u64,
    service: u64,
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    lane: u32,
    born: u64,
    /// Waiting calls, the most critical first, then the oldest.
    waiting: VecDeque<(u32, u64, Index)>,
    tags: VecDeque<u64>,
    finish: u64,
}

#[derive(Debug)]
struct Lane {
    tenant: TenantId,
    weight: u64,
    slots: RankedSet,
    tags: VecDeque<u64>,
    finish: u64,
    /// The start tag of the slot served last.
    virtual_time: u64,
    flows: HashMap<FlowKey, u32>,
}

#[derive(Debug, Default)]
struct Band {
    slots: RankedSet,
    len: usize,
    virtual_time: u64,
    lanes: Slab<Lane>,
    lane_of: HashMap<TenantId, u32>,
    flows: Slab<Flow>,
    /// Arrivals in order, with those that left not yet removed.
    arrivals: VecDeque<(u64, Index)>,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Order<T> {
    bands: [Band; BANDS],
    entries: Slab<Entry<T>>,
    sequence: u64,
    /// Calls served since an aged band had its turn.
    since_aged: u32,
    ageing: u64,
    aged_turn: u32,
}

impl<T> Order<T> {
    pub(crate) fn new(ageing: u64, aged_turn: u32) -> Self {
        Self {
            bands: Default::default(),
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

    /// Adds a call that counts for `service` tokens.
    pub(crate) fn insert(&mut self, scope: Scope, urgency: Urgency, payload: T) -> Index {
        self.sequence += 1;
        let sequence = self.sequence;
        let band = &mut self.bands[urgency.band];
        let lane_id = band.lane(scope.tenant, urgency.weight);
        let key = FlowKey::of(scope.session, scope.user);
        let flow_id = band.flow(lane_id, key, sequence);
        let index = self.entries.insert(Entry {
            band: urgency.band as u8,
            critical: urgency.critical,
            flow: flow_id,
            sequence,
            arrived: urgency.arrived,
            service: urgency.service,
            payload,
        }) as Index;
        band.push(
            flow_id,
            (!urgency.critical, sequence, index),
            urgency.service,
        );
        band.len += 1;
        band.arrivals.push_back((sequence, index));
        index
    }

    /// The call to serve next.
    pub(crate) fn first(&mut self, now: u64) -> Option<Index> {
        let band = self.next_band(now)?;
        self.bands[band].first()
    }

    /// Serves a call: removes it and moves virtual time on.
    pub(crate) fn serve(&mut self, index: Index) -> Option<(Entry<T>, Served)> {
        let entry = self.entries.try_remove(index as usize)?;
        let number = usize::from(entry.band);
        let higher_waits = self.bands[..number].iter().any(|band| band.len > 0);
        self.since_aged = if higher_waits { 0 } else { self.since_aged + 1 };
        let band = &mut self.bands[number];
        let served = Served {
            band: entry.band,
            flow: entry.flow,
            born: band.flows[entry.flow as usize].born,
            service: entry.service,
        };
        band.serve(&entry);
        self.after_removal(number);
        Some((entry, served))
    }

    /// Removes a call that was not served.
    pub(crate) fn remove(&mut self, index: Index) -> Option<Entry<T>> {
        let entry = self.entries.try_remove(index as usize)?;
        let number = usize::from(entry.band);
        self.bands[number].withdraw(&entry);
        self.after_removal(number);
        Some(entry)
    }

    /// The waiting calls of a conversation.
    pub(crate) fn conversation(&self, tenant: &TenantId, session: &SessionId) -> Vec<Index> {
        let key = FlowKey::Session(session.clone());
        let mut found = Vec::new();
        for band in &self.bands {
            let lane = band.lane_of.get(tenant).map(|id| &band.lanes[*id as usize]);
            if let Some(flow) = lane.and_then(|lane| lane.flows.get(&key)) {
                let waiting = &band.flows[*flow as usize].waiting;
                found.extend(waiting.iter().map(|(_, _, index)| *index));
            }
        }
        found
    }

    /// How many calls are served before this one if nothing else arrives.
    pub(crate) fn ahead(&self, index: Index) -> Option<usize> {
        let entry = self.entries.get(index as usize)?;
        let number = usize::from(entry.band);
        let higher: usize = self.bands[..number].iter().map(|band| band.len).sum();
        Some(higher + self.bands[number].rank(entry))
    }

    /// Charges the difference between the service that was expected and the real one.
    pub(crate) fn correct(&mut self, served: Served, service: u64) {
        let band = &mut self.bands[usize::from(served.band)];
        match band.flows.get(served.flow as usize) {
            Some(flow) if flow.born == served.born => {}
            _ => return,
        }
        let flow = &mut band.flows[served.flow as usize];
        let lane = &mut band.lanes[flow.lane as usize];
        let (before, after) = (served.service * TOKEN, service * TOKEN);
        flow.finish = shifted(flow.finish, before, after, flow.tags.back());
        let (before, after) = (before / lane.weight, after / lane.weight);
        lane.finish = shifted(lane.finish, before, after, lane.tags.back());
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

    fn after_removal(&mut self, number: usize) {
        let band = &mut self.bands[number];
        band.len -= 1;
        if band.len == 0 {
            // Nobody competes any more, so nobody owes anything.
            *band = Band::default();
        } else if band.arrivals.len() > 2 * band.len + 64 {
            let entries = &self.entries;
            band.arrivals.retain(|(sequence, index)| {
                entries
                    .get(*index as usize)
                    .is_some_and(|entry| entry.sequence == *sequence)
            });
        }
    }
}

/// The parts of a call that decide its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Urgency {
    pub(crate) band: usize,
    pub(crate) critical: u32,
    pub(crate) weight: u32,
    pub(crate) service: u64,
    pub(crate) arrived: u64,
}

/// A finish tag moved by a correction, kept above the last tag handed out.
fn shifted(finish: u64, before: u64, after: u64, last: Option<&u64>) -> u64 {
    let moved = finish.saturating_add(after).saturating_sub(before);
    moved.max(last.map_or(0, |tag| tag + 1))
}

// === impl Band ===

impl Band {
    fn lane(&mut self, tenant: TenantId, weight: u32) -> u32 {
        let weight = u64::from(weight.max(1));
        if let Some(id) = self.lane_of.get(&tenant) {
            self.lanes[*id as usize].weight = weight;
            return *id;
        }
        self.forget_idle_lanes();
        let id = self.lanes.insert(Lane {
            tenant: tenant.clone(),
            weight,
            slots: RankedSet::default(),
            tags: VecDeque::new(),
            finish: 0,
            virtual_time: 0,
            flows: HashMap::new(),
        }) as u32;
        self.lane_of.insert(tenant, id);
        id
    }

    fn flow(&mut self, lane_id: u32, key: FlowKey, born: u64) -> u32 {
        let lane = &mut self.lanes[lane_id as usize];
        if let Some(id) = lane.flows.get(&key) {
            return *id;
        }
        let id = self.flows.insert(Flow {
            key: key.clone(),
            lane: lane_id,
            born,
            waiting: VecDeque::new(),
            tags: VecDeque::new(),
            finish: 0,
        }) as u32;
        lane.flows.insert(key, id);
        id
    }

    fn push(&mut self, flow_id: u32, place: (u32, u64, Index), service: u64) {
        let flow = &mut self.flows[flow_id as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        let at = flow.waiting.partition_point(|other| *other < place);
        flow.waiting.insert(at, place);
        let tag = flow.finish.max(lane.virtual_time);
        flow.finish = tag + (service * TOKEN).max(1);
        flow.tags.push_back(tag);
        lane.slots.insert((tag, flow_id));
        let tag = lane.finish.max(self.virtual_time);
        lane.finish = tag + (service * TOKEN / lane.weight).max(1);
        lane.tags.push_back(tag);
        self.slots.insert((tag, flow.lane));
    }

    fn first(&self) -> Option<Index> {
        let (_, lane) = self.slots.first()?;
        let (_, flow) = self.lanes[lane as usize].slots.first()?;
        let (_, _, index) = self.flows[flow as usize].waiting.front()?;
        Some(*index)
    }

    fn rank<T>(&self, entry: &Entry<T>) -> usize {
        let flow = &self.flows[entry.flow as usize];
        let lane = &self.lanes[flow.lane as usize];
        let place = (!entry.critical, entry.sequence, 0);
        let depth = flow.waiting.partition_point(|other| *other < place);
        let Some(tag) = flow.tags.get(depth) else {
            return self.len;
        };
        let in_lane = lane.slots.rank((*tag, entry.flow));
        let Some(tag) = lane.tags.get(in_lane) else {
            return self.len;
        };
        self.slots.rank((*tag, flow.lane))
    }

    /// Takes the first slots of the entry's flow and lane.
    fn serve<T>(&mut self, entry: &Entry<T>) {
        let flow = &mut self.flows[entry.flow as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        take(&mut flow.waiting, entry);
        if let Some(tag) = flow.tags.pop_front() {
            lane.slots.remove((tag, entry.flow));
            lane.virtual_time = lane.virtual_time.max(tag);
        }
        if let Some(tag) = lane.tags.pop_front() {
            self.slots.remove((tag, flow.lane));
            self.virtual_time = self.virtual_time.max(tag);
        }
        self.forget_flow(entry.flow);
    }

    /// Gives back the last slots of the entry's flow and lane.
    fn withdraw<T>(&mut self, entry: &Entry<T>) {
        let flow = &mut self.flows[entry.flow as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        take(&mut flow.waiting, entry);
        if let Some(tag) = flow.tags.pop_back() {
            lane.slots.remove((tag, entry.flow));
            flow.finish = tag;
        }
        if let Some(tag) = lane.tags.pop_back() {
            self.slots.remove((tag, flow.lane));
            lane.finish = tag;
        }
        self.forget_flow(entry.flow);
    }

    /// Forgets an empty flow that owes nothing, and sweeps its lane's debtors when many.
    fn forget_flow(&mut self, flow_id: u32) {
        let flow = &self.flows[flow_id as usize];
        let lane = &mut self.lanes[flow.lane as usize];
        if flow.waiting.is_empty() && flow.finish <= lane.virtual_time {
            lane.flows.remove(&flow.key);
            self.flows.remove(flow_id as usize);
        }
        if lane.flows.len() > 2 * lane.tags.len() + 64 {
            let (now, flows) = (lane.virtual_time, &mut self.flows);
            lane.flows.retain(|_, id| {
                let flow = &flows[*id as usize];
                let keep = !flow.waiting.is_empty() || flow.finish > now;
                if !keep {
                    flows.remove(*id as usize);
                }
                keep
            });
        }
    }

    /// Forgets lanes without waiting calls that owe nothing, when there are many.
    fn forget_idle_lanes(&mut self) {
        if self.lanes.len() <= 2 * self.len + 64 {
            return;
        }
        let now = self.virtual_time;
        let idle: Vec<u32> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.tags.is_empty() && lane.finish <= now)
            .map(|(id, _)| id as u32)
            .collect();
        for id in idle {
            let lane = self.lanes.remove(id as usize);
            self.lane_of.remove(&lane.tenant);
            for flow in lane.flows.into_values() {
                self.flows.remove(flow as usize);
            }
        }
    }
}

fn take<T>(waiting: &mut VecDeque<(u32, u64, Index)>, entry: &Entry<T>) {
    let place = (!entry.critical, entry.sequence, 0);
    let at = waiting.partition_point(|other| *other < place);
    waiting.remove(at);
}
