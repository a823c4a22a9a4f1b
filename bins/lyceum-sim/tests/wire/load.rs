//! The load generator sees what goes wrong and nothing else.

use std::{collections::BTreeMap, time::Duration};

use lyceum_sim::{
    Fault, FaultRule, SimConfig, Simulator,
    load::{self, End, Endpoint, LoadConfig, LoadError, Report},
};

use crate::lyceum::{self, Mistake};

/// Four users with 40 requests.
fn forty(target: String, endpoint: Endpoint) -> LoadConfig {
    LoadConfig {
        target,
        endpoint,
        users: 4,
        end: End::Requests(40),
        ..LoadConfig::default()
    }
}

async fn against(mistake: Mistake, endpoint: Endpoint) -> Report {
    let target = format!("http://{}", lyceum::serve(mistake).await);
    load::run(forty(target, endpoint)).await.unwrap()
}

fn errors(report: &Report) -> Vec<(&str, u64)> {
    report
        .errors
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect()
}

#[tokio::test]
async fn honest_servers_of_all_kinds_get_a_clean_report() {
    for endpoint in [Endpoint::Chat, Endpoint::ChatStream] {
        let report = against(Mistake::None, endpoint).await;
        assert!(report.is_clean(), "{endpoint:?}: {:?}", report.errors);
        assert_eq!(report.answers(), 40);
    }
    let vendors = [
        Endpoint::OpenAi,
        Endpoint::OpenAiStream,
        Endpoint::Anthropic,
        Endpoint::AnthropicStream,
    ];
    for endpoint in vendors {
        let sim = Simulator::start(SimConfig::default()).await.unwrap();
        let report = load::run(forty(sim.url(), endpoint)).await.unwrap();
        assert!(report.is_clean(), "{endpoint:?}: {:?}", report.errors);
        let stats = sim.shutdown().await;
        assert_eq!(
            (report.answers(), stats.answered, stats.connections),
            (40, 40, 4)
        );
    }
}

#[tokio::test]
async fn mixed_up_answers_are_noticed() {
    let cases = [
        (Mistake::SwapsWords, Endpoint::Chat),
        (Mistake::SwapsWords, Endpoint::ChatStream),
        (Mistake::SwapsSessions, Endpoint::Chat),
    ];
    for (mistake, endpoint) in cases {
        let report = against(mistake, endpoint).await;
        assert!(report.mixed_up > 0, "{mistake:?} {endpoint:?}");
        assert!(!report.is_clean());
    }
}

#[tokio::test]
async fn every_kind_of_failure_has_its_name() {
    let cases = [
        (Mistake::SaysNothing, Endpoint::Chat, "unmarked"),
        (Mistake::Shapeless, Endpoint::Chat, "malformed"),
        (Mistake::Shapeless, Endpoint::ChatStream, "malformed"),
        (Mistake::NoEnd, Endpoint::ChatStream, "truncated"),
        (Mistake::ErrorEvent, Endpoint::ChatStream, "error_event"),
        (Mistake::Status(503), Endpoint::Chat, "status_503"),
        (Mistake::Status(429), Endpoint::ChatStream, "status_429"),
    ];
    for (mistake, endpoint, kind) in cases {
        let report = against(mistake, endpoint).await;
        assert_eq!(errors(&report), [(kind, 40)], "{mistake:?} {endpoint:?}");
        assert_eq!(report.mixed_up, 0);
    }
}

#[tokio::test]
async fn keys_and_paths_are_sent_as_each_format_wants_them() {
    let sim = Simulator::start(SimConfig {
        api_keys: vec!["secret".into()],
        ..SimConfig::default()
    })
    .await
    .unwrap();
    for endpoint in [Endpoint::OpenAi, Endpoint::AnthropicStream] {
        let right = LoadConfig {
            api_key: Some("secret".into()),
            ..forty(format!("{}/v1/", sim.url()), endpoint)
        };
        assert!(load::run(right).await.unwrap().is_clean());
        let wrong = load::run(forty(sim.url(), endpoint)).await.unwrap();
        assert_eq!(errors(&wrong), [("status_401", 40)]);
    }
}

#[tokio::test]
async fn a_broken_connection_costs_one_request() {
    let sim = Simulator::start(SimConfig {
        faults: vec![FaultRule::at(Fault::Reset, 5..=7)],
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let report = load::run(forty(sim.url(), Endpoint::OpenAiStream))
        .await
        .unwrap();
    assert_eq!(errors(&report), [("closed", 3)]);
    assert_eq!(report.answers(), 37);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_reported() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let config = LoadConfig {
        users: 2,
        end: End::Requests(4),
        ..forty(target, Endpoint::Chat)
    };
    let report = load::run(config).await.unwrap();
    assert_eq!(errors(&report), [("connect", 4)]);
    assert!(!report.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_times_out_and_is_left() {
    let sim = Simulator::start(SimConfig {
        faults: vec![FaultRule::always(Fault::HangInBody)],
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let config = LoadConfig {
        users: 1,
        end: End::Requests(2),
        timeout: Duration::from_secs(5),
        ..forty(sim.url(), Endpoint::OpenAiStream)
    };
    let report = load::run(config).await.unwrap();
    assert_eq!(errors(&report), [("timeout", 2)]);
    sim.wait_for(|stats| stats.cancelled == 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_run_takes_its_time_and_the_warm_up_is_not_counted() {
    let sim = Simulator::start(SimConfig {
        first_token: lyceum_sim::Spread::Fixed(Duration::from_millis(100)),
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let config = LoadConfig {
        users: 2,
        warm_up: Duration::from_secs(3),
        end: End::After(Duration::from_secs(10)),
        ..forty(sim.url(), Endpoint::OpenAi)
    };
    let report = load::run(config).await.unwrap();
    // 2 users × 10 s ÷ 0.1 s, less a millisecond of the timer's resolution a request.
    assert!(
        (195..=200).contains(&report.answers()),
        "{}",
        report.answers()
    );
    let counted = report.elapsed.as_secs_f64();
    assert!((10.0..10.2).contains(&counted), "{counted}");
    assert!(sim.stats().answered > report.answers());
    let metrics: BTreeMap<String, f64> = report
        .metrics()
        .into_iter()
        .map(|m| (m.metric, m.value))
        .collect();
    assert!((19.0..20.5).contains(&metrics["rate"]), "{metrics:?}");
    assert!(
        (100.0..106.0).contains(&metrics["latency_p50"]),
        "{metrics:?}"
    );
    assert!((metrics["mixed_up"] + metrics["errors"]).abs() < f64::EPSILON);
}

#[tokio::test]
async fn impossible_runs_are_refused() {
    let with = |target: &str, users| LoadConfig {
        users,
        ..forty(target.into(), Endpoint::Chat)
    };
    for target in [
        "",
        "127.0.0.1:8080",
        "https://127.0.0.1",
        "ftp://a",
        "/chat",
    ] {
        let refused = load::run(with(target, 1)).await.unwrap_err();
        assert!(
            matches!(refused, LoadError::Target { .. }),
            "{target}: {refused}"
        );
    }
    let key = LoadConfig {
        api_key: Some("two\nlines".into()),
        ..with("http://127.0.0.1:1", 1)
    };
    let refused = load::run(key).await.unwrap_err();
    assert!(matches!(refused, LoadError::Key), "{refused}");
    let refused = load::run(with("http://127.0.0.1:1", 0)).await.unwrap_err();
    assert!(matches!(refused, LoadError::Empty { .. }));
}
