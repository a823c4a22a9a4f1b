//! One level of fair sharing: members take turns in proportion to what they consume.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996): each waiting call of a member is
//! a slot with a virtual start tag that never changes, and the smallest tag is next.
//! Invariants: a member's tags ascend and are unique; its finish is above its last tag.

use super::{few::Few, ranked::RankedSet};

/// The shortest time between two marks of progress, in nanoseconds.
const STEP: u64 = 1_000_000_000;
/// The most marks that are kept, and how many say something.
const MARKS: usize = 64;
const KNOWN: usize = 4;

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
    progress: Progress,
}

/// How virtual time came on: what it was at some moments, dense of late and sparse before.
///
/// How long a stretch of virtual time will take is best told from how long the last stretch
/// of that length took. A smoothed speed answers for one length only: a short memory varies
/// too much for long waits, a long one follows a growing crowd too late for short ones.
#[derive(Debug, Default)]
struct Progress {
    /// Virtual and real time, both ascending.
    marks: Vec<(u64, u64)>,
}

impl Progress {
    fn mark(&mut self, virtual_now: u64, now: u64) {
        if self.marks.last().is_some_and(|(_, at)| now < at + STEP) {
            return;
        }
        if self.marks.len() == MARKS {
            // Every other one of the older half, the oldest too.
            let mut number = 0;
            self.marks.retain(|_| {
                number += 1;
                number > MARKS / 2 || number % 2 == 0
            });
        }
        self.marks.push((virtual_now, now));
    }

    /// How long virtual time took to come to `virtual_now` from so far below; `None` while
    /// too little is known.
    fn took(&self, far: u64, virtual_now: u64, now: u64) -> Option<f64> {
        let (first, since) = *self.marks.first()?;
        let whole = virtual_now.saturating_sub(first);
        if self.marks.len() < KNOWN || whole == 0 {
            return None;
        }
        let age = |at: f64| (now as f64 - at).max(0.0);
        if far >= whole {
            return Some(age(since as f64) * far as f64 / whole as f64);
        }
        let goal = virtual_now - far;
        let next = self.marks.partition_point(|(then, _)| *then <= goal);
        let (before, begun) = *self.marks.get(next.checked_sub(1)?)?;
        let (after, ended) = self.marks.get(next).copied().unwrap_or((virtual_now, now));
        let part = goal.saturating_sub(before) as f64 / after.saturating_sub(before).max(1) as f64;
        Some(age(begun as f64 + part * ended.saturating_sub(begun) as f64))
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
            // Of who is alone nobody asks how far the others have come.
            if self.slots.first().is_some() {
                self.progress.mark(self.now, now);
            }
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

    /// Nanoseconds until virtual time reaches `tag` if it comes on as it did of late; zero
    /// while too little is known.
    pub(super) fn until(&self, tag: u64, now: u64) -> u64 {
        let far = tag.saturating_sub(self.now);
        let took = self.progress.took(far, self.now, now);
        took.map_or(0, |took| took as u64)
    }

    /// Nobody competes any more, so nobody owes anything.
    fn settle_when_empty(&mut self) {
        if self.slots.first().is_none() {
            self.now = self.latest;
            self.progress.marks.clear();
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

    #[test]
    fn a_stretch_takes_as_long_as_the_last_of_its_length() {
        let mut progress = Progress::default();
        assert_eq!(progress.took(10, 0, 0), None);
        // Ten a second for 500 s, then one a second for 50 s.
        let mut reached = 0;
        for second in 0..=550 {
            progress.mark(reached, second * STEP);
            reached += if second < 500 { 10 } else { 1 };
        }
        let (reached, now) = (reached - 1, 550 * STEP);
        let seconds = |far| progress.took(far, reached, now).unwrap() / STEP as f64;
        assert!((9.5..=10.5).contains(&seconds(10)), "{}", seconds(10));
        assert!((59.0..=61.0).contains(&seconds(150)), "{}", seconds(150));
        // Beyond what is remembered it goes on as on average.
        assert!(seconds(100_000) > 5_000.0);
        assert!(progress.marks.len() <= MARKS);
    }
}
