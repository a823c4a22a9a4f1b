//! Clients that leave, servers that stop, addresses that cannot be had.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use lyceum_core::{TeachEvent, TeachStream};
use lyceum_gateway::{
    ApiKey, AuthConfig, BindError, GatewayConfig, KeyRules, Server, ServerConfig, Stopped,
};
use lyceum_observe::{Health, Lifecycle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::support::{EXPLANATION, Reply, Scripted, gateway, listen, post, request, serve, soon};

/// A student that says one word and then thinks for ever; the first token is cancelled when
/// somebody begins to think, the second when the thinking is dropped.
fn endless(words: usize) -> (Arc<Scripted>, CancellationToken, CancellationToken) {
    let (begun, dropped) = (CancellationToken::new(), CancellationToken::new());
    let (begins, drops) = (begun.clone(), dropped.clone());
    let student = Scripted::new(move |_| {
        let (begins, guard) = (begins.clone(), drops.clone().drop_guard());
        let words = stream::iter((0..words).map(|_| Ok(TeachEvent::Text("hm".into()))));
        let thinking = stream::once(async move {
            let _guard = guard;
            begins.cancel();
            std::future::pending().await
        });
        Box::pin(words.chain(thinking)) as TeachStream
    });
    (student, begun, dropped)
}

async fn open(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = post(path, &[], EXPLANATION.as_bytes());
    client.write_all(&request).await.unwrap();
    client
}

async fn read_until(client: &mut TcpStream, mark: &str) -> String {
    let mut text = String::new();
    while !text.contains(mark) {
        let mut bytes = [0; 1_024];
        let read = client.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed after {text:?}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_ends_the_work() {
    let (student, _, dropped) = endless(1);
    let server = serve(student).await;
    let mut client = open(server.address, "/chat/stream").await;
    read_until(&mut client, "data: \"hm\"").await;
    assert!(!dropped.is_cancelled());
    drop(client);
    soon(dropped.cancelled()).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_event_ends_the_work() {
    for path in ["/chat", "/chat/stream"] {
        let (student, begun, dropped) = endless(0);
        let server = serve(student).await;
        let client = open(server.address, path).await;
        soon(begun.cancelled()).await;
        drop(client);
        soon(dropped.cancelled()).await;
    }
}

#[tokio::test]
async fn a_drain_is_seen_before_it_is_felt() {
    let health = Health::default();
    let gateway = gateway(
        Scripted::thorough(),
        &GatewayConfig::default(),
        health.clone(),
    );
    let config = ServerConfig {
        // Longer than the test: what is looked at is the draining server.
        drain: Duration::from_secs(3_600),
        ..ServerConfig::default()
    };
    let server = listen(gateway, config).await;
    let keep_alive = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(keep_alive).await.unwrap();
    let before = read_until(&mut client, "}").await;
    assert!(before.starts_with("HTTP/1.1 200"), "{before}");
    assert!(!before.contains("connection: close"), "{before}");

    server.shutdown.cancel();
    // The runtime has one thread: after a few turns the server has seen it.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(health.lifecycle(), Lifecycle::Draining);
    client.write_all(keep_alive).await.unwrap();
    let reply = Reply::read(&mut client).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(reply.json()["lifecycle"], "draining");
    assert_eq!(
        server.get("/livez").await.status,
        200,
        "a new connection is served"
    );
    let reply = server.post("/chat", EXPLANATION).await;
    assert_eq!(
        (reply.status, reply.header("connection")),
        (200, Some("close"))
    );
    server.stopped.abort();
}

#[tokio::test]
async fn a_stop_waits_for_requests_and_closes_idle_connections() {
    let release = CancellationToken::new();
    let (begun, released) = (CancellationToken::new(), release.clone());
    let begins = begun.clone();
    let student = Scripted::new(move |explanation| {
        let (begins, released) = (begins.clone(), released.clone());
        Box::pin(stream::once(async move {
            begins.cancel();
            released.cancelled().await;
            Ok(TeachEvent::Finished(Box::new(crate::support::lesson(
                &explanation,
            ))))
        }))
    });
    let server = serve(student).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut client = open(server.address, "/chat").await;
    soon(begun.cancelled()).await;
    server.shutdown.cancel();
    let mut nothing = Vec::new();
    idle.read_to_end(&mut nothing).await.unwrap();
    assert!(nothing.is_empty());
    assert!(!server.stopped.is_finished());
    TcpStream::connect(server.address).await.unwrap_err();
    release.cancel();
    assert_eq!(Reply::read(&mut client).await.status, 200);
    assert_eq!(server.stopped.await.unwrap(), Stopped { cut: 0 });
}

#[tokio::test]
async fn at_the_deadline_streams_are_told_and_the_rest_is_cut() {
    let (student, begun, dropped) = endless(1);
    let health = Health::default();
    let gateway = gateway(student, &GatewayConfig::default(), health);
    let config = ServerConfig {
        finish: Duration::ZERO,
        ..ServerConfig::default()
    };
    let server = listen(gateway, config).await;
    let mut silent = open(server.address, "/chat").await;
    soon(begun.cancelled()).await;
    let mut stream = open(server.address, "/chat/stream").await;
    read_until(&mut stream, "data: \"hm\"").await;
    server.shutdown.cancel();
    let end = read_until(&mut stream, "[END_OF_STREAM]").await;
    assert!(end.contains("retry: 1000\n\n"), "{end}");
    assert!(end.contains("\"retryable\":true"), "{end}");
    // From here on nothing but the server's own patience is waited for.
    tokio::time::pause();
    assert_eq!(server.stopped.await.unwrap(), Stopped { cut: 1 });
    soon(dropped.cancelled()).await;
    assert_eq!(Reply::read(&mut silent).await.status, 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let (student, begun, _) = endless(0);
    let gateway = gateway(student, &GatewayConfig::default(), Health::default());
    let config = ServerConfig {
        connections: 1,
        ..ServerConfig::default()
    };
    let server = listen(gateway, config).await;
    let _held = open(server.address, "/chat").await;
    soon(begun.cancelled()).await;
    let reply = server.send(request("GET", "/livez", &[], b"")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), Some("5"));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(reply.detail().contains("busy"));
}

#[tokio::test]
async fn other_machines_need_a_key() {
    let open = gateway(
        Scripted::thorough(),
        &GatewayConfig::default(),
        Health::default(),
    );
    let open = Server::new(open, ServerConfig::default());
    for address in [
        "0.0.0.0:0",
        "[::]:0",
        "192.0.2.1:80",
        "[::ffff:192.0.2.1]:80",
    ] {
        let error = open
            .clone()
            .bind(address.parse().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, BindError::Unprotected { .. }), "{error}");
        assert!(error.to_string().contains("configure API keys"), "{error}");
    }
    let key = ApiKey {
        name: "k".into(),
        tenant: "t".parse().unwrap(),
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
    let closed = gateway(Scripted::thorough(), &config, Health::default());
    let closed = Server::new(closed, ServerConfig::default());
    closed.bind("0.0.0.0:0".parse().unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_address_that_cannot_be_had_is_explained() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let gateway = gateway(
        Scripted::thorough(),
        &GatewayConfig::default(),
        Health::default(),
    );
    let server = Server::new(gateway, ServerConfig::default());
    let error = server.bind(address).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    let advice = format!("listen on {address}: another program does already");
    assert!(error.to_string().starts_with(&advice), "{error}");
}
