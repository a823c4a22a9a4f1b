//! The limit of open streams and its line, and durable streams that clients go on with.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use lyceum_core::{
    Expect, MemoryHints, MemoryRecords, RecordStore, RecordWrite, Scope, TeachEvent, TeachStream,
};
use lyceum_gateway::{
    ApiKey, AuthConfig, Gateway, GatewayConfig, KeyRules, Limits, Server, ServerConfig,
};
use lyceum_observe::Health;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpStream,
    sync::Semaphore,
    task::yield_now,
};

use crate::support::{
    EXPLANATION, Reply, Running, Scripted, all_events, gateway, listen, post, request, serve, soon,
};

pub(crate) const DURABLE: &str = r#"{"topic":"photosynthesis","explanation":"Plants turn light into sugar.","session_id":"s-1","durable":true}"#;

/// A student that says each event of a thorough lesson when it gets a permit for it.
fn paced() -> (Arc<Scripted>, Arc<Semaphore>) {
    let permits = Arc::new(Semaphore::new(0));
    let taken = permits.clone();
    let student = Scripted::new(move |explanation| {
        let taken = taken.clone();
        let events = stream::iter(all_events(&explanation)).then(move |event| {
            let taken = taken.clone();
            async move {
                taken.acquire().await.unwrap().forget();
                Ok(event)
            }
        });
        Box::pin(events) as TeachStream
    });
    (student, permits)
}

/// A server that serves one stream at a time.
async fn narrow(student: Arc<Scripted>) -> Running {
    let config = GatewayConfig {
        limits: Limits {
            streams: 1,
            ..Limits::default()
        },
        ..GatewayConfig::default()
    };
    let gateway = gateway(student, &config, Health::default());
    listen(gateway, ServerConfig::default()).await
}

/// A stream whose headers have arrived.
async fn opened(address: SocketAddr, bytes: &[u8]) -> (TcpStream, String) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    (client, head)
}

async fn read_until(client: &mut TcpStream, mark: &str) -> String {
    let mut text = String::new();
    while !text.contains(mark) {
        let mut bytes = [0; 1_024];
        let read = soon(client.read(&mut bytes)).await.unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

fn with_token(token: &str) -> Vec<u8> {
    post(
        "/chat/stream",
        &[("x-queue-token", token)],
        EXPLANATION.as_bytes(),
    )
}

fn token(reply: &Reply) -> (String, u64) {
    assert_eq!(reply.status, 503, "{reply:?}");
    let json = reply.json();
    let token = json["queue_token"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("x-queue-token"), Some(token.as_str()));
    assert!(json["estimated_wait_seconds"].as_f64().unwrap() >= 1.0);
    let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!(after >= 1, "{reply:?}");
    (token, json["position"].as_u64().unwrap())
}

#[tokio::test]
async fn who_finds_all_streams_taken_comes_back_with_a_token_and_is_next() {
    let (student, permits) = paced();
    let server = narrow(student).await;
    let (first, _) = opened(
        server.address,
        &post("/chat/stream", &[], EXPLANATION.as_bytes()),
    )
    .await;

    let (one, place) = token(&server.post("/chat/stream", EXPLANATION).await);
    assert_eq!(place, 1);
    let (two, place) = token(&server.post("/chat/stream", EXPLANATION).await);
    assert_eq!(place, 2);
    // Coming back too early keeps the place and the token.
    let again = server.send(with_token(&one)).await;
    assert_eq!(token(&again), (one.clone(), 1));

    drop(first);
    permits.add_permits(1_000);
    // The second cannot get ahead of the first, however early it asks.
    assert_eq!(token(&server.send(with_token(&two)).await).1, 2);
    soon(async {
        loop {
            let reply = server.send(with_token(&one)).await;
            if reply.status == 200 {
                assert!(reply.body.contains("[END_OF_STREAM]"), "{reply:?}");
                break;
            }
            assert_eq!(token(&reply), (one.clone(), 1));
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn streams_of_the_compatible_apis_count_too() {
    let (student, _permits) = paced();
    let server = narrow(student).await;
    let _first = opened(
        server.address,
        &post("/chat/stream", &[], EXPLANATION.as_bytes()),
    )
    .await;
    let body = r#"{"model":"feynman","stream":true,"messages":[{"role":"user","content":"Plants turn light into sugar."}]}"#;
    let reply = server.post("/v1/chat/completions", body).await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("number 1 in line")
    );
}

pub(crate) fn events(text: &str) -> Vec<String> {
    let frames = text.split("\n\n").filter(|frame| frame.starts_with("id: "));
    frames.map(str::to_owned).collect()
}

pub(crate) fn place(head: &str) -> String {
    let line = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-location")
            .then_some(value)
    });
    line.unwrap_or_else(|| panic!("{head}")).to_owned()
}

async fn rest(server: &Running, place: &str, last: Option<usize>) -> Reply {
    let last = last.map(|last| last.to_string());
    let header = last.as_deref().map(|last| ("Last-Event-ID", last));
    let header: Vec<_> = header.into_iter().collect();
    server.send(request("GET", place, &header, b"")).await
}

#[tokio::test]
async fn a_durable_stream_is_gone_on_with_exactly_where_it_was_lost() {
    let (student, permits) = paced();
    let server = serve(student).await;
    let (mut client, head) = opened(
        server.address,
        &post("/chat/stream", &[], DURABLE.as_bytes()),
    )
    .await;
    let place = place(&head);
    permits.add_permits(2);
    let heard = read_until(&mut client, "event: node").await;
    assert!(heard.contains("id: 2"), "{heard}");
    drop(client);

    // One waits for what is not told yet, from the middle.
    let (waiting, ()) = tokio::join!(rest(&server, &place, Some(1)), async {
        yield_now().await;
        permits.add_permits(1_000);
    });
    let whole = events(&rest(&server, &place, None).await.body);
    assert_eq!(whole.len(), 8, "{whole:?}");
    assert_eq!(events(&waiting.body), whole[1..]);
    for last in 0..=whole.len() {
        let reply = rest(&server, &place, Some(last)).await;
        assert_eq!(
            reply.header("content-type"),
            Some("text/event-stream; charset=utf-8")
        );
        assert_eq!(events(&reply.body), whole[last..]);
    }
    assert!(whole[7].ends_with("data: \"[END_OF_STREAM]\""), "{whole:?}");
    assert_eq!(rest(&server, &place, Some(99)).await.body, "");
    let wrong = server
        .send(request("GET", &place, &[("Last-Event-ID", "x")], b""))
        .await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
}

#[tokio::test]
async fn the_work_behind_a_durable_stream_can_be_ended() {
    let (student, _permits) = paced();
    let server = serve(student).await;
    let (client, head) = opened(
        server.address,
        &post("/chat/stream", &[], DURABLE.as_bytes()),
    )
    .await;
    let place = place(&head);
    drop(client);
    let ended = server.send(request("DELETE", &place, &[], b"")).await;
    assert_eq!(ended.status, 204, "{ended:?}");
    let told = events(&rest(&server, &place, None).await.body);
    assert!(told[0].contains("the stream was cancelled"), "{told:?}");
    assert!(told[1].contains("[END_OF_STREAM]"), "{told:?}");
}

#[tokio::test]
async fn a_stream_that_is_not_durable_or_anothers_is_not_there() {
    let keyed = |name: &str| ApiKey {
        name: name.to_owned(),
        tenant: "acme".parse().unwrap(),
        user: name.parse().unwrap(),
        sha256: ApiKey::digest(name),
        replaced: None,
        rules: KeyRules::default(),
    };
    let config = GatewayConfig {
        auth: AuthConfig {
            keys: vec![keyed("alice"), keyed("bob")],
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let records = Arc::new(MemoryRecords::new());
    let gateway_of = |config| gateway(Scripted::thorough(), config, Health::default());
    let server = listen(
        gateway_of(&config).with_streams(records.clone()),
        ServerConfig::default(),
    )
    .await;
    let as_user = |user: &'static str, method: &str, path: &str, body: &str| {
        let headers = [("x-api-key", user), ("content-type", "application/json")];
        server.send(request(method, path, &headers, body.as_bytes()))
    };
    let plain = as_user("alice", "POST", "/chat/stream", EXPLANATION).await;
    assert_eq!(plain.header("content-location"), None);
    let durable = as_user("alice", "POST", "/chat/stream", DURABLE).await;
    let place = durable.header("content-location").unwrap();
    assert_eq!(as_user("alice", "GET", place, "").await.body, durable.body);
    // Another process looks in the records, and finds it for its user alone.
    let elsewhere = gateway_of(&config).with_streams(records.clone());
    let at = |user| {
        sent(
            &elsewhere,
            request("GET", place, &[("x-api-key", user)], b""),
        )
    };
    soon(async {
        while events(&at("alice").await.body).len() < 8 {
            yield_now().await;
        }
    })
    .await;
    assert_eq!(at("bob").await.status, 404);
    for method in ["GET", "DELETE"] {
        let reply = as_user("bob", method, place, "").await;
        assert_eq!(reply.status, 404, "{reply:?}");
        for nothing in [
            "/streams/x",
            "/streams/%FF",
            "/streams/00000000-0000-4000-8000-000000000000",
        ] {
            let reply = as_user("alice", method, nothing, "").await;
            assert_eq!((reply.status, reply.detail().is_empty()), (404, false));
        }
    }
}

fn replica(student: Arc<Scripted>, records: &Arc<MemoryRecords>) -> Gateway {
    let gateway = gateway(student, &GatewayConfig::default(), Health::default());
    gateway.with_streams(records.clone())
}

/// Sends a request on an in-memory connection and reads the answer until its end.
pub(crate) async fn sent(gateway: &Gateway, bytes: Vec<u8>) -> Reply {
    let server = Server::new(gateway.clone(), ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    let served = tokio::spawn(async move { server.connection(io).await });
    client.write_all(&bytes).await.unwrap();
    let reply = Reply::read(&mut client).await;
    served.abort();
    reply
}

#[tokio::test(start_paused = true)]
async fn any_process_that_shares_the_records_goes_on_with_a_stream() {
    let records = Arc::new(MemoryRecords::new());
    let student = Scripted::new(|explanation| {
        let events = stream::iter(all_events(&explanation)).then(|event| async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok(event)
        });
        Box::pin(events) as TeachStream
    });
    let (one, other) = (
        replica(student, &records),
        replica(Scripted::thorough(), &records),
    );
    let server = Server::new(one.clone(), ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    tokio::spawn(async move { server.connection(io).await });
    let request_bytes = post("/chat/stream", &[], DURABLE.as_bytes());
    client.write_all(&request_bytes).await.unwrap();
    let mut head = vec![0; 4_096];
    let mut read = 0;
    while !String::from_utf8_lossy(&head[..read]).contains("id: 2") {
        read += soon(client.read(&mut head[read..])).await.unwrap();
    }
    let place = place(&String::from_utf8_lossy(&head[..read]));
    drop(client);

    let last = ("Last-Event-ID", "2");
    let theirs = sent(&other, request("GET", &place, &[last], b"")).await;
    let ours = sent(&one, request("GET", &place, &[last], b"")).await;
    assert_eq!(events(&theirs.body), events(&ours.body));
    assert_eq!(events(&theirs.body).len(), 6, "{theirs:?}");

    // It is kept for its time, and then nothing of it is left.
    let whole = || sent(&other, request("GET", &place, &[], b""));
    other.forget_expired().await;
    assert_eq!(events(&whole().await.body).len(), 8);
    let id = place.rsplit('/').next().unwrap();
    let mut head = stored(&records, id).await.unwrap();
    head["expires"] = 0.into();
    let tenant = Scope::local().tenant;
    let put = RecordWrite::Put {
        kind: "stream",
        id: id.to_owned(),
        group: Scope::local().user.to_string(),
        body: head.to_string(),
        expect: Expect::Anything,
    };
    records.write(&tenant, vec![put]).await.unwrap();
    other.forget_expired().await;
    assert_eq!(whole().await.status, 404);
    assert_eq!(records.every("stream_part").await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_process_is_gone_ends_with_an_error() {
    let records = Arc::new(MemoryRecords::new());
    let dying = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let place = {
        let records = records.clone();
        std::thread::spawn(move || {
            dying.block_on(async {
                let student = Scripted::new(|_| {
                    let word = stream::iter([Ok(TeachEvent::Text("hm".into()))]);
                    Box::pin(word.chain(stream::pending())) as TeachStream
                });
                let server = listen(replica(student, &records), ServerConfig::default()).await;
                let request = post("/chat/stream", &[], DURABLE.as_bytes());
                let (_client, head) = opened(server.address, &request).await;
                let place = place(&head);
                // It is stored before the process dies.
                soon(async {
                    let id = place.rsplit('/').next().unwrap();
                    while stored(&records, id).await.is_none() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                })
                .await;
                place
            })
        })
        .join()
        .unwrap()
    };
    let left = replica(Scripted::thorough(), &records);
    let told = sent(&left, request("GET", &place, &[], b"")).await;
    // What the server adds has no number: it is no event of the stream.
    let (word, rest) = told.body.split_at(told.body.find("event: error").unwrap());
    assert_eq!(events(word), ["id: 1\ndata: \"hm\""]);
    assert!(rest.contains("\"retryable\":true"), "{told:?}");
    assert!(rest.ends_with("data: \"[END_OF_STREAM]\"\n\n"), "{told:?}");
    assert!(!rest.contains("id: "), "{told:?}");
}

async fn stored(records: &MemoryRecords, id: &str) -> Option<Value> {
    let tenant = Scope::local().tenant;
    let head = records.read(&tenant, "stream", id).await.unwrap()?;
    let head: Value = serde_json::from_str(&head.body).unwrap();
    (head["parts"].as_u64()? > 0).then_some(head)
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_ended_at_a_process_that_does_not_tell_it() {
    let records = Arc::new(MemoryRecords::new());
    let hints = Arc::new(MemoryHints::new());
    let (student, permits) = paced();
    let shared = |student| {
        let gateway = gateway(student, &GatewayConfig::default(), Health::default());
        gateway.shared(hints.clone()).with_streams(records.clone())
    };
    let (one, other) = (shared(student), shared(Scripted::thorough()));
    let server = Server::new(one.clone(), ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    tokio::spawn(async move { server.connection(io).await });
    permits.add_permits(2);
    let request_bytes = post("/chat/stream", &[], DURABLE.as_bytes());
    client.write_all(&request_bytes).await.unwrap();
    let mut head = vec![0; 4_096];
    let mut read = 0;
    while !String::from_utf8_lossy(&head[..read]).contains("id: 2") {
        read += soon(client.read(&mut head[read..])).await.unwrap();
    }
    let place = place(&String::from_utf8_lossy(&head[..read]));
    // It is found there once its first events are stored.
    let there = async || sent(&other, request("DELETE", &place, &[], b"")).await;
    while there().await.status == 404 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told = sent(&other, request("GET", &place, &[], b"")).await;
    assert!(told.body.contains("cancelled"), "{told:?}");
    let again = sent(&one, request("GET", &place, &[], b"")).await;
    assert_eq!(events(&again.body), events(&told.body));
    assert_eq!(there().await.status, 204, "it has ended");
    let left = records.every("stream_stop").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}
