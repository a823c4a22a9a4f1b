//! The sliding window, judged by a sum over all admissions that knows nothing of deques.

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

fn meter(quotas: Quotas) -> (Meter, Instant) {
    (Meter::new(quotas), Instant::now())
}

fn request(input: u64, output: u64) -> Cost {
    Cost {
        input,
        output,
        max_output: None,
    }
}

proptest! {
    #[test]
    fn no_window_ever_holds_more_than_its_limit(
        arrivals in prop::collection::vec((0_u64..9_000, 0_u64..40, 0_u64..40), 1..200),
    ) {
        let (mut meter, start) = meter(Quotas {
            requests: Some(10),
            input_tokens: Some(150),
            output_tokens: Some(120),
            total_tokens: Some(200),
            ..Quotas::default()
        });
        let mut now = start;
        let mut admitted: Vec<(Instant, u64, u64)> = Vec::new();
        for (pause_ms, input, output) in arrivals {
            now += Duration::from_millis(pause_ms);
            let inside = |admitted: &[(Instant, u64, u64)]| {
                let inside = admitted.iter().filter(|a| now.duration_since(a.0) < WINDOW);
                inside.fold((0, 0, 0), |s, a| (s.0 + 1, s.1 + a.1, s.2 + a.2))
            };
            let before = inside(&admitted);
            let fits = before.0 < 10
                && before.1 + input <= 150
                && before.2 + output <= 120
                && before.1 + before.2 + input + output <= 200;
            let answer = meter.admit(now, request(input, output));
            prop_assert_eq!(answer.is_ok(), fits, "before {:?}, {} in, {} out", before, input, output);
            if let Ok(ticket) = answer {
                admitted.push((now, input, output));
                meter.settle(now, ticket, output);
            }
        }
    }

    #[test]
    fn the_promised_time_is_the_first_at_which_the_request_fits(
        arrivals in prop::collection::vec((0_u64..5_000, 1_u64..60), 5..60),
    ) {
        let quotas = Quotas { input_tokens: Some(100), ..Quotas::default() };
        let (mut meter, start) = meter(quotas);
        let mut now = start;
        for (pause_ms, input) in arrivals {
            now += Duration::from_millis(pause_ms);
            if let Err(refusal) = meter.admit(now, request(input, 0)) {
                let wait = refusal.retry_after.unwrap();
                prop_assert!(!wait.is_zero());
                now += wait - Duration::from_nanos(1);
                prop_assert!(meter.admit(now, request(input, 0)).is_err(), "early");
                now += Duration::from_nanos(1);
                prop_assert!(meter.admit(now, request(input, 0)).is_ok(), "late");
            }
        }
    }
}

#[test]
fn a_request_above_the_limit_never_fits() {
    let (mut meter, now) = meter(Quotas {
        requests: Some(1),
        input_tokens: Some(10),
        ..Quotas::default()
    });
    meter.admit(now, request(1, 0)).unwrap();
    assert_eq!(
        meter.admit(now, request(11, 0)).unwrap_err(),
        Refusal {
            limit: Limit::InputTokens,
            retry_after: None
        }
    );
}

#[test]
fn a_refusal_takes_nothing_and_the_levels_say_so() {
    let (mut meter, now) = meter(Quotas {
        requests: Some(5),
        input_tokens: Some(10),
        ..Quotas::default()
    });
    meter.admit(now, request(8, 0)).unwrap();
    meter.admit(now, request(8, 0)).unwrap_err();
    let later = now + Duration::from_secs(20);
    let level = |remaining, limit| {
        Some(Level {
            limit,
            remaining,
            reset: Duration::from_secs(40),
        })
    };
    assert_eq!(meter.level(later, Limit::Requests), level(4, 5));
    assert_eq!(meter.level(later, Limit::InputTokens), level(2, 10));
    assert_eq!(meter.level(later, Limit::OutputTokens), None);
    assert_eq!(
        meter
            .level(now + WINDOW, Limit::Requests)
            .unwrap()
            .remaining,
        5
    );
}

#[test]
fn concurrency_is_freed_when_a_request_ends() {
    let (mut meter, now) = meter(Quotas {
        concurrency: Some(2),
        ..Quotas::default()
    });
    let first = meter.admit(now, request(1, 1)).unwrap();
    meter.admit(now, request(1, 1)).unwrap();
    let refusal = meter.admit(now, request(1, 1)).unwrap_err();
    assert_eq!(refusal.limit, Limit::Concurrency);
    meter.settle(now, first, 1);
    meter.admit(now, request(1, 1)).unwrap();
}

#[test]
fn a_reservation_is_corrected_to_what_was_sent() {
    let (mut meter, now) = meter(Quotas {
        output_tokens: Some(100),
        total_tokens: Some(200),
        accounting: Accounting::Reserved,
        ..Quotas::default()
    });
    let cost = Cost {
        input: 50,
        output: 7,
        max_output: Some(90),
    };
    let ticket = meter.admit(now, cost).unwrap();
    meter.admit(now, cost).unwrap_err();
    meter.settle(now + Duration::from_secs(1), ticket, 7);
    let later = now + Duration::from_secs(2);
    assert_eq!(
        meter.level(later, Limit::OutputTokens).unwrap().remaining,
        93
    );
    assert_eq!(
        meter.level(later, Limit::TotalTokens).unwrap().remaining,
        143
    );
    // The charge keeps the time of its admission.
    let end = now + WINDOW;
    assert_eq!(
        meter.level(end, Limit::OutputTokens).unwrap().remaining,
        100
    );
}

#[test]
fn produced_tokens_are_charged_when_they_exist() {
    let (mut meter, now) = meter(Quotas {
        output_tokens: Some(10),
        accounting: Accounting::Produced,
        ..Quotas::default()
    });
    let first = meter.admit(now, request(1, 30)).unwrap();
    let second = meter.admit(now, request(1, 30)).unwrap();
    let end = now + Duration::from_secs(10);
    meter.settle(end, first, 30);
    let refusal = meter.admit(end, request(1, 1)).unwrap_err();
    assert_eq!(refusal.retry_after, Some(WINDOW));
    meter.settle(end + WINDOW, second, 9);
    meter.admit(end + WINDOW, request(1, 1)).unwrap();
}
