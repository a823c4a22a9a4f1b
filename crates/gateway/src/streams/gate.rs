//! Who may open a stream, and who waits in line for one.
//!
//! Pure: callers pass `now`. Invariant: at most `capacity` streams are open, and nobody who
//! comes without a place in the line gets ahead of one who has a place. A place is kept for
//! a while beyond the time at which its holder was told to come back; who does not come back
//! loses it. Deliberately absent: connections that are held open while they wait, which would
//! cost as much as the streams themselves.

use std::{collections::VecDeque, time::Duration};

use uuid::Uuid;

/// The most places in the line. Who comes after that is told to try again.
const LONGEST_LINE: usize = 4_096;

/// The most places of one owner, so that others find room in the line.
const MOST_OF_ONE: usize = 256;

/// The longest after which the holder of a place must show that it still waits, however long
/// it will: a stream that becomes free early stands empty for no longer than this and [`GRACE`].
const SHOWS: Duration = Duration::from_secs(30);

/// How long a place is kept after the time at which its holder should have come back.
const GRACE: Duration = Duration::from_secs(10);

/// How long a stream lasts as long as none has ended.
const FIRST_GUESS: Duration = Duration::from_secs(20);

/// The weight of each stream that ends in the average of how long they last.
const GAIN: f64 = 0.05;

/// The bounds of an estimated wait.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Who asks for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Whose place counts as its own: the number of its key.
    pub(crate) owner: usize,
    /// The token that it was given when it came before.
    pub(crate) token: Option<Uuid>,
    /// Whether it can come back with a token. Who cannot shares one place with its owner's
    /// other requests.
    pub(crate) takes_token: bool,
}

/// A place in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// What to come back with, for those who can.
    pub(crate) token: Option<Uuid>,
    /// The place, from 1.
    pub(crate) position: usize,
    /// When a stream is expected to be free.
    pub(crate) wait: Duration,
    /// When to come back, which keeps the place.
    pub(crate) come_back: Duration,
}

#[derive(Debug)]
struct Waiting {
    owner: usize,
    /// Absent for a place that an owner's requests share.
    token: Option<Uuid>,
    until: Duration,
}

impl Waiting {
    fn is_of(&self, asker: &Asker) -> bool {
        self.owner == asker.owner
            && match asker.takes_token {
                true => self.token.is_some() && self.token == asker.token,
                false => self.token.is_none(),
            }
    }
}

/// Counts open streams and keeps the line of those who wait.
#[derive(Debug)]
pub(crate) struct Gate {
    capacity: usize,
    open: usize,
    line: VecDeque<Waiting>,
    lasts: Duration,
}

impl Gate {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            open: 0,
            line: VecDeque::new(),
            lasts: FIRST_GUESS,
        }
    }

    /// Opens a stream, which must [`Gate::leave`] again, or gives a place in the line; none
    /// where that is full too. `fresh` becomes the token of a new place.
    pub(crate) fn enter(
        &mut self,
        asker: &Asker,
        fresh: Uuid,
        now: Duration,
    ) -> Result<(), Option<Place>> {
        self.line.retain(|waiting| waiting.until >= now);
        let free = self.capacity.saturating_sub(self.open);
        let known = self.line.iter().position(|waiting| waiting.is_of(asker));
        let at = known.unwrap_or(self.line.len());
        if at < free {
            self.line.remove(at);
            self.open += 1;
            return Ok(());
        }
        if known.is_none() && !self.has_room_for(asker.owner) {
            return Err(None);
        }
        let wait = self.wait(at + 1 - free);
        let come_back = wait.min(SHOWS);
        let until = now + come_back + GRACE;
        let token = match self.line.get_mut(at) {
            Some(waiting) => {
                waiting.until = until;
                waiting.token
            }
            None => {
                let token = asker.takes_token.then_some(fresh);
                self.line.push_back(Waiting {
                    owner: asker.owner,
                    token,
                    until,
                });
                token
            }
        };
        Err(Some(Place {
            token,
            position: at + 1,
            wait,
            come_back,
        }))
    }

    fn has_room_for(&self, owner: usize) -> bool {
        let own = self.line.iter().filter(|waiting| waiting.owner == owner);
        self.capacity > 0 && self.line.len() < LONGEST_LINE && own.count() < MOST_OF_ONE
    }

    /// Counts a stream that ended.
    pub(crate) fn leave(&mut self, lasted: Duration) {
        self.open = self.open.saturating_sub(1);
        let (mean, last) = (self.lasts.as_secs_f64(), lasted.as_secs_f64());
        self.lasts = Duration::from_secs_f64(mean + GAIN * (last - mean));
    }

    /// The places in the line; some may be kept for clients that will not come back.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// The streams that are open.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// The time in which so many streams end, while all are taken.
    fn wait(&self, ends: usize) -> Duration {
        let each = self.lasts.as_secs_f64() / self.capacity.max(1) as f64;
        let wait = each * ends as f64;
        Duration::try_from_secs_f64(wait)
            .unwrap_or(LONGEST_WAIT)
            .clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn asker(owner: usize, token: Option<Uuid>) -> Asker {
        Asker {
            owner,
            token,
            takes_token: true,
        }
    }

    fn waits(gate: &mut Gate, asker: Asker, now: Duration) -> Place {
        let refused = gate.enter(&asker, Uuid::new_v4(), now);
        refused.expect_err("it waits").expect("there is a line")
    }

    #[test]
    fn the_first_in_line_is_the_first_to_get_a_stream() {
        let mut gate = Gate::new(1);
        gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        let first = waits(&mut gate, asker(1, None), NOW);
        let second = waits(&mut gate, asker(2, None), NOW);
        assert_eq!((first.position, second.position), (1, 2));
        assert_eq!(first.wait, FIRST_GUESS);
        assert_eq!(second.wait, 2 * FIRST_GUESS);

        gate.leave(Duration::from_secs(20));
        // Neither a newcomer nor the second gets what is kept for the first.
        assert_eq!(waits(&mut gate, asker(3, None), NOW).position, 3);
        assert_eq!(waits(&mut gate, asker(2, second.token), NOW).position, 2);
        gate.enter(&asker(1, first.token), Uuid::new_v4(), NOW)
            .unwrap();
        assert_eq!(waits(&mut gate, asker(2, second.token), NOW).position, 1);
    }

    #[test]
    fn who_does_not_come_back_loses_the_place() {
        let mut gate = Gate::new(1);
        gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        let gone = waits(&mut gate, asker(1, None), NOW);
        let next = waits(&mut gate, asker(2, None), NOW);
        gate.leave(Duration::from_secs(20));
        let late = NOW + gone.come_back + GRACE + Duration::from_millis(1);
        gate.enter(&asker(2, next.token), Uuid::new_v4(), late)
            .unwrap();
        let again = waits(&mut gate, asker(1, gone.token), late);
        assert_ne!(again.token, gone.token);
    }

    #[test]
    fn a_token_is_worth_nothing_to_others() {
        let mut gate = Gate::new(1);
        gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        let place = waits(&mut gate, asker(1, None), NOW);
        gate.leave(Duration::from_secs(20));
        assert_eq!(waits(&mut gate, asker(2, place.token), NOW).position, 2);
    }

    #[test]
    fn requests_that_cannot_carry_a_token_share_one_place() {
        let mut gate = Gate::new(1);
        gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        let plain = Asker {
            takes_token: false,
            ..asker(7, None)
        };
        for _ in 0..3 {
            let place = waits(&mut gate, plain, NOW);
            assert_eq!((place.position, place.token), (1, None));
        }
        gate.leave(Duration::from_secs(20));
        gate.enter(&plain, Uuid::new_v4(), NOW).unwrap();
        assert_eq!(waits(&mut gate, plain, NOW).position, 1);
    }

    #[test]
    fn the_estimate_follows_how_long_streams_last() {
        let mut gate = Gate::new(2);
        for _ in 0..200 {
            gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
            gate.leave(Duration::from_secs(60));
        }
        for _ in 0..2 {
            gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        }
        let wait = waits(&mut gate, asker(1, None), NOW).wait.as_secs_f64();
        assert!((29.0..=30.0).contains(&wait), "{wait}");
    }

    #[test]
    fn one_owner_never_takes_the_whole_line() {
        let mut gate = Gate::new(1);
        gate.enter(&asker(0, None), Uuid::new_v4(), NOW).unwrap();
        for _ in 0..MOST_OF_ONE {
            let place = waits(&mut gate, asker(1, None), NOW);
            assert!(place.come_back <= SHOWS);
        }
        let more = gate.enter(&asker(1, None), Uuid::new_v4(), NOW);
        assert_eq!(more, Err(None));
        assert_eq!(
            waits(&mut gate, asker(2, None), NOW).position,
            MOST_OF_ONE + 1
        );
    }

    #[test]
    fn a_gate_without_room_has_no_line() {
        let mut gate = Gate::new(0);
        let refused = gate.enter(&asker(0, None), Uuid::new_v4(), NOW);
        assert_eq!(refused, Err(None));
    }

    proptest! {
        /// Whatever comes and goes, no more are open than may be, and with a stream free the
        /// first in line gets it.
        #[test]
        fn never_more_than_the_capacity(
            capacity in 1_usize..4,
            steps in prop::collection::vec((0_usize..6, 0_u64..30, any::<bool>()), 1..200),
        ) {
            let mut gate = Gate::new(capacity);
            let mut tokens = [None; 6];
            let mut now = NOW;
            for (owner, later, leaves) in steps {
                now += Duration::from_secs(later);
                if leaves && gate.open() > 0 {
                    gate.leave(Duration::from_secs(later));
                }
                let asked = asker(owner, tokens[owner]);
                match gate.enter(&asked, Uuid::new_v4(), now) {
                    Ok(()) => tokens[owner] = None,
                    Err(place) => {
                        let place = place.expect("the line is short");
                        prop_assert!(place.position > capacity - gate.open());
                        tokens[owner] = place.token;
                    }
                }
                prop_assert!(gate.open() <= capacity);
            }
        }
    }
}
