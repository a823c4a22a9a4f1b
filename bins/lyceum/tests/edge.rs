//! What surrounds the routes, in the real program: keys of requests across a kill, limits,
//! TLS and sockets as the configuration says.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, io::Read, io::Write, os::unix::net::UnixStream};

use reqwest::{Client, Response, StatusCode};
use support::{Server, run};

const EXPLANATION: &str = r#"{"topic":"tides","explanation":"The sea rises because the Moon pulls it somehow.","session_id":"s-1"}"#;
const OFFLINE: [&str; 2] = ["--provider", "offline"];

fn client() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

async fn teach(server: &Server, key: &str, body: &'static str) -> Response {
    let post = client().post(format!("{}/chat", server.url));
    let post = post.header("content-type", "application/json").body(body);
    post.header("idempotency-key", key).send().await.unwrap()
}

#[tokio::test]
async fn an_answer_that_was_sent_survives_a_kill_and_a_run_that_was_not_leaves_no_stuck_key() {
    let server = Server::offline();
    let first = teach(&server, "k-1", EXPLANATION).await;
    assert_eq!(first.status(), StatusCode::OK);
    let first = first.text().await.unwrap();
    // Killed whatever the others are doing.
    let racing = (0..8).map(|n| {
        let post = client().post(format!("{}/chat", server.url));
        let post = post
            .header("content-type", "application/json")
            .body(EXPLANATION);
        post.header("idempotency-key", format!("race-{}", n % 2))
            .send()
    });
    let racing = tokio::spawn(futures_util::future::join_all(racing));
    let dir = server.kill();
    let answered = racing.await.unwrap();
    let server = Server::start_in(dir, &OFFLINE, &[]);
    let again = teach(&server, "k-1", EXPLANATION).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.text().await.unwrap(), first);
    for (n, before) in answered.into_iter().enumerate() {
        let after = teach(&server, &format!("race-{}", n % 2), EXPLANATION).await;
        assert_eq!(after.status(), StatusCode::OK);
        let Ok(before) = before else { continue };
        if before.status() == StatusCode::OK
            && let Ok(before) = before.text().await
        {
            assert_eq!(after.text().await.unwrap(), before);
        }
    }
    let other = r#"{"topic":"tides","explanation":"Something else altogether."}"#;
    assert_eq!(
        teach(&server, "k-1", other).await.status(),
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn limits_of_the_configuration_hold() {
    let server = Server::start(&OFFLINE, &[("LYCEUM_LIMITS__ADDRESS_PER_MINUTE", "2")]);
    let get = async |path| {
        client()
            .get(format!("{}{path}", server.url))
            .send()
            .await
            .unwrap()
    };
    for expected in [200, 200, 429] {
        assert_eq!(get("/docs").await.status(), expected);
    }
    assert_eq!(get("/readyz").await.status(), 200);
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(
        metrics.contains("api_rate_limited_total{by=\"address\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn tls_is_spoken_with_the_files_of_the_configuration() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let cert = ("LYCEUM_SERVER__TLS_CERT", cert.to_str().unwrap());
    let key = ("LYCEUM_SERVER__TLS_KEY", key.to_str().unwrap());
    let server = Server::start(&OFFLINE, &[cert, key]);
    assert!(server.url.starts_with("https://"), "{}", server.url);
    let trusted = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = Client::builder().no_proxy().tls_certs_only([trusted]);
    let get = client
        .build()
        .unwrap()
        .get(format!("{}/readyz", server.url));
    let reply = get.send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert!(reply.headers().contains_key("strict-transport-security"));

    let alone = run(
        &["check", "--provider", "offline"],
        &[cert, ("HOME", "/tmp")],
    );
    assert!(!alone.status.success());
    assert!(String::from_utf8_lossy(&alone.stderr).contains("server.tls_key"));
}

#[test]
fn a_unix_socket_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lyceum.sock");
    let listen = format!("unix:{}", path.display());
    let server = Server::start(&["--provider", "offline", "--listen", &listen], &[]);
    assert_eq!(server.url, listen);
    let mut stream = UnixStream::connect(&path).unwrap();
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    server.signal("TERM");
    let (code, errors, _) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(!path.exists());
}
