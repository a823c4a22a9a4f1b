//! What the routes answer, on a real socket.

use std::collections::BTreeSet;

use crate::support::{EXPLANATION, Scripted, gateway, listen, post, request, serve};
use lyceum_core::Role;
use lyceum_gateway::{ApiKey, AuthConfig, GatewayConfig, KeyRules, ServerConfig};
use lyceum_observe::{Health, Importance, Observation};
use serde_json::{Value, json};

/// Every route there is. The test below holds it against the document and the server.
const ROUTES: [(&str, &str); 53] = [
    ("get", "/sessions/{id}/knowledge"),
    ("get", "/sessions/{id}/review"),
    ("get", "/sessions/{id}/notes"),
    ("post", "/sessions/{id}/teach-back"),
    ("post", "/sessions/{id}/exam"),
    ("post", "/sessions/{id}/gaps/{gap}/dismiss"),
    ("post", "/v1/messages"),
    ("post", "/v1/messages/count_tokens"),
    ("post", "/v1/chat/completions"),
    ("post", "/v1/embeddings"),
    ("post", "/v1/responses"),
    ("get", "/v1/responses/{response_id}"),
    ("delete", "/v1/responses/{response_id}"),
    ("get", "/v1/responses/{response_id}/input_items"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model}"),
    ("get", "/"),
    ("get", "/api/health"),
    ("get", "/api/metrics"),
    ("get", "/assets/{file}"),
    ("post", "/chat"),
    ("post", "/chat/stream"),
    ("get", "/docs"),
    ("get", "/health"),
    ("get", "/livez"),
    ("post", "/memorize"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/operator"),
    ("post", "/panel"),
    ("post", "/panel/stream"),
    ("get", "/readyz"),
    ("get", "/startupz"),
    ("get", "/streams/{id}"),
    ("delete", "/streams/{id}"),
    ("get", "/ws"),
    ("get", "/sessions"),
    ("get", "/sessions/{id}"),
    ("delete", "/sessions/{id}"),
    ("post", "/sessions/{id}/complete"),
    ("get", "/memories"),
    ("post", "/memories/search"),
    ("put", "/memories/{id}"),
    ("delete", "/memories/{id}"),
    ("get", "/export"),
    ("delete", "/export"),
    ("get", "/api/operator"),
    ("post", "/api/operator/maintenance"),
    ("post", "/api/operator/log"),
    ("get", "/api/operator/usage"),
    ("get", "/api/operator/usage/{tenant}"),
    ("get", "/usage"),
    ("post", "/ws/ticket"),
];

#[tokio::test]
async fn chat_answers_with_the_whole_lesson() {
    let student = Scripted::thorough();
    let server = serve(student.clone()).await;
    let body = r#"{"topic":"t","explanation":"Plants turn light.","session_id":"s-1",
        "short_term_memory":[{"role":"user","content":"hi"},{"role":"system","content":"x"}],
        "a field of a later version": [1, {"a": 2}]}"#;
    let reply = server.post("/chat", body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.json(),
        json!({
            "questions": ["Why?"],
            "session_id": "s-1",
            "short_term_memory": [
                { "role": "user", "content": "hi" },
                { "role": "system", "content": "x" },
                { "role": "user", "content": "Plants turn light." },
                { "role": "assistant", "content": "Why?" },
            ],
            "provider": "scripted",
            "model": "script-1",
            "gaps": [{
                "kind": "missing_mechanism", "quote": "turn light", "reason": "How?", "severity": "high", "confidence": 0.5
            }],
            "degraded": ["memory"],
            "tools": [{ "tool": "calculate", "arguments": "1+1", "result": "2", "ok": true }],
            "usage": { "input_tokens": 7, "output_tokens": 3, "cached_input_tokens": 2 },
        })
    );
    let taught = student.taught.lock().unwrap();
    let (call, explanation) = &taught[0];
    assert_eq!(explanation.topic, "t");
    assert_eq!(explanation.short_term_memory[0].role, Role::User);
    assert_eq!(call.scope.tenant.as_str(), "local");
    assert!(call.deadline.is_some());
    assert_eq!(reply.header("x-request-id"), Some(call.request.as_str()));
}

#[tokio::test]
async fn chat_begins_a_session_and_takes_null_for_absent() {
    let server = serve(Scripted::thorough()).await;
    let body = r#"{"topic":"t","explanation":"x","session_id":null,"short_term_memory":null}"#;
    let first = server.post("/chat", body).await.json();
    let second = server.post("/chat", body).await.json();
    assert_ne!(first["session_id"], second["session_id"]);
}

#[tokio::test]
async fn a_stream_is_exactly_the_documented_events() {
    let server = serve(Scripted::thorough()).await;
    let reply = server.post("/chat/stream", EXPLANATION).await;
    assert_eq!(reply.status, 200);
    let content_type = reply.header("content-type");
    assert_eq!(content_type, Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    let result = reply.body.split("event: result\ndata: ").nth(1).unwrap();
    let result = result.lines().next().unwrap();
    let whole: Value = serde_json::from_str(result).unwrap();
    assert_eq!(whole["questions"], json!(["Why?"]));
    assert_eq!(whole["session_id"], "s-1");
    let expected = format!(
        "id: 1\nevent: queued\ndata: {{\"estimated_wait_ms\":1500,\"position\":2}}\n\n\
         id: 2\nevent: node\ndata: {{\"node\":\"gap_identifier\"}}\n\n\
         id: 3\nevent: tool\n\
         data: {{\"tool\":\"calculate\",\"arguments\":\"1+1\",\"result\":\"2\",\"ok\":true}}\n\n\
         id: 4\nevent: gaps\ndata: {{\"gaps\":[{{\"confidence\":0.5,\"kind\":\"missing_mechanism\",\
         \"quote\":\"turn light\",\"reason\":\"How?\",\"severity\":\"high\"}}]}}\n\n\
         id: 5\ndata: \"为什么\\n\"\n\n\
         id: 6\ndata: \"Why?\"\n\n\
         id: 7\nevent: result\ndata: {result}\n\n\
         id: 8\ndata: \"[END_OF_STREAM]\"\n\n"
    );
    assert_eq!(reply.body, expected);
}

#[tokio::test]
async fn memorize_stores_the_conversation() {
    let student = Scripted::thorough();
    let server = serve(student.clone()).await;
    let body = r#"{"topic":"light","session_id":"s-9","conversation_history":[
        {"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#;
    let reply = server.post("/memorize", body).await;
    assert_eq!(
        reply.json(),
        json!({ "memory_id": "m-1", "summary": "2 turns on light", "provider": "scripted" })
    );
    let memorized = student.memorized.lock().unwrap();
    assert_eq!(memorized[0].session.as_ref().unwrap().as_str(), "s-9");
    assert_eq!(memorized[0].history[1].role, Role::Assistant);
}

#[tokio::test]
async fn health_tells_everything_it_must() {
    let health = Health::default();
    health.register("llm", Importance::Advisory, || {
        Observation::pass().with_value("queued", 3.0)
    });
    health.register("database", Importance::Critical, Observation::pass);
    let gateway = gateway(Scripted::thorough(), &GatewayConfig::default(), health);
    let server = listen(gateway, ServerConfig::default()).await;
    server.post("/chat", EXPLANATION).await;
    for path in ["/health", "/api/health"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("content-type"),
            Some("application/health+json")
        );
        let json = reply.json();
        assert_eq!(json["status"], "pass");
        assert_eq!(json["provider"], "scripted");
        assert_eq!(json["serviceId"], "replica-1");
        assert!(json["timestamp"].as_str().unwrap().ends_with('Z'));
        let metrics = &json["metrics"];
        assert_eq!(metrics["requests"]["queued"], 3);
        assert_eq!(metrics["requests"]["active"], 1, "the request itself");
        assert_eq!(metrics["error_rate"], 0.0);
        assert!(metrics["connections"].as_u64() >= Some(1));
        for (group, name) in [
            ("requests", "rps"),
            ("response_time", "average_ms"),
            ("response_time", "p95_ms"),
            ("memory", "share"),
        ] {
            assert!(
                metrics[group][name].as_f64().unwrap() > 0.0,
                "{name}: {metrics}"
            );
        }
        assert!(metrics["cpu"].is_number());
        assert_eq!(json["checks"]["database:responseTime"][0]["status"], "pass");
        assert_eq!(json["checks"]["llm:responseTime"][0]["observedUnit"], "ms");
    }
}

#[tokio::test]
async fn a_failing_dependency_is_unready_but_alive() {
    let health = Health::default();
    health.register("database", Importance::Critical, || {
        Observation::fail("locked")
    });
    let gateway = gateway(Scripted::thorough(), &GatewayConfig::default(), health);
    let server = listen(gateway, ServerConfig::default()).await;
    assert_eq!(server.get("/livez").await.status, 200);
    assert_eq!(server.get("/startupz").await.status, 200);
    assert_eq!(server.get("/readyz").await.status, 503);
    let reply = server.get("/health").await;
    assert_eq!(reply.status, 503);
    let check = &reply.json()["checks"]["database:responseTime"][0];
    assert_eq!(check["output"], "locked");
}

#[tokio::test]
async fn strangers_see_no_detail_where_keys_are_configured() {
    let key = ApiKey {
        name: "ops".into(),
        tenant: "acme".parse().unwrap(),
        user: "ops".parse().unwrap(),
        sha256: ApiKey::digest("secret"),
        replaced: None,
        rules: KeyRules::default(),
    };
    let config = GatewayConfig {
        auth: AuthConfig {
            keys: vec![key],
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let student = Scripted::thorough();
    let gateway = gateway(student.clone(), &config, Health::default());
    let server = listen(gateway, ServerConfig::default()).await;
    let open = server.get("/health").await.json();
    assert_eq!(open["status"], "pass");
    assert_eq!(open.as_object().unwrap().len(), 3, "{open}");
    let key = [("x-api-key", "secret")];
    let known = server.send(request("GET", "/health", &key, b"")).await;
    assert_eq!(known.json()["version"], "1.2.3");
    for path in [
        "/",
        "/docs",
        "/operator",
        "/openapi.json",
        "/livez",
        "/readyz",
        "/startupz",
    ] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let metrics = server.send(request("GET", "/metrics", &key, b"")).await;
    assert_eq!(metrics.status, 200);
    let taught = post(
        "/chat",
        &[("Authorization", "Bearer secret")],
        EXPLANATION.as_bytes(),
    );
    assert_eq!(server.send(taught).await.status, 200);
    let scope = student.taught.lock().unwrap()[0].0.scope.clone();
    assert_eq!(
        (scope.tenant.as_str(), scope.user.as_str()),
        ("acme", "ops")
    );
}

#[tokio::test]
async fn the_document_lists_exactly_the_routes() {
    let server = serve(Scripted::thorough()).await;
    let document = server.get("/openapi.json").await.json();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert((method.clone(), path.clone()));
        }
    }
    let expected = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(documented, BTreeSet::from(expected));
    for (_, path) in ROUTES {
        let real = path
            .replace("{file}", "app.js")
            .replace("{model}", "feynman")
            .replace("{tenant}", "school")
            .replace("{id}", "%20")
            .replace("{gap}", "1");
        for method in ["get", "post", "put", "patch", "delete", "options"] {
            let is_documented = ROUTES.contains(&(method, path));
            let reply = server
                .send(request(&method.to_uppercase(), &real, &[], b""))
                .await;
            // Ids of responses and streams are random, and there are none yet; what is kept of
            // users is another part.
            let is_told = [
                "no such response",
                "no such stream",
                "no such conversation",
                "no such memory",
                "without this part",
            ]
            .iter()
            .any(|told| reply.body.contains(told));
            assert!(reply.status != 404 || is_told, "{method} {path}");
            assert_eq!(
                reply.status != 405,
                is_documented,
                "{method} {path}: {reply:?}"
            );
        }
    }
}

#[tokio::test]
async fn every_reference_of_the_document_leads_somewhere() {
    let server = serve(Scripted::thorough()).await;
    let document = server.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut left = vec![&document];
    let mut references = 0;
    while let Some(value) = left.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
            references += 1;
        }
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => left.extend(fields.values()),
            _ => {}
        }
    }
    assert!(references > 10);
}

/// The names, with their versions, of what a text loads.
fn loaded(text: &str, mark: &str) -> Vec<String> {
    let rest = text.split(mark).skip(1);
    rest.map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn pages_are_complete_and_revalidated() {
    let server = serve(Scripted::thorough()).await;
    for page in ["/", "/docs", "/operator"] {
        let reply = server.get(page).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(reply.header("cache-control"), Some("no-cache"));
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let tag = reply.header("etag").unwrap();
        let again = server
            .send(request("GET", page, &[("If-None-Match", tag)], b""))
            .await;
        assert_eq!((again.status, again.body.as_str()), (304, ""));
        let mut parts = loaded(&reply.body, "\"/assets/");
        assert!(parts.len() >= 2, "{page} loads a script and a style");
        // What modules load is loaded by an address of its content too.
        let mut at = 0;
        while let Some(part) = parts.get(at) {
            let address = format!("/assets/{part}");
            let reply = server.get(&address).await;
            assert_eq!(reply.status, 200, "{address}");
            let keep = reply.header("cache-control").unwrap();
            assert!(keep.contains("immutable"), "{address}: {keep}");
            for part in loaded(&reply.body, "\"./") {
                if !parts.contains(&part) {
                    parts.push(part);
                }
            }
            at += 1;
        }
    }
    let plain = server.get("/assets/app.js").await;
    assert_eq!(plain.header("cache-control"), Some("no-cache"));
    let stale = server.get("/assets/app.js?v=0000").await;
    assert_eq!(stale.header("cache-control"), Some("no-cache"));
    for absent in ["/assets/index.html", "/assets/..%2fCargo.toml", "/assets/x"] {
        assert_eq!(server.get(absent).await.status, 404, "{absent}");
    }
}

#[tokio::test]
async fn a_request_id_is_taken_when_valid_and_made_when_not() {
    let server = serve(Scripted::thorough()).await;
    let ask = async |id| {
        let reply = server
            .send(request("GET", "/livez", &[("X-Request-Id", id)], b""))
            .await;
        reply.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask("trace-1").await, "trace-1");
    for invalid in ["../x", "a b", &"x".repeat(200)] {
        let made = ask(invalid).await;
        assert!(made != invalid && made.len() == 36, "{made}");
    }
}

#[tokio::test]
async fn a_connection_carries_many_requests() {
    let server = serve(Scripted::thorough()).await;
    let one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let last = request("GET", "/livez", &[], b"");
    let reply = server.send([one.clone(), one, last].concat()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body.matches("HTTP/1.1 200 OK").count(), 2);
}
