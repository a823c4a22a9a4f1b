//! Keys that change while the server runs, what each may have at once, tickets.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use lyceum_core::{TeachEvent, TeachStream};
use lyceum_gateway::{ApiKey, KeyRules, KeyScope};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::support::{
    EXPLANATION, Reply, Running, Scripted, all_events, as_key, key, post, request, served, soon,
    with_keys,
};

/// A student whose events each wait for a permit.
fn paced() -> (Arc<Scripted>, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let taken = permits.clone();
    let student = Scripted::new(move |explanation| {
        let taken = taken.clone();
        let events = stream::iter(all_events(&explanation)).then(move |event| {
            let taken = taken.clone();
            async move {
                taken.acquire().await.unwrap().forget();
                Ok::<TeachEvent, _>(event)
            }
        });
        Box::pin(events) as TeachStream
    });
    (student, permits)
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_its_streams_end() {
    let (student, permits) = paced();
    let (alice, bob) = (
        key("alice", KeyRules::default()),
        key("bob", KeyRules::default()),
    );
    let gateway = with_keys(student, vec![alice, bob.clone()]);
    let server = served(&gateway).await;
    let mut streams = Vec::new();
    for name in ["alice", "bob"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let headers = [("x-api-key", name)];
        let asked = post("/chat/stream", &headers, EXPLANATION.as_bytes());
        stream.write_all(&asked).await.unwrap();
        permits.add_permits(1);
        let mut head = [0; 1_024];
        let read = soon(stream.read(&mut head)).await.unwrap();
        assert!(head[..read].starts_with(b"HTTP/1.1 200"));
        streams.push(stream);
    }
    gateway.set_keys(&[bob]);
    let refused = as_key(&server, "alice", "GET", "/v1/models", "").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap();
    assert!(
        challenge.starts_with("Bearer realm=\"lyceum\", error=\"invalid_token\""),
        "{challenge}"
    );
    // The stream is cut, not told as complete: there is no last chunk.
    let mut rest = Vec::new();
    let _reset = soon(streams[0].read_to_end(&mut rest)).await;
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    permits.add_permits(100);
    let mut rest = Vec::new();
    soon(streams[1].read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"));
    let missing = server.get("/v1/models").await;
    assert_eq!(
        missing.header("www-authenticate"),
        Some("Bearer realm=\"lyceum\"")
    );
}

/// A key that ends in a moment.
fn ending(name: &str) -> ApiKey {
    let rules = KeyRules {
        expires: Some(OffsetDateTime::now_utc() + Duration::from_millis(200)),
        ..KeyRules::default()
    };
    key(name, rules)
}

#[tokio::test]
async fn what_is_open_ends_when_the_time_of_its_key_is_over() {
    let (student, permits) = paced();
    let gateway = with_keys(student, vec![key("alice", KeyRules::default())]);
    let server = served(&gateway).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let headers = [("x-api-key", "alice")];
    let asked = post("/chat/stream", &headers, EXPLANATION.as_bytes());
    stream.write_all(&asked).await.unwrap();
    permits.add_permits(1);
    let mut head = [0; 1_024];
    let read = soon(stream.read(&mut head)).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 200"));
    let (mut open, _) = socket(&server, &headers).await.unwrap();

    gateway.set_keys(&[ending("alice")]);
    let mut rest = Vec::new();
    let _reset = soon(stream.read_to_end(&mut rest)).await;
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    let close = loop {
        match soon(open.next()).await.unwrap().unwrap() {
            Message::Ping(_) => {}
            other => break other,
        }
    };
    let Message::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(frame.code, CloseCode::Policy);
    assert!(frame.reason.contains("expired"), "{}", frame.reason);
    let refused = as_key(&server, "alice", "GET", "/v1/models", "").await;
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn of_two_hundred_requests_at_once_no_more_pass_than_a_key_may_send() {
    let rules = KeyRules {
        requests_per_minute: NonZeroU32::new(10),
        ..KeyRules::default()
    };
    let gateway = with_keys(Scripted::thorough(), vec![key("alice", rules)]);
    let server = served(&gateway).await;
    let all = join_all((0..200).map(|_| as_key(&server, "alice", "GET", "/v1/models", ""))).await;
    let passed = all.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(passed, 10);
    for refused in all.iter().filter(|reply| reply.status != 200) {
        assert_eq!(refused.status, 429);
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        let standing = refused.header("ratelimit").unwrap();
        let (_, reset) = standing.split_once(";t=").unwrap();
        let reset: u64 = reset.parse().unwrap();
        assert!(
            (1..=61).contains(&wait) && wait.abs_diff(reset) <= 1,
            "{wait} {standing}"
        );
        assert!(standing.starts_with("\"key\";r=0"), "{standing}");
    }
}

#[tokio::test]
async fn of_two_hundred_requests_at_once_no_more_are_answered_than_a_key_may_have() {
    let rules = KeyRules {
        concurrent_requests: NonZeroU32::new(5),
        ..KeyRules::default()
    };
    let (student, permits) = paced();
    let gateway = with_keys(
        student,
        vec![key("alice", rules), key("bob", KeyRules::default())],
    );
    let server = served(&gateway).await;
    let body = |n| EXPLANATION.replace("s-1", &format!("s-{n}"));
    let asked = async |n: usize| as_key(&server, "alice", "POST", "/chat", &body(n)).await;
    let (refused, waiting) = (Mutex::new(Vec::new()), Semaphore::new(0));
    let all = join_all((0..200).map(|n| {
        let (refused, waiting, asked) = (&refused, &waiting, &asked);
        async move {
            let reply = asked(n).await;
            if reply.status == 429 {
                refused.lock().unwrap().push(reply);
                waiting.add_permits(1);
                return None;
            }
            Some(reply.status)
        }
    }));
    // The five that are answered wait for the student until all others were refused.
    let release = async {
        soon(waiting.acquire_many(195)).await.unwrap().forget();
        assert_eq!(
            as_key(&server, "bob", "GET", "/v1/models", "").await.status,
            200
        );
        permits.add_permits(1_000);
    };
    let (answered, ()) = tokio::join!(all, release);
    let answered: Vec<u16> = answered.into_iter().flatten().collect();
    assert_eq!(answered, [200; 5]);
    let refused = refused.into_inner().unwrap();
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    assert_eq!(
        refused[0].header("ratelimit-policy"),
        Some("\"key-requests\";q=5;qu=\"concurrent-requests\"")
    );
    assert_eq!(refused[0].header("ratelimit"), Some("\"key-requests\";r=0"));
    assert!(
        refused[0]
            .detail()
            .contains("5 requests with this key at once")
    );
    assert_eq!(asked(1).await.status, 200);
}

#[tokio::test]
async fn a_key_has_so_many_streams_and_as_many_sockets() {
    let rules = KeyRules {
        streams: NonZeroU32::new(2),
        ..KeyRules::default()
    };
    let (student, permits) = paced();
    let gateway = with_keys(
        student,
        vec![key("alice", rules), key("bob", KeyRules::default())],
    );
    let server = served(&gateway).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let headers = [("x-api-key", "alice")];
        let asked = post("/chat/stream", &headers, EXPLANATION.as_bytes());
        stream.write_all(&asked).await.unwrap();
        permits.add_permits(1);
        assert!(soon(stream.read_u8()).await.is_ok());
        open.push(stream);
    }
    let refused = as_key(&server, "alice", "POST", "/chat/stream", EXPLANATION).await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("1"))
    );
    let told = as_key(&server, "alice", "POST", "/v1/chat/completions", &json!({"model": "feynman", "stream": true, "messages": [{"role": "user", "content": "x"}]}).to_string()).await;
    assert_eq!(told.json()["error"]["code"], "rate_limit_exceeded");
    permits.add_permits(1_000);
    assert_eq!(
        as_key(&server, "bob", "POST", "/chat/stream", EXPLANATION)
            .await
            .status,
        200
    );
    for mut stream in open {
        let mut rest = Vec::new();
        soon(stream.read_to_end(&mut rest)).await.unwrap();
    }
    assert_eq!(
        as_key(&server, "alice", "POST", "/chat/stream", EXPLANATION)
            .await
            .status,
        200
    );

    let first = socket(&server, &[("x-api-key", "alice")]).await.unwrap();
    let _second = socket(&server, &[("x-api-key", "alice")]).await.unwrap();
    assert_eq!(
        socket(&server, &[("x-api-key", "alice")])
            .await
            .unwrap_err(),
        429
    );
    drop(first);
    soon(async {
        while socket(&server, &[("x-api-key", "alice")]).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

type Socket = (
    tokio_tungstenite::WebSocketStream<TcpStream>,
    Option<String>,
);

/// Opens a WebSocket: it and the protocol that was chosen, or the status of the refusal.
async fn socket(server: &Running, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://localhost:{}/ws", server.address.port());
    let mut asked = url.into_client_request().unwrap();
    for (name, value) in headers {
        asked.headers_mut().insert(*name, value.parse().unwrap());
    }
    match client_async(asked, stream).await {
        Ok((socket, answer)) => {
            let chosen = answer.headers().get("sec-websocket-protocol");
            Ok((
                socket,
                chosen.map(|chosen| chosen.to_str().unwrap().to_owned()),
            ))
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_browser_opens_a_socket_with_a_ticket_once_and_never_with_a_key_in_the_address() {
    let student = Scripted::thorough();
    let narrow = KeyRules {
        scopes: vec![KeyScope::Models],
        ..KeyRules::default()
    };
    let alice = key("alice", KeyRules::default());
    let gateway = with_keys(student.clone(), vec![alice, key("narrow", narrow)]);
    let server = served(&gateway).await;
    let given = as_key(&server, "alice", "POST", "/ws/ticket", "").await;
    assert_eq!(
        (given.status, &given.json()["expires_in"]),
        (200, &json!(30))
    );
    let offered = |given: &Reply| {
        let protocols = given.json()["protocols"].clone();
        let protocols: Vec<String> = serde_json::from_value(protocols).unwrap();
        protocols.join(", ")
    };
    let protocols = offered(&given);
    let offer = [("sec-websocket-protocol", protocols.as_str())];
    let (mut open, chosen) = socket(&server, &offer).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("lyceum.v1"));
    let teach = json!({"type": "teach", "topic": "t", "explanation": "e", "session_id": "s", "tenant": "other"});
    open.send_text(&teach).await;
    assert_eq!(open.next_json().await["event"], "open");
    while open.next_json().await["data"] != "[END_OF_STREAM]" {}
    let scope = student.taught.lock().unwrap()[0].0.scope.clone();
    assert_eq!(
        (scope.tenant.as_str(), scope.user.as_str()),
        ("acme", "alice")
    );
    assert_eq!(
        socket(&server, &offer).await.unwrap_err(),
        401,
        "it is spent"
    );

    assert_eq!(
        server
            .send(request("POST", "/ws/ticket", &[], b""))
            .await
            .status,
        401
    );
    // A ticket opens no more than the key that it was asked for with.
    let given = as_key(&server, "narrow", "POST", "/ws/ticket", "").await;
    let protocols = offered(&given);
    let offer = [("sec-websocket-protocol", protocols.as_str())];
    assert_eq!(socket(&server, &offer).await.unwrap_err(), 403);
    // Nor after that key is gone.
    let given = as_key(&server, "alice", "POST", "/ws/ticket", "").await;
    let protocols = offered(&given);
    gateway.set_keys(&[]);
    let offer = [("sec-websocket-protocol", protocols.as_str())];
    assert_eq!(socket(&server, &offer).await.unwrap_err(), 401);
    let close = soon(open.next()).await.unwrap().unwrap();
    let Message::Close(Some(frame)) = close else {
        panic!("{close:?}")
    };
    assert_eq!(frame.code, CloseCode::Policy);

    gateway.set_keys(&[key("alice", KeyRules::default())]);
    for path in [
        "/ws?key=alice",
        "/ws?api_key=alice",
        "/chat?x-api-key=alice",
        "/usage?token=alice",
    ] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
    }
    let as_protocol = [("sec-websocket-protocol", "lyceum.v1, lyceum.key.alice")];
    assert_eq!(socket(&server, &as_protocol).await.unwrap_err(), 401);
}

trait Frames {
    async fn send_text(&mut self, frame: &Value);
    async fn next_json(&mut self) -> Value;
}

impl Frames for tokio_tungstenite::WebSocketStream<TcpStream> {
    async fn send_text(&mut self, frame: &Value) {
        use futures_util::SinkExt;
        self.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next_json(&mut self) -> Value {
        loop {
            match soon(self.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
