//! The server's model layer with providers that fail, played by `lyceum-sim`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::PathBuf, time::Duration};

use lyceum_sim::{Fault, FaultRule, Recorded, Rule, Running, SimConfig, Simulator, Spread};
use serde_json::{Value, json};
use support::{Server, run, until};
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
    let health = until(
        || get(&server, "/health"),
        |health| health.contains("circuit breaker"),
    )
    .await;
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
async fn a_repeated_question_is_answered_from_the_cache() {
    let sim = simulator("Why does it fall?", vec![]).await;
    let server = server(&format!(
        "[model]\n{}\n[cache]\nmode = \"all\"\n[memory]\nrecalled = 0\nconsolidate = false\n",
        model(&sim, "m"),
    ));
    let (_, first) = teach(&server, "a").await;
    let (status, second) = teach(&server, "b").await;
    assert_eq!(status, 200, "{second}");
    assert_eq!(first["questions"], second["questions"]);
    let hits = get(&server, "/metrics").await;
    assert!(
        hits.contains("llm_cache_lookups_total{outcome=\"exact\"} 1"),
        "{hits}"
    );
    assert_eq!(sim.stats().requests, 3, "one of four was not sent");
}

#[tokio::test]
async fn a_budget_stops_calls_with_a_clear_error_and_survives_a_restart() {
    let sim = simulator("Why does it fall?", vec![]).await;
    // Two lessons' calls fit into it, by what is set aside for each.
    let text = format!(
        "[model]\n{}\n[cost]\ntenant_daily_usd = 0.02\n",
        model(&sim, "gpt-4.1-mini"),
    );
    let first = server(&text);
    let mut lessons = 0;
    let refused = loop {
        let (status, answer) = teach(&first, &format!("s{lessons}")).await;
        if status != 200 {
            break (status, answer);
        }
        lessons += 1;
        assert!(lessons < 100, "the budget stops nothing");
    };
    assert_eq!(refused.0, 429, "{}", refused.1);
    assert!(
        refused.1["detail"].as_str().unwrap().contains("budget"),
        "{}",
        refused.1
    );
    assert!(lessons > 0);
    let metrics = get(&first, "/metrics").await;
    assert!(
        metrics.contains("llm_over_budget_total{budget=\"tenant_day\"}"),
        "{metrics}"
    );
    let spent = metrics
        .lines()
        .find_map(|line| line.strip_prefix("llm_cost_today_dollars "))
        .unwrap();
    assert!(spent.parse::<f64>().unwrap() <= 0.02, "{spent}");
    let asked = sim.stats().requests;
    first.signal("TERM");
    let (_, _, dir) = first.wait();
    let file = dir.path().join("lyceum.toml");
    let file = file.to_str().unwrap().to_owned();
    let again = Server::start_in(dir, &["--config", &file], &[]);
    let (status, answer) = teach(&again, "later").await;
    assert_eq!(status, 429, "{answer}");
    assert_eq!(sim.stats().requests, asked, "nothing more was sent");
}

#[test]
fn a_budget_needs_a_price() {
    let (dir, file) = configuration(
        "[model]\nprovider = \"openai\"\nname = \"unheard-of\"\napi_key = \"sk-test\"\n[cost]\ndaily_usd = 1.0\n",
    );
    let data = dir.path().join("data");
    let output = run(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--data-dir",
            data.to_str().unwrap(),
            "--config",
            file.to_str().unwrap(),
        ],
        &[],
    );
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no price for unheard-of"), "{error}");
}

#[test]
fn a_month_is_estimated_as_a_table_and_as_json() {
    let flags = [
        "cost",
        "estimate",
        "--users",
        "500",
        "--calls-per-user",
        "8",
        "--input-tokens",
        "2000",
        "--output-tokens",
        "500",
        "--cache-hit-rate",
        "0.4",
        "--prompt-cache-rate",
        "0.5",
        "--model",
        "claude-sonnet-4-5",
    ];
    let table = String::from_utf8(run(&flags, &[]).stdout).unwrap();
    for words in [
        "120000 calls a month, 72000 after",
        "$1620.00",
        "$777.60",
        "52.0%",
    ] {
        assert!(table.contains(words), "{words:?} is missing in {table}");
    }
    let output = run(&[&flags[..], &["--json"]].concat(), &[]).stdout;
    let json: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(json["models"][0]["after_usd"], json!(777.6));

    let unknown = run(
        &[
            "cost",
            "estimate",
            "--users",
            "1",
            "--calls-per-user",
            "1",
            "--model",
            "x",
        ],
        &[],
    );
    let error = String::from_utf8(unknown.stderr).unwrap();
    assert!(error.contains("--prices FILE"), "{error}");
    let prices = String::from_utf8(run(&["cost", "prices"], &[]).stdout).unwrap();
    assert!(prices.contains("deepseek-chat"), "{prices}");
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

#[tokio::test]
async fn what_waits_for_a_deleted_conversation_is_not_sent() {
    let sim = Simulator::start(SimConfig {
        first_token: Spread::Fixed(Duration::from_secs(2)),
        script: vec![
            Rule::text(GAPS).when_system("Kinds of gap"),
            Rule::text("Why?"),
        ],
        record: 10,
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let server = server(&format!(
        "[model]\n{}\n[queue]\nmax_concurrent = 1\n",
        model(&sim, "gpt-4.1-mini")
    ));
    let asked = until(|| async { sim.stats().requests }, |requests| *requests > 0);
    let (first, second, ()) = tokio::join!(
        teach(&server, "a"),
        async {
            asked.await;
            teach(&server, "b").await
        },
        async {
            let waiting = "lyceum_queue_waiting{queue=\"openai/gpt-4.1-mini\",band=\"normal\"} 1";
            until(|| get(&server, "/metrics"), |text| text.contains(waiting)).await;
            let url = format!("{}/sessions/b", server.url);
            reqwest::Client::new().delete(url).send().await.unwrap();
        }
    );
    assert_eq!(first.1["provider"], "openai", "{first:?}");
    assert_eq!(second.0, 409, "{second:?}");
    let looked_for_gaps = |sent: &&Recorded| sent.json().to_string().contains("Kinds of gap");
    let requests = sim.requests();
    assert_eq!(requests.iter().filter(looked_for_gaps).count(), 1);
}
