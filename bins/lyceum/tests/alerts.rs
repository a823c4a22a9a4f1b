//! The server tells a webhook when a day costs more than planned.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use axum::{Router, body::Bytes, extract::State, routing::post};
use lyceum_sim::{Rule, SimConfig, Simulator};
use serde_json::{Value, json};
use support::Server;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

async fn sink() -> (String, mpsc::Receiver<Value>) {
    async fn take(State(sender): State<mpsc::Sender<Value>>, body: Bytes) {
        let body = serde_json::from_slice(&body).unwrap();
        sender.send(body).await.unwrap();
    }
    let (sender, inbox) = mpsc::channel(16);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(take)).with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/"), inbox)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_costs_more_than_planned_is_told_once() {
    let sim = Simulator::start(SimConfig {
        script: vec![
            Rule::text(r#"{"gaps": []}"#).when_system("Kinds of gap"),
            Rule::text("Why does it fall?"),
        ],
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let (hook, mut inbox) = sink().await;
    let provider = format!("{}/v1", sim.url());
    let server = Server::start(
        &["--model", "gpt-4.1-mini"],
        &[
            ("OPENAI_API_KEY", "sk-upstream"),
            ("OPENAI_BASE_URL", &provider),
            ("LYCEUM_ALERTS__WEBHOOK_URL", &hook),
            ("LYCEUM_ALERTS__INTERVAL_SECONDS", "1"),
            ("LYCEUM_ALERTS__DAILY_COST_USD", "0.000001"),
        ],
    );
    let body = json!({"topic": "Gravity", "explanation": "It falls.", "session_id": "s-1"});
    let sent = reqwest::Client::new()
        .post(format!("{}/chat", server.url))
        .json(&body);
    assert_eq!(sent.send().await.unwrap().status(), 200);
    let notice = timeout(Duration::from_secs(30), inbox.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(notice["alert"], "daily_cost");
    assert_eq!(notice["state"], "firing");
    assert!(notice["value"].as_f64().unwrap() > 0.000_001);
    let scrape = reqwest::get(format!("{}/metrics", server.url))
        .await
        .unwrap();
    let scrape = scrape.text().await.unwrap();
    assert!(
        scrape.contains("alert_firing{alert=\"daily_cost\"} 1"),
        "{scrape}"
    );
}

#[test]
fn a_channel_that_cannot_work_ends_the_start_without_its_secret() {
    let output = support::run(
        &["serve", "--provider", "offline", "--listen", "127.0.0.1:0"],
        &[("LYCEUM_ALERTS__SLACK_URL", "hooks.example.org/secret")],
    );
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("alerts.slack_url"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}
