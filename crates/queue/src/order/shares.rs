//! Tenants share a band, conversations share what their tenant has.
//!
//! Two levels of [`Course`]s. A tenant's slots in its band are not bound to calls: the
//! i-th call in the tenant's own order takes the tenant's i-th slot. So the place of a
//! call is exact: its depth in the conversation picks the conversation's slot, whose
//! rank picks the tenant's slot, whose rank in the band is the place.
//!
//! What a conversation or tenant consumes in one band counts in the others as well, and
//! one that had more than its fair share of everything in the high band alone is served
//! in the normal band until the others have caught up. So priority cannot be used to
//! take what others are owed.
//! Deliberately absent: which band is next.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use lyceum_core::{SessionId, TenantId, UserId};
use slab::Slab;

use super::{
    Asker, BANDS, Index,
    course::{Course, Member},
    few::Few,
};

/// Virtual time for one token at weight one: room for weights to divide.
const TOKEN: u64 = 16;
/// How many calls a member may be ahead of its fair share and still use the high band.
const ALLOWANCE: u64 = 4;
/// Idle members kept before a sweep looks for some to forget.
const IDLE: usize = 64;

/// Names a conversation of a user, or what a user asks outside of any, inside a tenant: a
/// hash that nobody can foresee, and a fraction of the names in size. Users of one tenant
/// may call their conversations alike and have nothing to do with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FlowKey(u64);

/// What places a call inside its conversation: the most critical first, then the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) uncritical: u32,
    /// The arrival number, unique.
    pub(super) sequence: u64,
}

impl Turn {
    pub(super) fn new(critical: u32, sequence: u64) -> Self {
        let uncritical = !critical;
        Self {
            uncritical,
            sequence,
        }
    }
}

/// A waiting call in its conversation: its turn, packed with its index.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    sequence: u64,
    uncritical: u32,
    index: Index,
}

impl Waiting {
    fn turn(&self) -> Turn {
        let (uncritical, sequence) = (self.uncritical, self.sequence);
        Turn {
            uncritical,
            sequence,
        }
    }
}

/// A conversation and when it came to be, as its number may be given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowId {
    pub(super) number: u32,
    born: u64,
}

#[derive(Debug)]
struct Flow {
    key: FlowKey,
    lane: u32,
    born: u64,
    waiting: [Few<Waiting>; BANDS],
    /// What it consumed in the high band, on the clock of the lane's fair share.
    preferred: u64,
    members: [Member; BANDS],
}

#[derive(Debug)]
struct Lane {
    tenant: TenantId,
    weight: u64,
    courses: [Course; BANDS],
    members: [Member; BANDS],
    /// How far an equal share of each known flow has come, over all bands.
    fair: u64,
    /// As in [`Flow`], against the band's lanes.
    preferred: u64,
    flows: HashMap<FlowKey, u32>,
    /// The number of flows at which idle ones are looked for.
    sweep_at: usize,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Shares {
    courses: [Course; BANDS],
    lanes: Slab<Lane>,
    flows: Slab<Flow>,
    lane_of: HashMap<TenantId, u32>,
    names: RandomState,
    /// How far an equal share of each known lane has come, over all bands.
    fair: u64,
    sweep_at: usize,
}

impl Shares {
    /// Adds a call that consumes `service` tokens to its conversation.
    pub(super) fn push(
        &mut self,
        (tenant, user, session): Asker,
        weight: u32,
        (band, turn, index): (usize, Turn, Index),
        service: u64,
    ) -> (FlowId, usize) {
        let lane_id = self.lane(tenant, weight);
        let key = self.key(&user, session.as_ref());
        let id = self.flow(lane_id, key, turn.sequence);
        let flow = &mut self.flows[id as usize];
        let lane = &mut self.lanes[lane_id as usize];
        let (own, shared) = lane.service(service);
        let overdrawn = flow.preferred > lane.fair + ALLOWANCE * own
            || lane.preferred > self.fair + ALLOWANCE * shared;
        let band = if overdrawn { band.max(1) } else { band };
        let waiting = &mut flow.waiting[band];
        let at = waiting.partition_point(|other| other.turn() < turn);
        let Turn {
            uncritical,
            sequence,
        } = turn;
        let entry = Waiting {
            sequence,
            uncritical,
            index,
        };
        waiting.insert(at, entry);
        lane.courses[band].push(&mut flow.members[band], id, own);
        self.courses[band].push(&mut lane.members[band], lane_id, shared);
        let born = flow.born;
        (FlowId { number: id, born }, band)
    }

    /// How many conversations are known.
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }

    /// The call that the band serves next.
    pub(super) fn first(&self, band: usize) -> Option<Index> {
        let lane = self.courses[band].first()?;
        let flow = self.lanes[lane as usize].courses[band].first()?;
        let first = self.flows[flow as usize].waiting[band].get(0)?;
        Some(first.index)
    }

    /// Serves a call of a flow: it takes the first slots of its flow and lane.
    pub(super) fn serve(&mut self, id: FlowId, band: usize, turn: Turn, service: u64, now: u64) {
        let Some((flow, lane)) = Self::both(&mut self.flows, &mut self.lanes, id) else {
            return;
        };
        let (own, shared) = lane.service(service);
        lane.fair += own / lane.flows.len().max(1) as u64;
        self.fair += shared / self.lane_of.len().max(1) as u64;
        if band == 0 {
            flow.preferred = flow.preferred.max(lane.fair) + own;
            lane.preferred = lane.preferred.max(self.fair) + shared;
        }
        flow.take(band, turn);
        lane.courses[band].serve(&mut flow.members[band], id.number, now);
        self.courses[band].serve(&mut lane.members[band], flow.lane, now);
        for other in (0..BANDS).filter(|other| *other != band) {
            lane.courses[other].charge(&mut flow.members[other], own);
            self.courses[other].charge(&mut lane.members[other], shared);
        }
        self.forget(id);
    }

    /// Takes a call out that is not served: the last slots of its flow and lane go.
    pub(super) fn withdraw(&mut self, id: FlowId, band: usize, turn: Turn, service: u64) {
        let Some((flow, lane)) = Self::both(&mut self.flows, &mut self.lanes, id) else {
            return;
        };
        flow.take(band, turn);
        let (own, shared) = lane.service(service);
        lane.courses[band].withdraw(&mut flow.members[band], id.number, own);
        self.courses[band].withdraw(&mut lane.members[band], flow.lane, shared);
        self.forget(id);
    }

    /// Corrects the service of a call that was served, where its flow is still known.
    pub(super) fn correct(&mut self, id: FlowId, before: u64, after: u64) {
        let Some((flow, lane)) = Self::both(&mut self.flows, &mut self.lanes, id) else {
            return;
        };
        let ((own_before, before), (own_after, after)) =
            (lane.service(before), lane.service(after));
        for band in 0..BANDS {
            lane.courses[band].correct(&mut flow.members[band], own_before, own_after);
            self.courses[band].correct(&mut lane.members[band], before, after);
        }
    }

    /// The flow that has this number now.
    pub(super) fn id(&self, number: u32) -> Option<FlowId> {
        let born = self.flows.get(number as usize)?.born;
        Some(FlowId { number, born })
    }

    /// How many calls of the band are before this one, and how many nanoseconds it will
    /// take to come to it if all goes on as it did of late.
    pub(super) fn place(
        &self,
        number: u32,
        band: usize,
        turn: Turn,
        now: u64,
    ) -> Option<(usize, u64)> {
        let flow = self.flows.get(number as usize)?;
        let lane = &self.lanes[flow.lane as usize];
        let depth = flow.waiting[band].partition_point(|other| other.turn() < turn);
        let own = flow.members[band].tag(depth)?;
        let in_lane = lane.courses[band].rank(own, number);
        let shared = lane.members[band].tag(in_lane)?;
        let rank = self.courses[band].rank(shared, flow.lane);
        let until = lane.courses[band].until(own, now);
        Some((rank, until.max(self.courses[band].until(shared, now))))
    }

    /// The waiting calls of a conversation in all bands.
    pub(super) fn conversation(&self, (tenant, user, session): &Asker) -> Vec<Index> {
        let lane = self.lane_of.get(tenant);
        let lane = lane.and_then(|lane| self.lanes.get(*lane as usize));
        let key = self.key(user, session.as_ref());
        let flow = lane.and_then(|lane| lane.flows.get(&key));
        let Some(flow) = flow.and_then(|flow| self.flows.get(*flow as usize)) else {
            return Vec::new();
        };
        let waiting = flow.waiting.iter().flat_map(Few::iter);
        waiting.map(|waiting| waiting.index).collect()
    }

    fn key(&self, user: &UserId, session: Option<&SessionId>) -> FlowKey {
        FlowKey(self.names.hash_one((user, session)))
    }

    fn both<'a>(
        flows: &'a mut Slab<Flow>,
        lanes: &'a mut Slab<Lane>,
        id: FlowId,
    ) -> Option<(&'a mut Flow, &'a mut Lane)> {
        let flow = flows.get_mut(id.number as usize)?;
        if flow.born != id.born {
            return None;
        }
        let lane = lanes.get_mut(flow.lane as usize)?;
        Some((flow, lane))
    }

    fn lane(&mut self, tenant: TenantId, weight: u32) -> u32 {
        let weight = u64::from(weight.max(1));
        if let Some(id) = self.lane_of.get(&tenant) {
            self.lanes[*id as usize].weight = weight;
            return *id;
        }
        if self.lanes.len() >= self.sweep_at {
            self.forget_idle_lanes();
        }
        let id = self.lanes.insert(Lane {
            tenant: tenant.clone(),
            weight,
            courses: Default::default(),
            members: Default::default(),
            fair: 0,
            preferred: 0,
            flows: HashMap::new(),
            sweep_at: IDLE,
        }) as u32;
        self.lane_of.insert(tenant, id);
        id
    }

    fn flow(&mut self, lane_id: u32, key: FlowKey, born: u64) -> u32 {
        let lane = &mut self.lanes[lane_id as usize];
        if let Some(id) = lane.flows.get(&key) {
            return *id;
        }
        if lane.flows.len() >= lane.sweep_at {
            lane.forget_idle_flows(&mut self.flows);
        }
        let id = self.flows.insert(Flow {
            key,
            lane: lane_id,
            born,
            waiting: Default::default(),
            preferred: 0,
            members: Default::default(),
        }) as u32;
        lane.flows.insert(key, id);
        id
    }

    /// Forgets a flow that has nothing waiting and owes nothing.
    fn forget(&mut self, id: FlowId) {
        let number = id.number as usize;
        let Some(flow) = self.flows.get(number) else {
            return;
        };
        let lane = &mut self.lanes[flow.lane as usize];
        if lane.is_idle(flow) {
            lane.flows.remove(&flow.key);
            self.flows.remove(number);
        }
    }

    fn forget_idle_lanes(&mut self) {
        let (courses, flows, lane_of) = (&self.courses, &mut self.flows, &mut self.lane_of);
        self.lanes.retain(|_, lane| {
            let mut parts = courses.iter().zip(&lane.members);
            let keep = parts.any(|(course, member)| course.remembers(member));
            if !keep {
                lane_of.remove(&lane.tenant);
                let mut numbers: Vec<u32> = lane.flows.values().copied().collect();
                forget(flows, &mut numbers);
            }
            keep
        });
        self.sweep_at = 2 * self.lanes.len() + IDLE;
    }
}

impl Lane {
    /// A call's service as its flow and as its lane are charged for it.
    fn service(&self, tokens: u64) -> (u64, u64) {
        let own = tokens.saturating_mul(TOKEN);
        (own, own / self.weight)
    }

    fn is_idle(&self, flow: &Flow) -> bool {
        let mut parts = self.courses.iter().zip(&flow.members);
        !parts.any(|(course, member)| course.remembers(member))
    }

    fn forget_idle_flows(&mut self, flows: &mut Slab<Flow>) {
        let idle = |id: &u32| {
            flows
                .get(*id as usize)
                .is_some_and(|flow| self.is_idle(flow))
        };
        let mut numbers: Vec<u32> = self.flows.values().copied().filter(idle).collect();
        for number in &numbers {
            if let Some(flow) = flows.get(*number as usize) {
                self.flows.remove(&flow.key);
            }
        }
        forget(flows, &mut numbers);
        self.sweep_at = 2 * self.flows.len() + IDLE;
    }
}

impl Flow {
    fn take(&mut self, band: usize, turn: Turn) {
        let waiting = &mut self.waiting[band];
        let at = waiting.partition_point(|other| other.turn() < turn);
        waiting.remove(at);
    }
}

/// Removes flows in the order of their numbers, not of a hash table, so that the numbers
/// given out later, and with them ties, are the same in every run.
fn forget(flows: &mut Slab<Flow>, numbers: &mut [u32]) {
    numbers.sort_unstable();
    for number in numbers {
        flows.remove(*number as usize);
    }
}
