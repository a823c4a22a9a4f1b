//! The saturation run in virtual time.

use super::*;
use crate::Quotas;

fn saturated(overload: f64, quotas: Quotas) -> Report {
    let config = QueueConfig {
        quotas,
        ..QueueConfig::default()
    };
    let crowd = Crowd {
        calls_per_minute: 500.0 * overload,
        ..Crowd::default()
    };
    simulate(config, &crowd, Duration::from_secs(600))
}

#[test]
fn saturation_by_requests() {
    for overload in [1.5, 2.0, 3.0] {
        let report = saturated(
            overload,
            Quotas {
                requests: Some(500),
                input_tokens: Some(700_000),
                ..Quotas::default()
            },
        );
        println!("{overload}: {report:#?}");
    }
}
