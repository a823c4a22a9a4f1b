//! The panel of the real server: without a model, and its timing with one that `lyceum-sim` plays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use lyceum_sim::{Rule, Running, SimConfig, Simulator, Spread};
use serde_json::{Value, json};
use support::Server;

const ROLES: [&str; 4] = ["planner", "critic", "host", "reporter"];

fn position(rounds: u32) -> Value {
    json!({
        "topic": "vaccines",
        "text": "A vaccine trains the immune system. It always works for everybody.",
        "session_id": "p-1",
        "rounds": rounds,
    })
}

async fn post(url: String, body: &Value) -> reqwest::Response {
    let request = reqwest::Client::new().post(url).json(body);
    request.send().await.unwrap().error_for_status().unwrap()
}

/// A model that says eight lines in each role.
async fn simulator() -> Running {
    let script = ROLES.map(|role| {
        let line = match role {
            "host" => "OPEN, the claim has to change.",
            _ => "A vaccine shows the body what to fight.",
        };
        let lines: String = (1..=8).map(|at| format!("{at}. {line}\n")).collect();
        Rule::text(lines).when_system(format!("You are the {role} of a panel"))
    });
    let config = SimConfig {
        first_token: Spread::Fixed(Duration::from_millis(300)),
        per_token: Spread::Fixed(Duration::from_millis(20)),
        script: script.into(),
        ..SimConfig::default()
    };
    Simulator::start(config).await.unwrap()
}

/// The time of the four calls of a round, one after the other.
async fn sequential(sim: &Running) -> Duration {
    let start = Instant::now();
    for role in ROLES {
        let system = format!("You are the {role} of a panel");
        let body = json!({
            "model": "m", "stream": true,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": "go"}],
        });
        let url = format!("{}/v1/chat/completions", sim.url());
        let answer = post(url, &body).await.text().await.unwrap();
        assert!(answer.contains("[DONE]"), "{answer}");
    }
    start.elapsed()
}

#[tokio::test]
async fn a_round_takes_at_most_60_percent_of_the_sequential_time() {
    let sim = simulator().await;
    let url = format!("{}/v1", sim.url());
    let env = [
        ("OPENAI_API_KEY", "sk-test"),
        ("OPENAI_BASE_URL", url.as_str()),
    ];
    let server = Server::start(&[], &env);
    let sequential = sequential(&sim).await;
    // A queue that knows no quota begins with few calls at once: the first round is not measured.
    let first = post(format!("{}/panel", server.url), &position(1)).await;
    assert!(first.text().await.unwrap().contains("turns"));
    let start = Instant::now();
    let answer = post(format!("{}/panel", server.url), &position(1)).await;
    let took = start.elapsed();
    let report: Value = answer.json().await.unwrap();
    assert_eq!(report["turns"].as_array().unwrap().len(), 4, "{report}");
    assert_eq!(report["degraded"], json!([]));
    // Four one after the other, then rounds of five: the critic hears the later claims, too.
    assert_eq!(sim.stats().requests, 14, "five calls a round");
    assert!(
        took <= sequential * 6 / 10,
        "{took:?} of {sequential:?} is {:.0} %",
        100.0 * took.as_secs_f64() / sequential.as_secs_f64()
    );
}

#[tokio::test]
async fn the_panel_discusses_without_a_model() {
    let server = Server::offline();
    let answer = post(format!("{}/panel", server.url), &position(3)).await;
    let report: Value = answer.json().await.unwrap();
    assert_eq!(report["provider"], "offline", "{report}");
    assert_eq!(report["session_id"], "p-1");
    let dissent = report["dissent"].as_array().unwrap();
    assert!(!dissent.is_empty(), "{report}");

    let stream = post(format!("{}/panel/stream", server.url), &position(3)).await;
    let stream = stream.text().await.unwrap();
    for role in ROLES {
        assert!(
            stream.contains(&format!(
                "event: text\ndata: {{\"agent\":\"{role}\",\"round\":1"
            )),
            "{stream}"
        );
    }
    assert!(stream.contains("event: result\n"), "{stream}");
    assert!(
        stream.ends_with("data: \"[END_OF_STREAM]\"\n\n"),
        "{stream}"
    );

    let wrong = reqwest::Client::new().post(format!("{}/panel", server.url));
    let wrong = wrong.json(&position(4)).send().await.unwrap();
    assert_eq!(wrong.status(), 422);
}
