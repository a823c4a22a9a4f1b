//! The catalogue against a real scrape, with the real recorder of the process.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use lyceum_gateway::{Catalog, Gateway, GatewayConfig, Info, ServerConfig, Services};
use lyceum_observe::{
    Health, Importance, Kind, Lifecycle, Observation, Telemetry, TelemetryConfig, describe,
    metrics_of,
};
use tokio::net::TcpStream;

#[path = "gateway/support.rs"]
#[expect(dead_code, reason = "this binary uses a part")]
mod support;

use support::{EXPLANATION, Scripted, listen};

#[tokio::test]
async fn a_scrape_holds_every_metric_of_the_catalogues_and_only_bounded_labels() {
    let quiet = TelemetryConfig {
        filter: "off".into(),
        ..TelemetryConfig::default()
    };
    let telemetry = Telemetry::init(&quiet).unwrap();
    let own = metrics_of("lyceum-gateway");
    describe(own);
    let health = Health::default();
    health.register("database", Importance::Critical, Observation::pass);
    health.enter(Lifecycle::Ready);
    let (render, process) = (telemetry.clone(), telemetry.process().clone());
    let gateway = Gateway::new(
        &GatewayConfig::default(),
        Services {
            student: Scripted::thorough(),
            models: Catalog::default(),
            health,
            metrics: Box::new(move || render.render()),
            process,
            info: Info {
                version: "1".into(),
                service_id: "a".into(),
                provider: "scripted".into(),
                model: None,
            },
        },
    );
    let config = ServerConfig {
        connections: 1,
        ..ServerConfig::default()
    };
    let server = listen(gateway, config).await;
    server.post("/chat", EXPLANATION).await;
    server.post("/chat/stream", EXPLANATION).await;
    server.get("/no/such/place?with=words").await;
    server.get("/health").await;
    // One connection more than the limit, while another is held.
    let held = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/livez").await.status, 503);
    drop(held);
    let scrape = loop {
        // The held connection's slot is free once the server has seen it close.
        let reply = server.get("/metrics").await;
        if reply.status == 200 {
            break reply;
        }
    };
    let content_type = scrape.header("content-type");
    assert_eq!(
        content_type,
        Some("text/plain; version=0.0.4; charset=utf-8")
    );

    let lines: Vec<&str> = scrape.body.lines().collect();
    let mut described = BTreeSet::new();
    // Nothing is exported here, and no log lines are counted.
    let absent = ["telemetry_exports_total", "log_lines_dropped_total"];
    let observed = lyceum_observe::METRICS.iter();
    let observed = observed.filter(|metric| !absent.contains(&metric.name));
    for metric in own.iter().chain(observed) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = metric.name;
        assert!(
            lines.contains(&format!("# HELP {name} {}", metric.help).as_str()),
            "{name}"
        );
        assert!(
            lines.contains(&format!("# TYPE {name} {kind}").as_str()),
            "{name}"
        );
        described.insert(name);
        let sample = lines.iter().find(|line| line.starts_with(name)).unwrap();
        for label in metric.labels {
            assert!(
                sample.contains(&format!("{label}=\"")),
                "{label} in {sample}"
            );
        }
    }
    for line in lines.iter().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(described.contains(name), "{name} is in no catalogue");
    }
    for sample in [
        r#"api_requests_total{method="POST",endpoint="/chat",status="200"} 1"#,
        r#"api_requests_total{method="POST",endpoint="/chat/stream",status="200"} 1"#,
        r#"api_requests_total{method="GET",endpoint="unmatched",status="404"} 1"#,
        r#"api_request_duration_seconds_count{method="POST",endpoint="/chat"} 1"#,
        "api_active_streams 0",
        "api_active_connections 1",
        r#"api_connections_refused_total{how="busy"} 1"#,
        r#"health_check_status{check="database"} 1"#,
    ] {
        let found = lines.iter().any(|line| line.starts_with(sample));
        assert!(found, "{sample} in\n{}", scrape.body);
    }
    assert!(!scrape.body.contains("such"), "a path became a label");
}
