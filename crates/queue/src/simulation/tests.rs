//! Saturation runs in virtual time.

use super::*;
use crate::Quotas;

const TEN_MINUTES: Duration = Duration::from_secs(600);
const MINUTES_2: Duration = Duration::from_secs(120);

fn config(quotas: Quotas) -> QueueConfig {
    QueueConfig {
        quotas,
        ..QueueConfig::default()
    }
}

fn by_requests() -> QueueConfig {
    config(Quotas {
        requests: Some(500),
        input_tokens: Some(700_000),
        concurrency: Some(60),
        ..Quotas::default()
    })
}

#[test]
fn a_saturated_quota_is_used_fully_fairly_and_never_exceeded() {
    for overload in [1.5, 2.0, 3.0] {
        let crowd = Crowd {
            calls_per_minute: 500.0 * overload,
            ..Crowd::default()
        };
        let report = simulate(by_requests(), &crowd, TEN_MINUTES);
        assert_eq!(report.violations, 0, "{overload}: {report:#?}");
        assert!(report.quota_used >= 0.97, "{overload}: {report:#?}");
        assert!(report.jain >= 0.95, "{overload}: {report:#?}");
        assert!(
            report.wait_p99[0] * 5 <= report.wait_p99[2],
            "{overload}: {report:#?}"
        );
        // By seed it is 0.09 to 0.16 of the wait.
        assert!(report.forecast_error <= 0.2, "{overload}: {report:#?}");
        assert!(report.deadline_hits >= 0.99, "{overload}: {report:#?}");
    }
}

/// Twice the quota of a crowd whose calls are bound by something other than requests.
fn doubled(quotas: Quotas, output_counted: OutputCounted, tenants: u32) -> Report {
    let config = QueueConfig {
        output_counted,
        ..config(quotas)
    };
    let crowd = Crowd {
        tenants,
        calls_per_minute: 1_000.0,
        ..Crowd::default()
    };
    simulate(config, &crowd, TEN_MINUTES)
}

#[test]
fn input_tokens_are_used_fully_although_callers_only_estimate_them() {
    let quotas = Quotas {
        input_tokens: Some(600_000),
        ..Quotas::default()
    };
    let report = doubled(quotas, OutputCounted::AtEnd, 1);
    assert_eq!(report.violations, 0, "{report:#?}");
    assert!(report.quota_used >= 0.97, "{report:#?}");
}

#[test]
fn output_tokens_are_never_exceeded_however_they_are_counted() {
    let quotas = Quotas {
        output_tokens: Some(140_000),
        ..Quotas::default()
    };
    // With 30 calls in flight whose ends nobody knows, the last 5 % are left to chance.
    for (counted, floor) in [
        (OutputCounted::Unknown, 0.75),
        (OutputCounted::AtEnd, 0.94),
        (OutputCounted::AtStart, 0.97),
        (OutputCounted::Declared, 0.97),
    ] {
        let report = doubled(quotas, counted, 1);
        assert_eq!(report.violations, 0, "{counted:?}: {report:#?}");
        assert!(report.fullest <= 1.0, "{counted:?}: {report:#?}");
        assert!(report.quota_used >= floor, "{counted:?}: {report:#?}");
    }
}

#[test]
fn headers_show_how_output_is_counted() {
    let config = config(Quotas {
        output_tokens: Some(140_000),
        ..Quotas::default()
    });
    let silent = Crowd {
        calls_per_minute: 1_000.0,
        ..Crowd::default()
    };
    let nothing = simulate(config, &silent, TEN_MINUTES);
    assert!(nothing.quota_used <= 0.8, "{nothing:#?}");
    for (counted, floor) in [
        (OutputCounted::AtEnd, 0.93),
        (OutputCounted::ActualAtStart, 0.93),
        (OutputCounted::AtStart, 0.965),
    ] {
        let telling = Crowd {
            headers: true,
            counted: Some(counted),
            ..silent.clone()
        };
        let report = simulate(config, &telling, TEN_MINUTES);
        assert!(report.violations <= 1, "{counted:?}: {report:#?}");
        assert!(report.quota_used >= floor, "{counted:?}: {report:#?}");
    }
}

#[test]
fn all_tokens_are_used_fully_however_their_output_is_counted() {
    let config = config(Quotas {
        tokens: Some(720_000),
        ..Quotas::default()
    });
    for counted in [
        OutputCounted::AtEnd,
        OutputCounted::ActualAtStart,
        OutputCounted::AtStart,
    ] {
        for limited in [true, false] {
            let crowd = Crowd {
                calls_per_minute: 1_000.0,
                headers: true,
                limited,
                counted: Some(counted),
                ..Crowd::default()
            };
            let report = simulate(config, &crowd, TEN_MINUTES);
            assert_eq!(report.violations, 0, "{counted:?} {limited}: {report:#?}");
            assert!(
                report.quota_used >= 0.97,
                "{counted:?} {limited}: {report:#?}"
            );
        }
    }
}

#[test]
fn what_is_made_is_kept_whether_it_counts_at_the_start_or_at_the_end() {
    let quotas = Quotas {
        output_tokens: Some(140_000),
        ..Quotas::default()
    };
    let config = QueueConfig {
        output_counted: OutputCounted::Made,
        ..config(quotas)
    };
    for counted in [OutputCounted::AtEnd, OutputCounted::ActualAtStart] {
        for seed in 1..=4 {
            let crowd = Crowd {
                calls_per_minute: 1_000.0,
                counted: Some(counted),
                seed,
                ..Crowd::default()
            };
            let report = simulate(config, &crowd, TEN_MINUTES);
            assert_eq!(report.violations, 0, "{counted:?} {seed}: {report:#?}");
            assert!(report.quota_used >= 0.93, "{counted:?} {seed}: {report:#?}");
        }
    }
}

#[test]
fn a_large_output_quota_is_used_fully_in_spite_of_a_varying_way() {
    let quotas = Quotas {
        output_tokens: Some(1_400_000),
        ..Quotas::default()
    };
    for (counted, overload) in [
        (OutputCounted::AtEnd, 1.5),
        (OutputCounted::AtEnd, 3.0),
        (OutputCounted::AtStart, 2.0),
    ] {
        let config = QueueConfig {
            output_counted: counted,
            ..config(quotas)
        };
        let crowd = Crowd {
            calls_per_minute: 5_000.0 * overload,
            way: config.jitter,
            ..Crowd::default()
        };
        let report = simulate(config, &crowd, Duration::from_secs(240));
        assert_eq!(report.violations, 0, "{counted:?} {overload}: {report:#?}");
        assert!(report.fullest <= 1.0, "{counted:?} {overload}: {report:#?}");
        assert!(
            report.quota_used >= 0.965,
            "{counted:?} {overload}: {report:#?}"
        );
    }
}

#[test]
fn conversations_of_many_tenants_share_as_well() {
    let quotas = Quotas {
        requests: Some(500),
        ..Quotas::default()
    };
    for tenants in [20, 500] {
        let report = doubled(quotas, OutputCounted::AtEnd, tenants);
        assert!(report.jain >= 0.95, "{tenants}: {report:#?}");
        assert!(report.deadline_hits >= 0.99, "{tenants}: {report:#?}");
        assert!(report.forecast_error <= 0.3, "{tenants}: {report:#?}");
    }
}

#[test]
fn slots_alone_keep_deadlines_too() {
    let quotas = Quotas {
        concurrency: Some(30),
        ..Quotas::default()
    };
    let report = doubled(quotas, OutputCounted::AtEnd, 1);
    assert!(report.jain >= 0.95, "{report:#?}");
    assert!(report.deadline_hits >= 0.99, "{report:#?}");
    assert!(report.forecast_error <= 0.2, "{report:#?}");
}

#[test]
fn waits_are_foretold_by_what_calls_declare_where_that_counts() {
    let config = QueueConfig {
        output_counted: OutputCounted::Declared,
        ..config(Quotas {
            output_tokens: Some(1_400_000),
            ..Quotas::default()
        })
    };
    let crowd = Crowd {
        calls_per_minute: 1_370.0 * 3.0,
        ..Crowd::default()
    };
    let report = simulate(config, &crowd, TEN_MINUTES);
    assert!(report.forecast_error <= 0.2, "{report:#?}");
}

#[test]
fn a_run_is_repeatable() {
    let crowd = Crowd {
        calls_per_minute: 1_000.0,
        ..Crowd::default()
    };
    let first = simulate(by_requests(), &crowd, TEN_MINUTES);
    assert_eq!(first, simulate(by_requests(), &crowd, TEN_MINUTES));
}

/// A small quota of one key: 500 calls a minute, 50 at once.
fn one_key() -> QueueConfig {
    config(Quotas {
        requests: Some(500),
        concurrency: Some(50),
        ..Quotas::default()
    })
}

#[test]
fn who_waits_does_not_ask_so_few_keys_slow_people_down_and_fail_nobody() {
    let people = People {
        people: 60,
        patience: Duration::from_secs(3_600),
        ..People::default()
    };
    let crowded = serve(one_key(), &people, MINUTES_2, TEN_MINUTES);
    let calm = People {
        endpoints: 4,
        ..people
    };
    let calm = serve(one_key(), &calm, MINUTES_2, TEN_MINUTES);
    for outcome in [crowded, calm] {
        assert_eq!((outcome.violations, outcome.failed), (0, 0), "{outcome:#?}");
        // Little's law: who is under way is who came in the time that an answer takes.
        let expected = outcome.answers_per_minute / 60.0 * outcome.average.as_secs_f64();
        let off = (outcome.under_way - expected).abs() / expected;
        assert!(off < 0.05, "{expected}: {outcome:#?}");
    }
    assert!(crowded.quota_used >= 0.97, "{crowded:#?}");
    assert!(crowded.average > calm.average, "{crowded:#?} {calm:#?}");
    assert!(calm.wait_p99 < Duration::from_secs(3), "{calm:#?}");
}

#[test]
fn patience_that_ends_is_a_failed_answer_and_a_cache_spares_calls() {
    let people = People {
        people: 400,
        patience: Duration::from_secs(30),
        ..People::default()
    };
    let outcome = serve(one_key(), &people, MINUTES_2, MINUTES_2);
    assert!(outcome.failed > 0, "{outcome:#?}");
    let cached = People {
        cached: 1.0,
        ..people
    };
    let outcome = serve(one_key(), &cached, MINUTES_2, MINUTES_2);
    assert_eq!(outcome.calls_per_minute, 0.0, "{outcome:#?}");
    assert_eq!(outcome.failed, 0, "{outcome:#?}");
    assert!(outcome.answers > 0, "{outcome:#?}");
}

#[test]
fn calls_of_a_round_overlap() {
    let alone = People {
        people: 1,
        tools: 0.0,
        rounds: [1.0, 0.0, 0.0],
        ..People::default()
    };
    let in_turn = People {
        overlap: 1.0,
        ..alone
    };
    let [overlapping, in_turn] = [alone, in_turn].map(|people| {
        let outcome = serve(one_key(), &people, Duration::ZERO, TEN_MINUTES * 6);
        outcome.average.as_secs_f64()
    });
    assert!(overlapping < 0.65 * in_turn, "{overlapping} {in_turn}");
}
