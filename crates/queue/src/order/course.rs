//! One level of fair sharing: members take turns in proportion to what they consume.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): each waiting call of a member is
//! a slot with a virtual start tag that never changes, and the smallest tag is next.
//! Invariants: a member's tags ascend and are unique; its finish is above its last tag.

use super::{few::Few, ranked::RankedSet};

/// The shortest stretch over which speed is measured, in nanoseconds.
const SPEED_STEP: u64 = 500_000_000;
/// Stretches that are remembered, and how many make a speed worth knowing.
const SPEED_MEMORY: u32 = 32;
const SPEED_KNOWN: u32 = 8;

/// One member's part in a [`Course`].
#[derive(Debug, Default)]
pub(super) struct Member {
    tags: Few<u64>,
    finish: u64,
}

impl Member {
    /// The tag of the slot that is number `depth` of this member.
    pub(super) fn tag(&self, depth: usize) -> Option<u64> {
        self.tags.get(depth).copied()
    }
}

/// The order of all members' slots.
#[derive(Debug, Default)]
pub(super) struct Course {
    slots: RankedSet,
    /// Virtual time: the start tag of the slot served last.
    now: u64,
    /// The highest finish handed out.
    latest: u64,
    speed: Speed,
}

/// How fast virtual time passes, smoothed.
#[derive(Debug, Default)]
struct Speed {
    since: Option<(u64, u64)>,
    /// Virtual time a nanosecond.
    rate: f64,
    stretches: u32,
}

impl Speed {
    fn served(&mut self, virtual_now: u64, now: u64) {
        let Some((before, since)) = self.since else {
            self.since = Some((virtual_now, now));
            return;
        };
        let passed = now.saturating_sub(since);
        if passed < SPEED_STEP {
            return;
        }
        let rate = virtual_now.saturating_sub(before) as f64 / passed as f64;
        self.stretches = (self.stretches + 1).min(SPEED_MEMORY);
        self.rate += (rate - self.rate) / f64::from(self.stretches);
        self.since = Some((virtual_now, now));
    }
}

impl Course {
    pub(super) fn first(&self) -> Option<u32> {
        self.slots.first().map(|(_, id)| id)
    }

    /// Adds a slot for a call that consumes `service`.
    pub(super) fn push(&mut self, member: &mut Member, id: u32, service: u64) {
        let tag = member.finish.max(self.now);
        member.finish = tag.saturating_add(service.max(1));
        self.latest = self.latest.max(member.finish);
        member.tags.push(tag);
        self.slots.insert((tag, id));
    }

    /// Takes the member's first slot: its call is served.
    pub(super) fn serve(&mut self, member: &mut Member, id: u32, now: u64) {
        if let Some(tag) = member.tags.remove(0) {
            // A slot served out of turn says nothing about how far the others have come.
            if self.slots.first() == Some((tag, id)) {
                self.now = self.now.max(tag);
            }
            self.slots.remove((tag, id));
            self.speed.served(self.now, now);
            self.settle_when_empty();
        }
    }

    /// Takes the member's last slot: one of its calls, of this `service`, left unserved.
    pub(super) fn withdraw(&mut self, member: &mut Member, id: u32, service: u64) {
        if let Some(tag) = member.tags.pop() {
            self.slots.remove((tag, id));
            member.finish = member.finish.saturating_sub(service.max(1)).max(tag);
            self.settle_when_empty();
        }
    }

    /// Charges a member for service that it had elsewhere while others wait here.
    pub(super) fn charge(&mut self, member: &mut Member, service: u64) {
        if self.slots.first().is_some() {
            member.finish = member.finish.max(self.now).saturating_add(service);
            self.latest = self.latest.max(member.finish);
        }
    }

    /// Corrects what a served call was charged from `before` to `after`.
    pub(super) fn correct(&mut self, member: &mut Member, before: u64, after: u64) {
        let moved = member.finish.saturating_add(after).saturating_sub(before);
        let last = member.tags.last().map_or(0, |tag| tag + 1);
        member.finish = moved.max(last);
        self.latest = self.latest.max(member.finish);
    }

    /// Whether a member still has calls here or had more than its share.
    pub(super) fn remembers(&self, member: &Member) -> bool {
        member.tags.len() > 0 || member.finish > self.now
    }

    /// How many slots come before this one.
    pub(super) fn rank(&self, tag: u64, id: u32) -> usize {
        self.slots.rank((tag, id))
    }

    /// Nanoseconds until virtual time reaches `tag`, at the speed of late; zero while
    /// too little was measured.
    pub(super) fn until(&self, tag: u64) -> u64 {
        if self.speed.stretches < SPEED_KNOWN || self.speed.rate <= 0.0 {
            return 0;
        }
        (tag.saturating_sub(self.now) as f64 / self.speed.rate) as u64
    }

    /// Nobody competes any more, so nobody owes anything.
    fn settle_when_empty(&mut self) {
        if self.slots.first().is_none() {
            self.now = self.latest;
            self.speed.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_served_in_turn_by_what_they_consume() {
        let (mut course, mut big, mut small) =
            (Course::default(), Member::default(), Member::default());
        for _ in 0..3 {
            course.push(&mut big, 0, 20);
        }
        for _ in 0..3 {
            course.push(&mut small, 1, 10);
        }
        let mut order = Vec::new();
        while let Some(id) = course.first() {
            order.push(id);
            let member = if id == 0 { &mut big } else { &mut small };
            course.serve(member, id, 0);
        }
        assert_eq!(order, [0, 1, 1, 0, 1, 0]);
    }

    #[test]
    fn service_elsewhere_counts_only_while_others_wait() {
        let (mut course, mut a, mut b) = (Course::default(), Member::default(), Member::default());
        course.charge(&mut a, 100);
        assert!(!course.remembers(&a), "nobody waited");
        course.push(&mut b, 1, 10);
        course.charge(&mut a, 100);
        course.push(&mut b, 1, 10);
        course.push(&mut a, 0, 10);
        assert_eq!(course.rank(a.tag(0).unwrap(), 0), 2);
    }
}
