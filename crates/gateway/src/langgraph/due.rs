//! What comes due at times of its own, among the records of all owners.
//!
//! Invariant: all is read no more often than once in [`PAUSE`], and no owner is before another for
//! having more. Deliberately absent: what is done with what is due.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use lyceum_core::TenantId;
use tokio::time::Instant;

/// How often what is due is looked for at least.
pub(crate) const LOOK: Duration = Duration::from_secs(15);
/// How long nothing is looked for after a look at least, and as a multiple of what the look took:
/// it reads what all owners have.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_PER_LOOK: u32 = 4;

/// A time after another; the latest there is where it would be beyond that.
pub(crate) fn later(from: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    from.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// How long it is until something is due; nothing where it is.
pub(crate) fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default()
}

/// When the next look is.
#[derive(Debug)]
pub(crate) struct Looks {
    earliest: Instant,
    next: Instant,
}

impl Looks {
    /// The first one is at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            earliest: now,
            next: now,
        }
    }

    /// When the next one is.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Whether it is time for one.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Plans the next one after one that began then and found nothing due for so long.
    pub(crate) fn looked(&mut self, began: Instant, now: Instant, wait: Duration) {
        let pause = PAUSE.max((now - began).saturating_mul(PAUSE_PER_LOOK));
        self.earliest = now + pause;
        self.next = now + wait.min(LOOK).max(pause);
    }

    /// Plans the next one for when something is due, where that is sooner.
    pub(crate) fn by(&mut self, due: Instant) {
        self.next = self.next.min(due.max(self.earliest));
    }
}

/// What a look found.
pub(crate) struct Found<T> {
    /// What is due, of all owners in turn.
    pub(crate) due: Vec<(TenantId, T)>,
    /// How long until more is, [`LOOK`] at most.
    pub(crate) wait: Duration,
}

/// Tells what is due from what is not, and takes so much of it at most; what is left is due at
/// once.
pub(crate) fn sift<T>(
    all: impl IntoIterator<Item = (TenantId, Timestamp, T)>,
    now: Timestamp,
    most: usize,
) -> Found<T> {
    let (mut due, mut wait) = (Vec::new(), LOOK);
    for (owner, at, one) in all {
        if at > now {
            wait = wait.min(until(at, now));
        } else {
            due.push((owner, one));
        }
    }
    if due.len() > most {
        wait = Duration::ZERO;
    }
    Found {
        due: in_turn(due).take(most).collect(),
        wait,
    }
}

/// The first of each owner, then the second of each, and so on; those of one owner, and those of
/// one place among their owners', stay in their order.
fn in_turn<T>(all: Vec<(TenantId, T)>) -> impl Iterator<Item = (TenantId, T)> {
    let mut places: HashMap<TenantId, usize> = HashMap::new();
    let mut placed: Vec<_> = all
        .into_iter()
        .map(|one| {
            let place = places.entry(one.0.clone()).or_default();
            *place += 1;
            (*place, one)
        })
        .collect();
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns() {
        let all = [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)];
        let all = all.map(|(owner, one)| (TenantId::new(owner).unwrap(), one));
        let order: Vec<_> = in_turn(all.into()).map(|(_, one)| one).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn a_look_takes_so_much_of_what_is_due_and_waits_for_the_next() {
        let (owner, now) = (TenantId::new("a").unwrap(), Timestamp::UNIX_EPOCH);
        let all = [0, 5, 0, 3, 40];
        let all = all.map(|seconds| {
            let at = later(now, Duration::from_secs(seconds));
            (owner.clone(), at, seconds)
        });
        let found = sift(all.clone(), now, 2);
        assert_eq!(found.due, [(owner.clone(), 0), (owner, 0)]);
        assert_eq!(found.wait, Duration::from_secs(3));
        let found = sift(all.clone(), now, 1);
        assert_eq!((found.due.len(), found.wait), (1, Duration::ZERO));
        let [.., last] = all;
        assert_eq!(sift([last], now, 1).wait, LOOK);
    }

    #[test]
    fn a_look_is_followed_by_a_pause_whatever_is_due() {
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let mut looks = Looks::new(began);
        assert!(looks.is_due(began));
        looks.looked(began, began, 10 * second);
        looks.by(began + 20 * second);
        assert_eq!(looks.next(), began + 10 * second);
        looks.by(began + 5 * second);
        assert_eq!(looks.next(), began + 5 * second);
        looks.by(began);
        assert_eq!(looks.next(), began + PAUSE);
        // One that takes long is followed by a longer one.
        let now = began + 2 * second;
        looks.looked(began, now, Duration::ZERO);
        assert_eq!(looks.next(), now + 8 * second);
    }
}
