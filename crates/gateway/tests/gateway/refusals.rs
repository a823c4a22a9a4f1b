//! What is refused, with which status and which advice.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use lyceum_core::{ChatError, TeachError, TimeoutStage};
use lyceum_gateway::{ApiKey, AuthConfig, GatewayConfig, KeyRules, Limits, ServerConfig};
use lyceum_observe::Health;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{
    EXPLANATION, Reply, Running, Scripted, all_events, gateway, listen, post, request, serve,
};

async fn with_limits(limits: Limits) -> Running {
    let config = GatewayConfig {
        limits,
        ..GatewayConfig::default()
    };
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    listen(gateway, ServerConfig::default()).await
}

#[tokio::test]
async fn bad_bodies_are_refused_with_the_place_and_the_rule() {
    let server = serve(Scripted::thorough()).await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let messages = r#"{"role":"user","content":"x"},"#.repeat(10_000);
    let messages = messages.trim_end_matches(',');
    let many = format!(r#"{{"topic":"t","explanation":"x","short_term_memory":[{messages}]}}"#);
    let long = format!(r#"{{"topic":"{}","explanation":"x"}}"#, "t".repeat(201));
    let huge = format!(
        r#"{{"topic":"t","explanation":"{}"}}"#,
        "x".repeat((64 << 10) + 1)
    );
    let cases: [(&[u8], u16, &str); 19] = [
        (b"", 400, "not JSON"),
        (b"{\"topic\":", 400, "not JSON"),
        (b"{\"topic\":\"\xff\"}", 400, "not UTF-8 from byte 10"),
        (b"{\"topic\":\"a\\u0000\"}", 400, "NUL"),
        (b"{\"topic\":\"a\0\"}", 400, "NUL"),
        (deep.as_bytes(), 400, "nested deeper than 128"),
        (b"[]", 422, "body: invalid"),
        (br#" ["t","x",null,null,null,null]"#, 422, "body: it must be an object"),
        (b"null", 422, "body: invalid type: null"),
        (b"{}", 422, "missing field `topic`"),
        (br#"{"topic":5,"explanation":"x"}"#, 422, "topic: invalid type: integer `5`, expected a string"),
        (br#"{"topic":" ","explanation":"x"}"#, 422, "topic: it is blank"),
        (long.as_bytes(), 422, "topic: it has 201 characters: at most 200"),
        (br#"{"topic":"t","explanation":"\n"}"#, 422, "explanation: it is blank"),
        (huge.as_bytes(), 422, "explanation: it has 65537 bytes: at most 65536"),
        (br#"{"topic":"t","explanation":"x","session_id":"../x"}"#, 422, "session_id: an id holds '/'"),
        (br#"{"topic":"t","explanation":"x","session_id":""}"#, 422, "session_id: an id is empty"),
        (br#"{"topic":"t","explanation":"x","short_term_memory":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}"#,
            422, "short_term_memory[1].role: unknown variant `tool`, expected one of `user`, `assistant`, `system`"),
        (many.as_bytes(), 422, "short_term_memory: it has 10000 messages: at most 1000"),
    ];
    for (body, status, advice) in cases {
        for path in ["/chat", "/chat/stream"] {
            let reply = server.post(path, body).await;
            let detail = reply.detail();
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert_eq!(reply.status, status, "{path} {shown}: {detail}");
            assert!(detail.contains(advice), "{path} {shown}: {detail}");
        }
    }
    let reply = server
        .post("/memorize", r#"{"topic":"t","conversation_history":[]}"#)
        .await;
    assert_eq!(reply.status, 422);
    assert!(
        reply
            .detail()
            .starts_with("conversation_history: it is empty")
    );
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_by_what_it_says_and_by_what_it_is() {
    let limits = Limits {
        body_bytes: 1_000,
        ..Limits::default()
    };
    let server = with_limits(limits).await;
    let announced = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/json\r\nContent-Length: 1001\r\n\r\n";
    let reply = server.send(announced).await;
    assert_eq!(reply.status, 413);
    assert!(reply.detail().contains("1000 bytes"));

    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    let chunked = |chunks: usize| {
        let head = "POST /chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
            Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(chunks))
    };
    assert_eq!(server.send(chunked(11)).await.status, 413);
    assert_eq!(
        server.send(chunked(10)).await.status,
        400,
        "1,000 bytes are taken"
    );
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let server = serve(Scripted::thorough()).await;
    let body = EXPLANATION.as_bytes();
    for headers in [
        &[][..],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[
            ("Content-Type", "application/json"),
            ("Content-Encoding", "br"),
        ],
    ] {
        let reply = server.send(request("POST", "/chat", headers, body)).await;
        assert_eq!(reply.status, 415, "{headers:?}");
        assert!(reply.detail().contains("send"), "{headers:?}");
    }
    for kind in [
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/ld+json",
    ] {
        let headers = [("Content-Type", kind)];
        let reply = server.send(request("POST", "/chat", &headers, body)).await;
        assert_eq!(reply.status, 200, "{kind}");
    }
}

#[tokio::test]
async fn unknown_places_and_methods_have_the_same_shape() {
    let server = serve(Scripted::thorough()).await;
    let reply = server.get("/no/../such").await;
    assert_eq!(reply.status, 404);
    assert!(reply.detail().contains("/docs"));
    let reply = server.get("/chat").await;
    assert_eq!(reply.status, 405);
    assert_eq!(reply.header("allow"), Some("POST"));
    assert!(reply.detail().contains("/docs"));
    for reply in [server.get("/x").await, server.get("/").await] {
        assert_eq!(reply.header("x-frame-options"), Some("DENY"));
        assert!(reply.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn header_bombs_are_refused() {
    let server = serve(Scripted::thorough()).await;
    let long = [("X-Long", "x".repeat(40 << 10))];
    let many: Vec<(String, String)> = (0..101).map(|n| (format!("X-{n}"), "1".into())).collect();
    let long: Vec<(&str, &str)> = long.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    for headers in [long, many] {
        let reply = server.send(request("GET", "/livez", &headers, b"")).await;
        assert_eq!(reply.status, 431);
    }
}

#[tokio::test]
async fn keys_are_asked_for_and_checked() {
    let key = ApiKey {
        name: "k".into(),
        tenant: "acme".parse().unwrap(),
        user: "u".parse().unwrap(),
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
    let wrong = [("Authorization", "Bearer secreT")];
    let basic = [("Authorization", "Basic c2VjcmV0")];
    for path in ["/chat", "/chat/stream", "/memorize"] {
        for headers in [&[][..], &wrong, &basic] {
            let reply = server
                .send(post(path, headers, EXPLANATION.as_bytes()))
                .await;
            assert_eq!(reply.status, 401, "{path} {headers:?}");
            // RFC 6750: what is wrong is said of what was sent.
            let challenge = reply.header("www-authenticate").unwrap();
            assert!(challenge.starts_with("Bearer realm=\"lyceum\""));
            let sent = headers == wrong;
            assert_eq!(challenge.contains("invalid_token"), sent, "{challenge}");
            assert!(reply.detail().contains("key"));
        }
    }
    for path in ["/metrics", "/api/metrics"] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
    assert!(student.taught.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_browser_cannot_be_tricked_into_a_server_without_keys() {
    let server = serve(Scripted::thorough()).await;
    for path in ["/", "/metrics", "/livez", "/nowhere"] {
        let rebound = [("Host", "evil.example:8080")];
        let reply = server.send(request("GET", path, &rebound, b"")).await;
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.detail().contains("Host"));
    }
    let absolute = request("GET", "http://evil.example/metrics", &[], b"");
    assert_eq!(server.send(absolute).await.status, 403);

    let host = ("Host", "127.0.0.1:8080");
    let foreign: [&[(&str, &str)]; 5] = [
        &[host, ("Origin", "http://evil.example")],
        &[host, ("Origin", "null")],
        &[host, ("Origin", "http://127.0.0.1:9090")],
        &[host, ("Sec-Fetch-Site", "cross-site")],
        &[host, ("Sec-Fetch-Site", "same-site")],
    ];
    for headers in foreign {
        let reply = server
            .send(post("/chat", headers, EXPLANATION.as_bytes()))
            .await;
        assert_eq!(reply.status, 403, "{headers:?}");
        assert!(reply.detail().contains("another site"));
    }
    let own: [&[(&str, &str)]; 4] = [
        &[host],
        &[host, ("Origin", "http://127.0.0.1:8080")],
        &[host, ("Sec-Fetch-Site", "same-origin")],
        &[("Host", "[::1]:1"), ("Origin", "http://[::1]:1")],
    ];
    for headers in own {
        let reply = server
            .send(post("/chat", headers, EXPLANATION.as_bytes()))
            .await;
        assert_eq!(reply.status, 200, "{headers:?}");
    }
}

type Failure = fn() -> TeachError;

const SECRET: &str = "sk-123 in /srv/lyceum";

/// Every failure of a student: its status, its `Retry-After`, whether a client may repeat.
const FAILURES: [(Failure, u16, Option<&str>, bool); 14] = [
    (
        || {
            model(ChatError::Authentication {
                status: 401,
                message: SECRET.into(),
            })
        },
        502,
        None,
        false,
    ),
    (
        || {
            model(ChatError::Rejected {
                status: 400,
                message: SECRET.into(),
            })
        },
        502,
        None,
        false,
    ),
    (
        || {
            model(ChatError::RateLimited {
                retry_after: Some(Duration::from_millis(2_500)),
                message: SECRET.into(),
            })
        },
        503,
        Some("3"),
        true,
    ),
    (
        || {
            model(ChatError::RateLimited {
                retry_after: None,
                message: SECRET.into(),
            })
        },
        503,
        Some("5"),
        true,
    ),
    (
        || {
            model(ChatError::Unavailable {
                status: 529,
                retry_after: None,
                message: SECRET.into(),
            })
        },
        503,
        Some("5"),
        true,
    ),
    (
        || {
            model(ChatError::Shed {
                retry_after: Duration::from_millis(1),
            })
        },
        503,
        Some("1"),
        true,
    ),
    (
        || {
            model(ChatError::Connect {
                provider: SECRET.into(),
                source: SECRET.into(),
            })
        },
        503,
        Some("5"),
        true,
    ),
    (
        || {
            model(ChatError::Timeout {
                stage: TimeoutStage::FirstToken,
                after: Duration::from_secs(1),
            })
        },
        504,
        None,
        true,
    ),
    (
        || {
            model(ChatError::Protocol {
                detail: SECRET.into(),
            })
        },
        502,
        None,
        true,
    ),
    (|| model(ChatError::Truncated), 502, None, true),
    (
        || {
            model(ChatError::Local {
                detail: SECRET.into(),
            })
        },
        500,
        None,
        false,
    ),
    (
        || TeachError::Storage {
            retryable: true,
            source: SECRET.into(),
        },
        503,
        Some("5"),
        true,
    ),
    (
        || TeachError::Storage {
            retryable: false,
            source: SECRET.into(),
        },
        500,
        None,
        false,
    ),
    (
        || TeachError::Workflow {
            source: SECRET.into(),
        },
        500,
        None,
        false,
    ),
];

fn model(error: ChatError) -> TeachError {
    TeachError::Model(error)
}

#[tokio::test]
async fn every_failure_has_its_status_and_no_internals() {
    for (failure, status, retry_after, retryable) in FAILURES {
        let server = serve(Scripted::failing(failure)).await;
        let name = failure().label();
        let reply = server.post("/chat", EXPLANATION).await;
        let detail = reply.detail();
        assert_eq!(reply.status, status, "{name}: {detail}");
        assert_eq!(reply.header("retry-after"), retry_after, "{name}");
        assert!(
            !detail.contains("sk-123") && !detail.contains("/srv"),
            "{name}: {detail}"
        );

        let streamed = server.post("/chat/stream", EXPLANATION).await;
        assert_eq!(streamed.status, 200);
        let data = serde_json::json!({ "detail": detail, "retryable": retryable });
        let expected =
            format!("id: 1\nevent: error\ndata: {data}\n\nid: 2\ndata: \"[END_OF_STREAM]\"\n\n");
        assert_eq!(streamed.body, expected, "{name}");
    }
}

#[tokio::test]
async fn an_answer_is_never_silently_cut() {
    let student = Scripted::new(|explanation| {
        let begun = all_events(&explanation).into_iter().take(6).map(Ok);
        Box::pin(stream::iter(begun))
    });
    let server = serve(student).await;
    assert_eq!(server.post("/chat", EXPLANATION).await.status, 502);
    let reply = server.post("/chat/stream", EXPLANATION).await;
    let end = "id: 7\nevent: error\ndata: {\"detail\":\"the answer was cut short: try again\",\
        \"retryable\":true}\n\nid: 8\ndata: \"[END_OF_STREAM]\"\n\n";
    assert!(reply.body.ends_with(end), "{}", reply.body);
}

#[tokio::test]
async fn a_model_cannot_say_the_end_mark() {
    let student = Scripted::new(|explanation| {
        let mark = lyceum_core::TeachEvent::Text("[END_OF_STREAM]".into());
        let end = all_events(&explanation).into_iter().last();
        Box::pin(stream::iter([mark].into_iter().chain(end).map(Ok)))
    });
    let server = serve(student).await;
    let body = server.post("/chat/stream", EXPLANATION).await.body;
    assert!(body.starts_with("id: 1\ndata: \"[\"\n\nid: 2\ndata: \"END_OF_STREAM]\"\n\n"));
    assert_eq!(body.matches("\"[END_OF_STREAM]\"").count(), 1);
}

#[tokio::test]
async fn a_panic_costs_one_answer_only() {
    let student = Scripted::new(|explanation| {
        let node = all_events(&explanation).into_iter().nth(1).map(Ok);
        let broken = stream::once(async { panic!("a bug in a student") });
        Box::pin(stream::iter(node).chain(broken))
    });
    let server = serve(student).await;
    let reply = server.post("/chat", EXPLANATION).await;
    assert_eq!(reply.status, 500);
    assert!(!reply.detail().contains("bug"));
    let body = server.post("/chat/stream", EXPLANATION).await.body;
    assert!(body.contains("id: 2\nevent: error\n"), "{body}");
    assert!(body.ends_with("data: \"[END_OF_STREAM]\"\n\n"));
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_stream_too_many_is_told_to_come_back() {
    let limits = Limits {
        streams: 0,
        ..Limits::default()
    };
    let server = with_limits(limits).await;
    let reply = server.post("/chat/stream", EXPLANATION).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert_eq!(server.post("/chat", EXPLANATION).await.status, 200);
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let server = serve(Scripted::thorough()).await;
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(noise).await.unwrap();
        stream.shutdown().await.unwrap();
        let reply = Reply::read(&mut stream).await;
        assert!([0, 400].contains(&reply.status), "{reply:?}");
    }
    assert_eq!(server.get("/livez").await.status, 200);
}
