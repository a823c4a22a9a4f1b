//! What waits for one channel: a pure state machine, told the time.
//!
//! Invariant: of each alert only the newest message waits, so what is over is told as over and
//! no stale alarm follows it; a message leaves when it is sent, refused for good, replaced,
//! older than [`KEEP`], or the oldest of more than [`MOST`]. Deliberately absent: sending.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::Notice;

/// Alerts whose messages wait for one channel at most.
pub(crate) const MOST: usize = 64;

/// How long a message is tried: after a day nobody needs it.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait after the first failure; it doubles, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
struct Waiting {
    notice: Arc<Notice>,
    since: Instant,
    failed: u32,
    due: Instant,
}

/// Why a message left unsent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// A newer one of the same alert took its place.
    Replaced,
    /// Too many alerts waited.
    Dropped,
    /// It was tried for too long.
    Expired,
}

impl Left {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Dropped => "dropped",
            Self::Expired => "expired",
        }
    }
}

/// What to do now.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Try this one, and say how it went.
    Send(Arc<Notice>),
    /// Nothing before this time.
    Wait(Instant),
    /// Nothing waits.
    Idle,
}

/// The messages that wait, in the order in which their alerts came.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Vec<Waiting>);

impl Outbox {
    /// Takes a message; gives the one that left for it, if one did.
    pub(crate) fn put(&mut self, notice: Arc<Notice>, now: Instant) -> Option<(Arc<Notice>, Left)> {
        let same = |waiting: &&mut Waiting| waiting.notice.key == notice.key;
        if let Some(waiting) = self.0.iter_mut().find(same) {
            // The receiver is no better for it, so the wait goes on.
            let before = std::mem::replace(&mut waiting.notice, notice);
            waiting.since = now;
            return Some((before, Left::Replaced));
        }
        let left = (self.0.len() >= MOST).then(|| (self.0.remove(0).notice, Left::Dropped));
        self.0.push(Waiting {
            notice,
            since: now,
            failed: 0,
            due: now,
        });
        left
    }

    /// Takes out a message that is too old.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(Arc<Notice>, Left)> {
        let is_old = |waiting: &Waiting| now.duration_since(waiting.since) >= KEEP;
        let at = self.0.iter().position(is_old)?;
        Some((self.0.remove(at).notice, Left::Expired))
    }

    /// What to do at this time.
    pub(crate) fn next(&self, now: Instant) -> Next {
        match self.0.iter().min_by_key(|waiting| waiting.due) {
            Some(first) if first.due <= now => Next::Send(Arc::clone(&first.notice)),
            Some(first) => Next::Wait(first.due),
            None => Next::Idle,
        }
    }

    /// The message was taken, or never will be.
    pub(crate) fn done(&mut self, notice: &Arc<Notice>) {
        self.0
            .retain(|waiting| !Arc::ptr_eq(&waiting.notice, notice));
    }

    /// The message was not taken, but may be later; how long it waits now.
    pub(crate) fn failed(&mut self, notice: &Notice, now: Instant) -> Option<Duration> {
        let of_this = |waiting: &&mut Waiting| waiting.notice.key == notice.key;
        let waiting = self.0.iter_mut().find(of_this)?;
        let wait = FIRST_WAIT.saturating_mul(1 << waiting.failed.min(16));
        let wait = wait.min(LONGEST_WAIT);
        waiting.failed = waiting.failed.saturating_add(1);
        waiting.due = now + wait;
        Some(wait)
    }

    /// Everything, for a last attempt.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Arc<Notice>> {
        self.0.drain(..).map(|waiting| waiting.notice)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bound, Severity, State};

    fn notice(key: &str, state: State) -> Arc<Notice> {
        Arc::new(Notice {
            key: key.to_owned(),
            alert: key.to_owned(),
            instance: "a".to_owned(),
            state,
            severity: Severity::Warning,
            summary: String::new(),
            value: 0.0,
            bound: Bound::Above(1.0),
            unit: String::new(),
            since: String::new(),
            told: 1,
        })
    }

    #[test]
    fn a_message_is_tried_ever_more_rarely_until_a_day_has_passed() {
        let (mut outbox, start) = (Outbox::default(), Instant::now());
        outbox.put(notice("a", State::Firing), start);
        let (mut now, mut waits) = (start, Vec::new());
        let left = loop {
            if let Some((_, left)) = outbox.expire(now) {
                break left;
            }
            match outbox.next(now) {
                Next::Send(notice) => waits.extend(outbox.failed(&notice, now)),
                Next::Wait(until) => now = until,
                Next::Idle => unreachable!("it waits until it is too old"),
            }
        };
        assert_eq!(left, Left::Expired);
        assert!(now - start >= KEEP, "{:?}", now - start);
        let seconds: Vec<u64> = waits.iter().take(9).map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(waits.len() > 280, "{}", waits.len());
        assert_eq!(outbox.next(now), Next::Idle);
    }

    #[test]
    fn the_end_of_an_alert_takes_the_place_of_its_beginning() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let firing = notice("a", State::Firing);
        assert_eq!(outbox.put(Arc::clone(&firing), now), None);
        outbox.failed(&firing, now);
        let over = notice("a", State::Resolved);
        let left = outbox.put(Arc::clone(&over), now);
        assert_eq!(left, Some((Arc::clone(&firing), Left::Replaced)));
        // What was under way meanwhile is not taken for the newer one.
        outbox.done(&firing);
        assert_eq!(outbox.len(), 1);
        assert_eq!(outbox.next(now), Next::Wait(now + FIRST_WAIT));
        assert_eq!(outbox.next(now + FIRST_WAIT), Next::Send(over));
    }

    #[test]
    fn one_that_fails_does_not_hold_up_the_others_and_too_many_push_the_oldest_out() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let first = notice("0", State::Firing);
        outbox.put(Arc::clone(&first), now);
        outbox.failed(&first, now);
        for number in 1..MOST {
            assert_eq!(
                outbox.put(notice(&number.to_string(), State::Firing), now),
                None
            );
        }
        assert!(matches!(outbox.next(now), Next::Send(next) if next.key == "1"));
        let left = outbox.put(notice("new", State::Firing), now);
        assert_eq!(left, Some((first, Left::Dropped)));
        assert_eq!(outbox.len(), MOST);
    }
}
