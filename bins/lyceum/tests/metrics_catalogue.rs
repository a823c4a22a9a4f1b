//! What the running server shows at `/metrics` after some work, against the catalogue.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use lyceum_observe::{Kind, MetricSpec, metric};
use lyceum_sim::{Fault, FaultRule, Rule, Running, SimConfig, Simulator};
use serde_json::json;
use support::Server;

/// What only trouble or another configuration makes: refusals for rate, a shared ledger, second attempts, other
/// endpoints, budgets, an answer cache that fails or is shared, connections beyond the limit, tools, exported spans,
/// alerts, very large requests, log lines that are left out, embedding models.
const NOT_EXERCISED: &[&str] = &[
    "agent_questions_rejected_total",
    "agent_summarised_tokens_total",
    "agent_summary_tokens_total",
    "alert_notices_total",
    "alert_notices_waiting",
    "log_lines_dropped_total",
    "llm_large_requests_total",
    "mcp_connects_total",
    "mcp_server_up",
    "mcp_server_tools",
    "telemetry_exports_total",
    "tool_calls_total",
    "tool_call_duration_seconds",
    "tool_results_total",
    "tool_retries_total",
    "tool_results_warmed_total",
    "tool_breaker_open",
    "llm_throttled_total",
    "llm_rerouted_total",
    "llm_hedges_total",
    "llm_over_budget_total",
    "llm_cost_alerts_total",
    "llm_cache_lookups_total",
    "llm_cache_failures_total",
    "llm_embeddings_total",
    "llm_embedding_duration_seconds",
    "llm_embedding_texts_total",
    "llm_embedding_tokens_total",
    "lyceum_queue_ledger_linked",
    "lyceum_queue_ledger_replicas",
    "lyceum_queue_ledger_failed_total",
    "api_active_streams",
    "redis_cache_hits_total",
    "redis_cache_misses_total",
    "redis_cache_hit_rate",
    "redis_cache_size_bytes",
    "redis_cache_evictions_total",
    "redis_cache_ttl_remaining",
    "api_cache_response_time",
    "cache_shared_failures_total",
];

async fn simulator(faults: Vec<FaultRule>) -> Running {
    let config = SimConfig {
        script: vec![
            Rule::text(r#"{"gaps": []}"#).when_system("Kinds of gap"),
            Rule::text("Why does it fall?"),
        ],
        faults,
        ..SimConfig::default()
    };
    Simulator::start(config).await.unwrap()
}

/// Works with two models that fail and a third that answers.
async fn worked() -> String {
    let broken = simulator(vec![FaultRule::always(Fault::ServerError)]).await;
    let slow = simulator(vec![FaultRule::always(Fault::Overloaded)]).await;
    let good = simulator(vec![]).await;
    let model = |sim: &Running| {
        let url = sim.url();
        format!(
            "provider = \"openai\"\nname = \"gpt-4.1-mini\"\nbase_url = \"{url}/v1\"\napi_key = \"sk-test\"\n"
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    let text = format!(
        "[model]\n{}[retry]\nattempts = 2\nmin_seconds = 0\nmax_seconds = 1\nbudget = 1.0\n[breaker]\nfailures = 2\n[[fallback.models]]\n{}[[fallback.models]]\n{}",
        model(&broken),
        model(&slow),
        model(&good),
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    let server = Server::start_in(dir, &["--config", &file], &[]);
    let client = reqwest::Client::new();
    for session in ["a", "b", "c"] {
        let body = json!({"topic": "Gravity", "explanation": "It falls.", "session_id": session});
        let url = format!("{}/chat", server.url);
        let answer = client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }
    let get = async |path: &str| {
        let url = format!("{}{path}", server.url);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    };
    get("/health").await;
    get("/nothing/here").await;
    get("/metrics").await
}

#[derive(Default, Debug)]
struct Scraped {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The families of a scrape: what is said of them, and the labels of their series.
fn families(scrape: &str) -> BTreeMap<String, Scraped> {
    let mut families: BTreeMap<String, Scraped> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let family = families.entry(name.to_owned()).or_default();
            let rest = words.next().unwrap_or_default().to_owned();
            match what {
                "TYPE" => family.kind = rest,
                "HELP" => family.help = rest,
                _ => {}
            }
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap();
        let known = metric(name).map_or(name, |spec| spec.name);
        let family = families.entry(known.to_owned()).or_default();
        let labels = line.split_once('{').map_or("", |(_, rest)| rest);
        // A label's name stands before `="`; no value of this workload holds that.
        for part in labels.split("=\"") {
            let name = part.rsplit(['"', ',']).next().unwrap();
            if !name.is_empty() && name != "le" && !name.contains('}') {
                family.labels.insert(name.to_owned());
            }
        }
    }
    families
}

fn kind(spec: &MetricSpec) -> &'static str {
    match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[tokio::test]
async fn the_server_shows_what_the_catalogue_says() {
    let scrape = worked().await;
    let families = families(&scrape);
    for (name, scraped) in &families {
        let spec = metric(name);
        assert!(spec.is_some(), "{name} is missing in the catalogue");
        let spec = spec.unwrap();
        assert_eq!(scraped.kind, kind(spec), "{name}");
        assert_eq!(scraped.help, spec.help, "{name}");
        let labels: BTreeSet<String> = spec.labels.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(scraped.labels, labels, "the labels of {name} in\n{scrape}");
    }
    for spec in lyceum_observe::CATALOGUE.iter().flat_map(|g| g.metrics) {
        let shown = families.contains_key(spec.name);
        assert!(
            shown || NOT_EXERCISED.contains(&spec.name),
            "{} is not in\n{scrape}",
            spec.name
        );
    }
}
