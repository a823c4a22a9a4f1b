//! What a collector gets: the spans of a lesson, joined to the caller's trace and to the
//! provider's, from the real program over OTLP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use lyceum_sim::{Rule, SimConfig, Simulator};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};
use support::Server;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

type Inbox = mpsc::Receiver<(HeaderMap, ExportTraceServiceRequest)>;

/// A collector, its address and what it gets.
async fn collector() -> (String, Inbox) {
    async fn take(
        State(sender): State<mpsc::Sender<(HeaderMap, ExportTraceServiceRequest)>>,
        headers: HeaderMap,
        body: Bytes,
    ) {
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        sender.send((headers, request)).await.unwrap();
    }
    let (sender, inbox) = mpsc::channel(64);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/v1/traces", post(take))
        .with_state(sender);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), inbox)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        StringValue(text) => Some(text),
        _ => None,
    }
}

/// The spans that the server sends until one of this name is among them.
async fn spans_until(inbox: &mut Inbox, name: &str) -> Vec<Span> {
    spans_until_all(inbox, &[name]).await
}

/// The spans that the server sends until one of each of these names is among them.
async fn spans_until_all(inbox: &mut Inbox, names: &[&str]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let all = async {
        while !names
            .iter()
            .all(|name| spans.iter().any(|span| span.name == *name))
        {
            let (_, request) = inbox.recv().await.unwrap();
            for resource in request.resource_spans {
                spans.extend(
                    resource
                        .scope_spans
                        .into_iter()
                        .flat_map(|scope| scope.spans),
                );
            }
        }
    };
    let seen = timeout(Duration::from_secs(30), all).await;
    let named: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert!(seen.is_ok(), "{names:?} among {named:?}");
    spans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lesson_is_one_trace_from_the_caller_to_the_provider() {
    let sim = Simulator::start(SimConfig {
        script: vec![
            Rule::text(r#"{"gaps": []}"#).when_system("Kinds of gap"),
            Rule::text("Why does it fall?"),
        ],
        record: 16,
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let (endpoint, mut inbox) = collector().await;
    let provider = format!("{}/v1", sim.url());
    let server = Server::start(
        &["--log-format", "json"],
        &[
            ("OPENAI_API_KEY", "sk-upstream"),
            ("OPENAI_BASE_URL", &provider),
            ("LYCEUM_TRACES__ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector-key=abc"),
        ],
    );
    let answer = reqwest::Client::new()
        .post(format!("{}/chat", server.url))
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .json(&json!({"topic": "Gravity", "explanation": "It falls.", "session_id": "s-1"}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let spans = spans_until(&mut inbox, "POST /chat").await;
    let find = |name: &str| {
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("{name} among {names:?}"))
    };
    let request = find("POST /chat");
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(text(request, "http.route"), Some("/chat"));
    for span in &spans {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
    }
    let node = find("node gap_identifier");
    let call = spans
        .iter()
        .find(|span| span.name.starts_with("chat ") && span.parent_span_id == node.span_id)
        .unwrap();
    assert_eq!(text(call, "gen_ai.operation.name"), Some("chat"));
    assert_eq!(text(call, "gen_ai.conversation.id"), Some("s-1"));
    find("retrieval memory");
    find("queue_wait");
    // The provider is told, and no text of the lesson leaves with a span.
    let calls: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name.starts_with("chat "))
        .collect();
    for sent in sim.requests() {
        let parent = sent.headers["traceparent"].to_str().unwrap();
        assert!(
            calls
                .iter()
                .any(|call| parent == format!("00-{TRACE}-{}-01", hex(&call.span_id))),
            "{parent}"
        );
    }
    assert!(!format!("{spans:?}").contains("It falls"));
    // The log names the trace.
    server.signal("TERM");
    let (code, log, _dir) = server.wait();
    assert_eq!(code, Some(0));
    let line = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["endpoint"] == "/chat")
        .unwrap();
    assert_eq!(line["trace_id"], TRACE);
    assert!(line.get("otel.name").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let server = Server::start(
        &["--provider", "offline", "--log-format", "json"],
        &[("LYCEUM_TRACES__ENDPOINT", "http://127.0.0.1:9")],
    );
    let client = reqwest::Client::new();
    let body = json!({"topic": "Gravity", "explanation": "It falls.", "session_id": "s-1"});
    let answer = client.post(format!("{}/chat", server.url)).json(&body);
    assert_eq!(answer.send().await.unwrap().status(), 200);
    server.signal("TERM");
    let (code, log, _dir) = server.wait();
    assert_eq!(code, Some(0));
    assert!(log.contains("the collector takes no spans"), "{log}");
}

#[test]
fn an_address_that_is_none_ends_the_start_with_words() {
    let output = support::run(
        &["serve", "--provider", "offline", "--listen", "127.0.0.1:0"],
        &[("LYCEUM_TRACES__ENDPOINT", "collector:4317")],
    );
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("use the collector's address"), "{said}");
}

/// The offline server with a collector.
async fn traced() -> (Server, Inbox) {
    let (endpoint, inbox) = collector().await;
    let env = [("LYCEUM_TRACES__ENDPOINT", endpoint.as_str())];
    (Server::start(&["--provider", "offline"], &env), inbox)
}

async fn send(server: &Server, path: &str, body: &Value) {
    let url = format!("{}/{path}", server.url);
    let answer = reqwest::Client::new().post(url).json(body).send();
    let answer = answer.await.unwrap();
    let status = answer.status();
    assert!(
        status.is_success(),
        "{status}: {}",
        answer.text().await.unwrap()
    );
}

/// Whether a span is the beginning of a trace, and names one of these as what asked for it.
fn is_asked_for_by(span: &Span, requests: &[&Span]) -> bool {
    let named = |link: &opentelemetry_proto::tonic::trace::v1::span::Link| {
        requests
            .iter()
            .any(|request| (&request.trace_id, &request.span_id) == (&link.trace_id, &link.span_id))
    };
    span.parent_span_id.is_empty() && span.links.iter().any(named)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_graph_is_a_trace_of_its_own_that_names_its_request() {
    let (server, mut inbox) = traced().await;
    let body = json!({
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": "Gravity pulls."}]},
    });
    send(&server, "runs/wait", &body).await;
    // Either may end first.
    let names = ["POST /runs/wait", "invoke_workflow"];
    let spans = spans_until_all(&mut inbox, &names).await;
    let request = spans.iter().find(|span| span.name == "POST /runs/wait");
    let run = spans.iter().find(|span| span.name == "invoke_workflow");
    let (request, run) = (request.unwrap(), run.unwrap());
    assert!(is_asked_for_by(run, &[request]), "{run:?}");
    assert_eq!(text(run, "gen_ai.workflow.name"), Some("agent"));
    assert_eq!(text(run, "status"), Some("success"));
    let of_run = spans.iter().filter(|span| span.trace_id == run.trace_id);
    assert!(of_run.count() > 1, "its nodes are in its trace");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_in_the_background_names_the_turn_that_made_it_due() {
    let (server, mut inbox) = traced().await;
    for turn in 0..12 {
        let said = format!("Gravity pulls stone number {turn} down.");
        let body = json!({"topic": "Gravity", "explanation": said, "session_id": "s-1"});
        send(&server, "chat", &body).await;
    }
    let spans = spans_until(&mut inbox, "job consolidate").await;
    let job = spans.iter().find(|span| span.name == "job consolidate");
    let (job, all) = (job.unwrap(), spans.iter());
    // The turn's span stores the job; its request is above it.
    let asking: Vec<&Span> = all.filter(|span| span.trace_id != job.trace_id).collect();
    let link = job.links.first().unwrap();
    assert!(job.parent_span_id.is_empty());
    assert!(asking.iter().any(|span| span.trace_id == link.trace_id));
}
