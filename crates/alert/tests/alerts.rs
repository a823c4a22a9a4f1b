//! The life of an alert, for any readings.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use lyceum_alert::{Alerts, Bound, Notice, Rule, Severity, State};
use proptest::prelude::*;
use time::OffsetDateTime;

const HOLD: Duration = Duration::from_secs(60);
const REPEAT: Duration = Duration::from_secs(600);

fn rule(name: &str, bound: Bound, hold: Duration) -> Rule {
    Rule {
        name: name.to_owned(),
        summary: "something is wrong".to_owned(),
        severity: Severity::Warning,
        bound,
        hold,
        unit: "s".to_owned(),
    }
}

struct Clock {
    alerts: Alerts,
    start: Instant,
}

impl Clock {
    fn new(hold: Duration) -> Self {
        let rules = vec![rule("slow", Bound::Above(5.0), hold)];
        Self {
            alerts: Alerts::new("a", rules, REPEAT),
            start: Instant::now(),
        }
    }

    fn at(&mut self, seconds: u64, value: Option<f64>) -> Vec<Notice> {
        let clock = OffsetDateTime::from_unix_timestamp(seconds as i64).unwrap();
        let now = self.start + Duration::from_secs(seconds);
        self.alerts.evaluate(now, clock, |_| value)
    }
}

#[test]
fn what_is_bad_for_a_moment_is_not_told() {
    let mut clock = Clock::new(HOLD);
    assert!(clock.at(0, Some(9.0)).is_empty());
    assert!(clock.at(59, Some(9.0)).is_empty());
    assert!(clock.at(60, Some(1.0)).is_empty());
    assert!(clock.at(61, Some(9.0)).is_empty());
    assert!(clock.at(120, Some(9.0)).is_empty());
    let told = clock.at(121, Some(9.0));
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].since, "1970-01-01T00:01:01Z");
    assert_eq!(
        told[0].line(),
        "[firing] slow on a: something is wrong (9 s; bad above 5 s)"
    );
}

#[test]
fn what_lasts_is_told_again_and_its_end_once() {
    let mut clock = Clock::new(Duration::ZERO);
    assert_eq!(clock.at(0, Some(9.0))[0].told, 1);
    assert!(clock.at(599, Some(9.0)).is_empty());
    assert_eq!(clock.at(600, Some(9.0))[0].told, 2);
    let over = clock.at(601, Some(5.0));
    assert_eq!((over[0].state, over[0].told), (State::Resolved, 2));
    assert!(clock.at(602, Some(5.0)).is_empty());
}

#[test]
fn not_knowing_is_neither_good_nor_bad() {
    let mut clock = Clock::new(Duration::ZERO);
    assert!(clock.at(0, None).is_empty());
    assert_eq!(clock.at(1, Some(9.0)).len(), 1);
    assert!(clock.at(2, None).is_empty());
    assert!(clock.at(3, Some(f64::NAN)).is_empty());
    assert_eq!(clock.alerts.firing().count(), 1);
}

proptest! {
    #[test]
    fn every_end_has_one_beginning_and_repetitions_keep_their_distance(
        steps in prop::collection::vec((1_u64..400, prop::option::of(0.0..10.0)), 1..200),
        hold in 0_u64..300,
    ) {
        let mut clock = Clock::new(Duration::from_secs(hold));
        let (mut now, mut last) = (0, None);
        let mut bad_since = None;
        for (after, value) in steps {
            now += after;
            let told = clock.at(now, value);
            prop_assert!(told.len() <= 1);
            if let Some(value) = value {
                bad_since = (value > 5.0).then(|| bad_since.unwrap_or(now));
            }
            match told.first() {
                Some(notice) if notice.state == State::Firing => {
                    prop_assert!(notice.value > 5.0);
                    prop_assert!(bad_since.is_some_and(|since| now - since >= hold));
                    prop_assert!(last.is_none_or(|last| now - last >= REPEAT.as_secs()));
                    last = Some(now);
                }
                Some(notice) => {
                    prop_assert!(notice.value <= 5.0);
                    prop_assert!(last.take().is_some());
                }
                None => {}
            }
        }
    }
}
