//! The saturation run of the project's issue 4, in virtual time.

use super::*;
use crate::Quotas;

const TEN_MINUTES: Duration = Duration::from_secs(600);

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
        assert!(report.forecast_error <= 0.2, "{overload}: {report:#?}");
        assert!(report.deadline_hits >= 0.99, "{overload}: {report:#?}");
    }
}

#[test]
fn scenarios() {
    let cases = [
        (
            "input",
            Quotas {
                input_tokens: Some(600_000),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "output end",
            Quotas {
                output_tokens: Some(140_000),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "output start",
            Quotas {
                output_tokens: Some(140_000),
                ..Quotas::default()
            },
            OutputCounted::AtStart,
            1,
        ),
        (
            "tokens end",
            Quotas {
                tokens: Some(750_000),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "small output end",
            Quotas {
                output_tokens: Some(14_000),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "small output start",
            Quotas {
                output_tokens: Some(14_000),
                ..Quotas::default()
            },
            OutputCounted::AtStart,
            1,
        ),
        (
            "small input",
            Quotas {
                input_tokens: Some(20_000),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "tiny",
            Quotas {
                requests: Some(3),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
        (
            "tenants",
            Quotas {
                requests: Some(500),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            20,
        ),
        (
            "tenants500",
            Quotas {
                requests: Some(500),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            500,
        ),
        (
            "concurrency",
            Quotas {
                concurrency: Some(30),
                ..Quotas::default()
            },
            OutputCounted::AtEnd,
            1,
        ),
    ];
    for (name, quotas, output_counted, tenants) in cases {
        let small = quotas.output_tokens == Some(14_000)
            || quotas.input_tokens == Some(20_000)
            || quotas.requests == Some(3);
        let config = QueueConfig {
            output_counted,
            ..config(quotas)
        };
        let crowd = Crowd {
            tenants,
            calls_per_minute: if small { 100.0 } else { 1000.0 },
            conversations: if small { 50 } else { 500 },
            ..Crowd::default()
        };
        let r = simulate(config, &crowd, TEN_MINUTES);
        println!(
            "{name}: used {:.3} viol {} jain {:.3} err {:.2} hits {:.4} reserr {:.2} p99 {:?} started {}",
            r.quota_used,
            r.violations,
            r.jain,
            r.forecast_error,
            r.deadline_hits,
            r.reservation_error,
            r.wait_p99,
            r.started
        );
    }
}
