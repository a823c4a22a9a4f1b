//! Lyceum as a server: over streams and over HTTP, by a client of another implementation.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream;
use lyceum_core::{
    Approval, CallContext, Claim, Conversation, Discussion, ExamAnswer, Explanation, Knowledge,
    Lesson, Memorized, Panel, PanelEvent, PanelReport, PanelStream, Paper, Pupil, ReviewItem,
    Scope, SessionId, Student, TeachBack, TeachError, TeachEvent, TeachStream, Tone, Tool,
    ToolError, ToolOutput, ToolSpec, ToolTraits, Usage, Verdict,
};
use lyceum_mcp::Served;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio_util::sync::CancellationToken;

/// Knows one lesson, of the user who is asked about.
#[derive(Debug)]
struct Fake;

#[async_trait]
impl Student for Fake {
    fn teach(&self, call: CallContext, explanation: Explanation) -> TeachStream {
        let lesson = Lesson {
            session: explanation.session,
            questions: vec![format!("Why “{}”, {}?", explanation.text, call.scope.user)],
            gaps: Vec::new(),
            short_term_memory: Vec::new(),
            provider: "fake".into(),
            model: None,
            degraded: Vec::new(),
            tools: Vec::new(),
            usage: Usage::default(),
        };
        Box::pin(stream::iter([Ok(TeachEvent::Finished(Box::new(lesson)))]))
    }

    async fn memorize(&self, _: CallContext, _: Conversation) -> Result<Memorized, TeachError> {
        panic!("nobody memorizes")
    }
}

fn mine(call: &CallContext, session: &SessionId) -> bool {
    session.as_str() == "l-1" && call.scope.user.as_str() == "local"
}

#[async_trait]
impl Pupil for Fake {
    async fn knowledge(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Knowledge>, TeachError> {
        Ok(mine(&call, &session).then(|| Knowledge {
            topic: "Tides".into(),
            claims: vec![Claim {
                id: 1,
                text: "The sea rises.".into(),
                support: None,
                follows: None,
                turn: 1,
                concepts: Vec::new(),
            }],
            ..Knowledge::default()
        }))
    }

    async fn review(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Vec<ReviewItem>>, TeachError> {
        Ok(mine(&call, &session).then(Vec::new))
    }

    async fn paper(
        &self,
        call: CallContext,
        session: SessionId,
        _: Paper,
    ) -> Result<Option<String>, TeachError> {
        Ok(mine(&call, &session).then(|| "# Notes of tides".to_owned()))
    }

    async fn teach_back(
        &self,
        call: CallContext,
        session: SessionId,
        _: Option<Tone>,
    ) -> Result<Option<TeachBack>, TeachError> {
        Ok(mine(&call, &session).then(|| TeachBack {
            text: "The sea rises. [1]".into(),
            claims: vec![1],
            holes: Vec::new(),
            removed: Vec::new(),
            provider: "fake".into(),
            degraded: Vec::new(),
        }))
    }

    async fn exam(
        &self,
        call: CallContext,
        session: SessionId,
        question: String,
        _: Option<Tone>,
    ) -> Result<Option<ExamAnswer>, TeachError> {
        if question == "fail" {
            let source = "a path inside".into();
            return Err(TeachError::Storage {
                retryable: true,
                source,
            });
        }
        Ok(mine(&call, &session).then(|| ExamAnswer {
            verdict: Verdict::Partly,
            text: "It rises.".into(),
            claims: vec![1],
            not_taught: vec!["why".into()],
            removed: Vec::new(),
            provider: "fake".into(),
            degraded: Vec::new(),
        }))
    }

    async fn dismiss(
        &self,
        _: CallContext,
        _: SessionId,
        _: u32,
    ) -> Result<Option<Knowledge>, TeachError> {
        Ok(None)
    }
}

impl Panel for Fake {
    fn discuss(&self, _: CallContext, discussion: Discussion) -> PanelStream {
        let report = PanelReport {
            session: discussion.session,
            report: format!("All agree on {}.", discussion.topic),
            dissent: Vec::new(),
            consensus: true,
            rounds: 1,
            turns: Vec::new(),
            provider: "fake".into(),
            model: None,
            degraded: Vec::new(),
            usage: Usage::default(),
        };
        Box::pin(stream::iter([Ok(PanelEvent::Finished(Box::new(report)))]))
    }
}

#[derive(Debug)]
struct Named(ToolSpec, Approval);

#[async_trait]
impl Tool for Named {
    fn spec(&self) -> &ToolSpec {
        &self.0
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits {
            approval: self.1,
            ..ToolTraits::default()
        }
    }

    async fn call(&self, _: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        Ok(ToolOutput::text(format!("{}: {arguments}", self.0.name)))
    }
}

fn served() -> Served {
    let tool = |name: &str, approval| -> Arc<dyn Tool> {
        let spec = ToolSpec::new(name, "A tool.", json!({"type": "object"}));
        Arc::new(Named(spec, approval))
    };
    let tools: Vec<Arc<dyn Tool>> = vec![
        tool("calculate", Approval::NotNeeded),
        tool("pay", Approval::Needed),
        // A tool of a foreign server must not stand in for the student.
        tool("teach", Approval::NotNeeded),
    ];
    let fake = Arc::new(Fake);
    Served::new(fake.clone(), fake.clone(), fake, Arc::new(tools))
}

/// A client that writes the protocol's lines itself.
struct Client {
    to: tokio::io::WriteHalf<tokio::io::DuplexStream>,
    from: tokio::io::Lines<BufReader<tokio::io::ReadHalf<tokio::io::DuplexStream>>>,
    last: u64,
}

impl Client {
    async fn start() -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (input, output) = tokio::io::split(theirs);
        tokio::spawn(served().over(input, output, CancellationToken::new()));
        let (from, to) = tokio::io::split(ours);
        let from = BufReader::new(from).lines();
        let mut client = Self { to, from, last: 0 };
        let hello = json!({
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let welcome = client.ask("initialize", hello).await;
        assert_eq!(welcome["result"]["serverInfo"]["name"], "lyceum");
        client
            .send(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await;
        client
    }

    async fn send(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.to.write_all(line.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .await;
        let line = self.from.next_line().await.unwrap().unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn call(&mut self, name: &str, arguments: Value) -> Value {
        let params = json!({"name": name, "arguments": arguments});
        self.ask("tools/call", params).await
    }
}

fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test]
async fn a_client_teaches_and_examines_the_student() {
    let mut client = Client::start().await;
    let tools = client.ask("tools/list", json!({})).await;
    let names: Vec<&str> = tools["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    let expected = [
        "teach",
        "knowledge",
        "exam",
        "teach_back",
        "review",
        "notes",
        "discuss",
        "calculate",
    ];
    assert_eq!(names, expected, "no tool that needs a person, none twice");

    let lesson = json!({"topic": "Tides", "explanation": "The sea rises."});
    let taught = client.call("teach", lesson).await;
    assert!(
        said(&taught).starts_with("1. Why “The sea rises.”, local?"),
        "{taught}"
    );
    let session = &taught["result"]["structuredContent"]["session"];
    assert!(
        session
            .as_str()
            .is_some_and(|id| said(&taught).ends_with(id))
    );

    let of = json!({"session": "l-1"});
    let known = client.call("knowledge", of.clone()).await;
    let claim = &known["result"]["structuredContent"]["claims"][0]["text"];
    assert_eq!(*claim, "The sea rises.");
    let asked = json!({"session": "l-1", "question": "Why?"});
    let exam = client.call("exam", asked).await;
    assert_eq!(exam["result"]["structuredContent"]["verdict"], "partly");
    assert!(said(&client.call("teach_back", of.clone()).await).contains("[1]"));
    assert_eq!(
        said(&client.call("notes", of.clone()).await),
        "# Notes of tides"
    );
    assert_eq!(client.call("review", of).await["result"]["isError"], false);
    let debate = json!({"topic": "tides", "text": "They rise."});
    let report = client.call("discuss", debate).await;
    assert_eq!(said(&report), "All agree on tides.");
    let sum = client.call("calculate", json!({"x": 1})).await;
    assert_eq!(said(&sum), "calculate: {\"x\":1}");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_of_the_inside() {
    let mut client = Client::start().await;
    for (name, arguments, words) in [
        ("teach", json!({"topic": "T"}), "explanation"),
        (
            "teach",
            json!({"topic": "T", "explanation": "  "}),
            "explanation is empty",
        ),
        (
            "teach",
            json!({"topic": "T", "explanation": "x", "more": 1}),
            "more",
        ),
        (
            "exam",
            json!({"session": "other", "question": "Why?"}),
            "no such lesson",
        ),
        ("exam", json!({"session": "../x", "question": "Why?"}), "id"),
        (
            "exam",
            json!({"session": "l-1", "question": "fail"}),
            "try again later",
        ),
    ] {
        let answer = client.call(name, arguments).await;
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert!(said(&answer).contains(words), "{answer}");
        assert!(!said(&answer).contains("inside"), "{answer}");
    }
    for name in ["pay", "nothing"] {
        let answer = client.call(name, json!({})).await;
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("no such tool")
        );
    }
}

#[tokio::test]
async fn notes_are_a_resource_of_their_owner() {
    let mut client = Client::start().await;
    let templates = client.ask("resources/templates/list", json!({})).await;
    let template = &templates["result"]["resourceTemplates"][0]["uriTemplate"];
    assert_eq!(*template, "lyceum://sessions/{session}/notes");
    let read = |id: &str| json!({"uri": format!("lyceum://sessions/{id}/notes")});
    let notes = client.ask("resources/read", read("l-1")).await;
    assert_eq!(notes["result"]["contents"][0]["text"], "# Notes of tides");
    for id in ["l-2", "", "a/b"] {
        let answer = client.ask("resources/read", read(id)).await;
        assert!(answer["error"].is_object(), "{answer}");
    }
}

#[tokio::test]
async fn over_http_the_request_says_who_calls() {
    use http_body_util::{BodyExt, Full};
    use tower::Service;
    let mut service = served().over_http::<Full<bytes::Bytes>>();
    let mut ask = async |scope: Option<Scope>| {
        let call = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "notes", "arguments": {"session": "l-1"}},
        });
        let mut request = http::Request::post("/mcp")
            .header("host", "example.org")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-06-18")
            .body(Full::from(call.to_string()))
            .unwrap();
        request.extensions_mut().extend(
            scope
                .map(|scope| {
                    let mut extensions = http::Extensions::new();
                    extensions.insert(scope);
                    extensions
                })
                .unwrap_or_default(),
        );
        let response = service.call(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice::<Value>(&body).unwrap()
    };
    assert_eq!(said(&ask(Some(Scope::local())).await), "# Notes of tides");
    let other = Scope {
        user: "mallory".parse().unwrap(),
        ..Scope::local()
    };
    assert!(said(&ask(Some(other)).await).contains("no such lesson"));
    assert!(ask(None).await["error"].is_object());
}
