//! The server with hosted providers, played by `lyceum-sim`, and what happens when they fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use lyceum_sim::{Fault, FaultRule, Rule, Running, SimConfig, Simulator, Spread};
use serde_json::{Value, json};
use support::Server;

async fn simulator(config: SimConfig) -> Running {
    Simulator::start(config).await.unwrap()
}

fn with_openai(sim: &Running) -> Server {
    let url = format!("{}/v1", sim.url());
    Server::start(
        &[],
        &[
            ("OPENAI_API_KEY", "sk-test-secret"),
            ("OPENAI_BASE_URL", &url),
        ],
    )
}

fn with_anthropic(sim: &Running) -> Server {
    let url = sim.url();
    Server::start(
        &[],
        &[
            ("ANTHROPIC_API_KEY", "sk-test-secret"),
            ("ANTHROPIC_BASE_URL", &url),
        ],
    )
}

fn lesson(text: &str) -> Value {
    json!({"topic": "Gravity", "explanation": text, "session_id": "s"})
}

async fn chat(server: &Server, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("{}/chat", server.url));
    let response = request.json(body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// The model plays a good student: it calls a tool, then finds one gap, then asks about it.
fn good_student() -> Vec<Rule> {
    vec![
        Rule::tool_call("calculate", json!({"expression": "9.8 * 2"})).when_system("Kinds of gap"),
        Rule::text(
            r#"Here you are: {"gaps": [{"kind": "missing_mechanism", "quote": "the stone falls", "reason": "why?", "severity": "high"}]}"#,
        )
        .when_system("Kinds of gap"),
        Rule::text("1. What makes it so that \"the stone falls\"?").when_system("Ask the teacher"),
    ]
}

#[tokio::test]
async fn both_dialects_find_gaps_with_tools_and_ask_about_them() {
    let sim = simulator(SimConfig {
        script: good_student(),
        ..SimConfig::default()
    })
    .await;
    for (server, provider) in [
        (with_openai(&sim), "openai"),
        (with_anthropic(&sim), "anthropic"),
    ] {
        let (status, answer) = chat(&server, &lesson("You let go, and the stone falls.")).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["provider"], provider);
        assert_eq!(answer["gaps"][0]["quote"], "the stone falls");
        assert_eq!(
            answer["questions"],
            json!(["What makes it so that \"the stone falls\"?"])
        );
        assert_eq!(answer["tools"][0]["tool"], "calculate");
        assert!(
            answer["tools"][0]["result"]
                .as_str()
                .unwrap()
                .contains("19.6"),
            "{answer}"
        );
        assert!(answer["usage"]["output_tokens"].as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn text_streams_before_the_answer_is_complete_and_leaving_cancels_upstream() {
    let slow = Spread::Fixed(Duration::from_millis(200));
    let sim = simulator(SimConfig {
        script: vec![
            Rule::text(r#"{"gaps": []}"#).when_system("Kinds of gap"),
            // Words are heard when their line was judged, so the first line comes early.
            Rule::text(
                "1. Why does the stone fall?\n\
                 2. Where would the stone not fall, and not rise, and not stay, if you let go of it at all?",
            ),
        ],
        per_token: slow,
        ..SimConfig::default()
    })
    .await;
    let server = with_openai(&sim);
    let request = reqwest::Client::new().post(format!("{}/chat/stream", server.url));
    let mut response = request
        .json(&lesson("The stone falls."))
        .send()
        .await
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("data: \"") {
        seen.push_str(&String::from_utf8_lossy(
            &response.chunk().await.unwrap().unwrap(),
        ));
    }
    assert!(!seen.contains("END_OF_STREAM"), "{seen}");
    drop(response);
    let stats = tokio::time::timeout(
        Duration::from_secs(5),
        sim.wait_for(|stats| stats.cancelled >= 1),
    )
    .await;
    assert!(
        stats.is_ok(),
        "the call upstream goes on: {:?}",
        sim.stats()
    );
}

#[tokio::test]
async fn an_answer_of_any_form_gives_questions() {
    for nonsense in [
        "I do not know.",
        "{\"answer\": 42}",
        "```json\n{\"gaps\": [{\"kind\"",
        "[]",
    ] {
        let sim = simulator(SimConfig {
            script: vec![Rule::text(nonsense)],
            ..SimConfig::default()
        })
        .await;
        let server = with_openai(&sim);
        let (status, answer) = chat(&server, &lesson("The stone falls because of gravity.")).await;
        assert_eq!(status, 200, "{answer}");
        assert!(
            !answer["questions"].as_array().unwrap().is_empty(),
            "{nonsense}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_refused_key_is_said_without_the_key_or_the_providers_words() {
    let sim = simulator(SimConfig {
        api_keys: vec!["another".into()],
        ..SimConfig::default()
    })
    .await;
    let server = with_openai(&sim);
    let (status, answer) = chat(&server, &lesson("The stone falls.")).await;
    assert_eq!(status, 502, "{answer}");
    assert!(
        answer["detail"].as_str().unwrap().contains("key"),
        "{answer}"
    );
    server.signal("TERM");
    let (_, log, _) = server.wait();
    assert!(!log.contains("sk-test-secret"), "{log}");
}

#[tokio::test]
async fn a_rate_limited_call_is_sent_again_and_succeeds() {
    let sim = simulator(SimConfig {
        faults: vec![FaultRule::at(Fault::RateLimited, 1..=1)],
        ..SimConfig::default()
    })
    .await;
    let server = with_openai(&sim);
    let (status, answer) = chat(&server, &lesson("The stone falls.")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(sim.stats().faults_of(Fault::RateLimited), 1);
}

#[tokio::test]
async fn a_cut_stream_is_an_error_event_and_the_turn_is_not_kept() {
    let sim = simulator(SimConfig {
        script: vec![
            Rule::text(r#"{"gaps": []}"#).when_system("Kinds of gap"),
            Rule::text("Why does the stone fall, and not rise, when you let go of it?"),
        ],
        faults: vec![FaultRule::at(Fault::Truncate, 2..=2)],
        ..SimConfig::default()
    })
    .await;
    let server = with_openai(&sim);
    let request = reqwest::Client::new().post(format!("{}/chat/stream", server.url));
    let text = request
        .json(&lesson("The stone falls."))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.contains("event: error"), "{text}");
    assert!(
        text.trim_end().ends_with("data: \"[END_OF_STREAM]\""),
        "{text}"
    );
    let (status, answer) = chat(&server, &lesson("The stone falls.")).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["short_term_memory"].as_array().unwrap().len(),
        2,
        "{answer}"
    );
}
