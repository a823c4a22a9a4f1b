//! The compatible APIs as the vendors' own SDKs see them: a real server, with a provider
//! played by `lyceum-sim` behind it, and with the offline student.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{process::Command, time::Duration};

use lyceum_sim::{Fault, FaultRule, Reply, Rule, Running, SimConfig, Simulator, Spread};
use serde_json::json;
use support::{Server, javascript, python, root};

/// Runs a Python script with the addresses of servers.
async fn drive(script: &str, arguments: &[&str]) {
    run(Command::new(python()), script, arguments).await;
}

/// Runs a script for Node with the address of a server.
async fn drive_node(script: &str, url: &str) {
    let packages = javascript();
    let arguments = [packages.to_str().unwrap(), url];
    run(Command::new("node"), script, &arguments).await;
}

async fn run(mut command: Command, script: &str, arguments: &[&str]) {
    command
        .arg(root().join("bins/lyceum/tests/compat").join(script))
        .args(arguments)
        .env_remove("OPENAI_BASE_URL")
        .env_remove("ANTHROPIC_BASE_URL");
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

fn scripted() -> SimConfig {
    let two = vec![
        ("calculate".to_owned(), json!({"expression": "2+2"})),
        ("calculate".to_owned(), json!({"expression": "3+3"})),
    ];
    SimConfig {
        script: vec![
            Rule::text("The results are 4 and 6.").when_tool("6"),
            Rule::new(Reply::ToolCalls(two)).when_user("calculate both"),
            Rule::text(r#"{"city": "Paris", "people": 2100000}"#).when_user("as a record"),
            Rule::text("Hello \"you\", 你好."),
        ],
        record: 64,
        ..SimConfig::default()
    }
}

/// A server in front of a simulated provider, with further lines of configuration.
fn served(sim: &Running, more: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lyceum.toml");
    std::fs::write(&config, more).unwrap();
    let url = format!("{}/v1", sim.url());
    let path = config.to_str().unwrap().to_owned();
    Server::start_in(
        dir,
        &["--config", &path],
        &[("OPENAI_API_KEY", "sk-upstream"), ("OPENAI_BASE_URL", &url)],
    )
}

/// An embedding model behind the same provider.
const EMBEDDING: &str = "[[embedding.models]]
provider = \"openai\"
name = \"sim-embedding\"
dimensions = 64
send_dimensions = true
shortens = true
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_sdk_agrees() {
    let sim = Simulator::start(scripted()).await.unwrap();
    let server = served(&sim, EMBEDDING);
    let offline = Server::offline();
    drive("openai_sdk.py", &[&server.url, &offline.url]).await;
    let stats = sim.stats();
    assert!(stats.answered >= 5, "{stats:?}");
    assert_eq!(stats.active, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_javascript_agree() {
    let sim = Simulator::start(scripted()).await.unwrap();
    let server = served(&sim, EMBEDDING);
    drive_node("openai_sdk.mjs", &server.url).await;
    drive_node("anthropic_sdk.mjs", &server.url).await;
    drive_node("langgraph_sdk.mjs", &Server::offline().url).await;
    assert_eq!(sim.stats().active, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anthropic_sdk_agrees() {
    let sim = Simulator::start(scripted()).await.unwrap();
    let server = served(&sim, "");
    let offline = Server::offline();
    drive("anthropic_sdk.py", &[&server.url, &offline.url]).await;
    let stats = sim.stats();
    assert!(stats.answered >= 5, "{stats:?}");
    assert_eq!(stats.active, 0);
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_call_upstream() {
    let sim = Simulator::start(SimConfig {
        script: vec![Rule::text(
            "one two three four five six seven eight nine ten",
        )],
        first_token: Spread::Fixed(Duration::from_secs(30)),
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let server = served(&sim, "");
    for (at, stream) in [false, true].into_iter().enumerate() {
        let body = json!({"model": "gpt-4o-mini", "stream": stream,
            "messages": [{"role": "user", "content": "hello"}]});
        let models: serde_json::Value = reqwest::get(format!("{}/v1/models", server.url))
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let mut body = body;
        body["model"] = models["data"][0]["id"].clone();
        let request = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", server.url))
            .json(&body);
        let sent = tokio::spawn(request.send());
        sim.wait_for(|stats| stats.active == 1).await;
        sent.abort();
        let closed = sim.wait_for(|stats| stats.cancelled == at as u64 + 1);
        let closed = tokio::time::timeout(Duration::from_secs(1), closed).await;
        assert!(closed.is_ok(), "stream {stream}: {:?}", sim.stats());
    }
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_event() {
    let sim = Simulator::start(SimConfig {
        faults: vec![FaultRule::always(Fault::Truncate)],
        ..scripted()
    })
    .await
    .unwrap();
    let server = served(&sim, "[retry]\nattempts = 1\n");
    let models: serde_json::Value = reqwest::get(format!("{}/v1/models", server.url))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let text = reqwest::Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .json(&json!({"model": models["data"][0]["id"], "stream": true,
            "messages": [{"role": "user", "content": "hello"}]}))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(text.contains("\"error\""), "{text}");
    assert!(!text.contains("[DONE]"), "{text}");
}

#[tokio::test]
async fn a_question_that_means_the_same_is_answered_from_the_cache() {
    let sim = Simulator::start(scripted()).await.unwrap();
    let cache =
        "[cache]\nmode = \"all\"\nsemantic = \"hashing-v1-512\"\nsemantic_threshold = 0.8\n";
    let server = served(&sim, cache);
    let mut origins = Vec::new();
    for question in [
        "How do plants turn light into sugar?",
        "how do plants turn the light into sugar",
        "Who lends money to banks?",
    ] {
        let answer = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", server.url))
            .json(&json!({"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": question}]}))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        origins.push(answer.headers().contains_key("x-lyceum-origin"));
    }
    assert_eq!(origins, [false, true, false]);
    assert_eq!(sim.stats().answered, 2);
}
