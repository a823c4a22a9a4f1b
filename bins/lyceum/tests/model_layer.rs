//! The server's model layer with providers that fail, played by `lyceum-sim`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::PathBuf};

use lyceum_sim::{Fault, FaultRule, Rule, Running, SimConfig, Simulator};
use serde_json::{Value, json};
use support::{Server, run};
use tempfile::TempDir;

const GAPS: &str = r#"{"gaps": []}"#;

async fn simulator(question: &str, faults: Vec<FaultRule>) -> Running {
    let config = SimConfig {
        script: vec![
            Rule::text(GAPS).when_system("Kinds of gap"),
            Rule::text(question),
        ],
        faults,
        ..SimConfig::default()
    };
    Simulator::start(config).await.unwrap()
}

fn configuration(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    fs::write(&file, text).unwrap();
    (dir, file)
}

fn server(text: &str) -> Server {
    let (dir, file) = configuration(text);
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(dir, &["--config", &file], &[])
}

async fn teach(server: &Server, session: &str) -> (u16, Value) {
    let body =
        json!({"topic": "Gravity", "explanation": "The stone falls.", "session_id": session});
    let request = reqwest::Client::new().post(format!("{}/chat", server.url));
    let response = request.json(&body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn get(server: &Server, path: &str) -> String {
    let url = format!("{}{path}", server.url);
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

fn model(sim: &Running, name: &str) -> String {
    let url = sim.url();
    format!(
        "provider = \"openai\"\nname = \"{name}\"\nbase_url = \"{url}/v1\"\napi_key = \"sk-test\"\n"
    )
}

#[tokio::test]
async fn another_model_answers_when_the_main_one_is_down() {
    let main = simulator("Why?", vec![FaultRule::always(Fault::ServerError)]).await;
    let other = simulator("Why does the stone fall at all?", vec![]).await;
    let server = server(&format!(
        "[model]\n{}\n[retry]\nattempts = 1\n[breaker]\nfailures = 3\n[[fallback.models]]\n{}",
        model(&main, "large"),
        model(&other, "small"),
    ));
    for session in ["a", "b", "c"] {
        let (status, answer) = teach(&server, session).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["questions"],
            json!(["Why does the stone fall at all?"])
        );
        assert_eq!(answer["model"], "small");
    }
    assert_eq!(main.stats().requests, 3, "the breaker opened");
    let metrics = get(&server, "/metrics").await;
    assert!(
        metrics.contains("llm_breaker_state{endpoint=\"openai/large\"} 2"),
        "{metrics}"
    );
    let health = get(&server, "/health").await;
    assert!(health.contains("circuit breaker"), "{health}");
}

#[tokio::test]
async fn with_nobody_left_the_fixed_answer_is_given_and_named() {
    let main = simulator("Why?", vec![FaultRule::always(Fault::ServerError)]).await;
    let server = server(&format!(
        "[model]\n{}\n[retry]\nattempts = 1\n[fallback]\ndegraded_answer = \"What comes first?\"\n",
        model(&main, "large"),
    ));
    let (status, answer) = teach(&server, "a").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["provider"], "degraded", "{answer}");
}

#[tokio::test]
async fn calls_are_spread_over_two_endpoints_and_leave_one_with_a_refused_key() {
    let first = simulator("Why one?", vec![]).await;
    let second = simulator("Why two?", vec![]).await;
    let refusing = Simulator::start(SimConfig {
        api_keys: vec!["another".into()],
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let server = server(&format!(
        "[model]\n{}\n[[model.endpoints]]\nbase_url = \"{}/v1\"\n[[model.endpoints]]\nbase_url = \"{}/v1\"\n[balance]\nstrategy = \"weighted\"\n",
        model(&first, "m"),
        second.url(),
        refusing.url(),
    ));
    for session in ["a", "b", "c", "d"] {
        let (status, answer) = teach(&server, session).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (one, two) = (first.stats().answered, second.stats().answered);
    assert_eq!(one + two, 8, "two calls a lesson");
    assert!(one.abs_diff(two) <= 1, "{one} and {two}");
    assert_eq!(refusing.stats().requests, 1, "its key was refused once");
}

#[tokio::test]
async fn check_prints_the_stack_without_a_key() {
    let (_dir, file) = configuration(
        "[model]\nprovider = \"openai\"\nname = \"m\"\napi_key = \"sk-secret\"\n[[model.endpoints]]\napi_key = \"sk-other\"\nweight = 2\n\
         [hedge]\nenabled = true\n[[fallback.models]]\nprovider = \"deepseek\"\napi_key = \"sk-third\"\n[fallback]\ndegraded_answer = \"Sorry.\"\n",
    );
    let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in [
        "hedged after the learned 95th percentile, at most 5 % extra",
        "balanced, peak_ewma",
        "openai/m#2 at https://api.openai.com/v1, weight 2",
        "deepseek/deepseek-chat at",
        "breaking (5 failures, 60 s)",
        "the fixed answer",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    assert!(!text.contains("sk-"), "{text}");
}

#[test]
fn settings_out_of_range_are_named() {
    for (text, key) in [
        ("[breaker]\nfailures = 0\n", "breaker.failures"),
        ("[retry]\nbudget = 2.0\n", "retry.budget"),
        ("[hedge]\ndelay_seconds = -1.0\n", "hedge.delay_seconds"),
        ("[balance]\nstrategy = \"fastest\"\n", "peak_ewma"),
        ("[fallback]\nanswer = \"x\"\n", "fallback.answer"),
    ] {
        let (_dir, file) = configuration(text);
        let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(error.contains(key), "{error}");
    }
}
