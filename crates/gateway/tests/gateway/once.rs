//! `Idempotency-Key`: what costs money is done once for each key.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use lyceum_core::{ChatError, MemoryHints, MemoryRecords, RecordStore as _, TeachError};
use lyceum_gateway::{ApiKey, AuthConfig, GatewayConfig, KeyRules, ServerConfig};
use lyceum_observe::Health;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::Semaphore};

use crate::support::{
    EXPLANATION, Reply, Running, Scripted, all_events, gateway, listen, post, soon,
};

const OTHER: &str = r#"{"topic":"tides","explanation":"The moon pulls.","session_id":"s-1"}"#;

async fn serve(student: Arc<Scripted>) -> Running {
    crate::support::serve(student).await
}

async fn send(server: &Running, key: &str, body: &str) -> Reply {
    let headers = [("Idempotency-Key", key)];
    server.send(post("/chat", &headers, body.as_bytes())).await
}

fn lessons(student: &Scripted) -> usize {
    student.taught.lock().unwrap().len()
}

/// A student that answers when it is let, and counts how often it was asked.
fn patient() -> (Arc<Scripted>, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let student = Scripted::new(move |explanation| {
        let gate = held.clone();
        let events = stream::iter(all_events(&explanation).map(Ok));
        let wait = stream::once(async move {
            gate.acquire().await.unwrap().forget();
            events
        });
        Box::pin(wait.flatten())
    });
    (student, gate)
}

async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_without_being_done_again() {
    let student = Scripted::thorough();
    let server = serve(student.clone()).await;
    let first = send(&server, "k-1", EXPLANATION).await;
    let again = send(&server, "k-1", EXPLANATION).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("content-type"), again.header("content-type"));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_ne!(first.header("x-request-id"), again.header("x-request-id"));
    assert_eq!(lessons(&student), 1);
    // Another key, or none, is another request.
    send(&server, "k-2", EXPLANATION).await;
    server.post("/chat", EXPLANATION).await;
    assert_eq!(lessons(&student), 3);
}

#[tokio::test]
async fn a_key_with_another_body_is_a_conflict() {
    let student = Scripted::thorough();
    let server = serve(student.clone()).await;
    assert_eq!(send(&server, "k", EXPLANATION).await.status, 200);
    let refused = send(&server, "k", OTHER).await;
    assert_eq!(refused.status, 409);
    assert!(refused.detail().contains("Idempotency-Key"));
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    // On another route it is another key.
    let headers = [("Idempotency-Key", "k")];
    let body = br#"{"model":"feynman","messages":[{"role":"user","content":"x"}]}"#;
    for path in ["/v1/chat/completions", "/v1/responses"] {
        let body = match path {
            "/v1/responses" => &br#"{"model":"feynman","input":"x"}"#[..],
            _ => &body[..],
        };
        let first = server.send(post(path, &headers, body)).await;
        let again = server.send(post(path, &headers, body)).await;
        assert_eq!(
            (first.status, again.status),
            (200, 200),
            "{path}: {first:?}"
        );
        assert_eq!(first.body, again.body, "{path}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    assert_eq!(lessons(&student), 3);
}

#[tokio::test]
async fn requests_at_once_with_one_key_are_one_run() {
    let (student, gate) = patient();
    let server = serve(student.clone()).await;
    let sending = (0..8).map(|_| send(&server, "k", EXPLANATION));
    let sending = futures_util::future::join_all(sending);
    let opened = async {
        until(|| lessons(&student) == 1).await;
        let refused = send(&server, "k", OTHER).await;
        assert_eq!(refused.status, 409, "while the run is under way");
        gate.add_permits(1);
    };
    let (replies, ()) = soon(async { tokio::join!(sending, opened) }).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert!(replies.iter().all(|reply| reply.body == replies[0].body));
    let replayed = |reply: &&Reply| reply.header("idempotency-replayed").is_some();
    assert_eq!(replies.iter().filter(replayed).count(), 7);
    assert_eq!(lessons(&student), 1);
}

#[tokio::test]
async fn a_client_that_leaves_leaves_no_stuck_key() {
    let (student, gate) = patient();
    let server = serve(student.clone()).await;
    let headers = [("Idempotency-Key", "k")];
    let request = post("/chat", &headers, EXPLANATION.as_bytes());
    let mut leaving = TcpStream::connect(server.address).await.unwrap();
    leaving.write_all(&request).await.unwrap();
    until(|| lessons(&student) == 1).await;
    let waiting = send(&server, "k", EXPLANATION);
    let leave = async {
        drop(leaving);
        until(|| lessons(&student) == 2).await;
        gate.add_permits(1);
    };
    let (reply, ()) = soon(async { tokio::join!(waiting, leave) }).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn a_failure_of_the_server_is_not_remembered() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let student = Scripted::new(move |explanation| {
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            let error = TeachError::Model(ChatError::Truncated);
            return Box::pin(stream::iter([Err(error)]));
        }
        Box::pin(stream::iter(all_events(&explanation).map(Ok)))
    });
    let server = serve(student).await;
    assert_eq!(send(&server, "k", EXPLANATION).await.status, 502);
    let second = send(&server, "k", EXPLANATION).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.header("idempotency-replayed"), None);
    assert_eq!(send(&server, "k", EXPLANATION).await.body, second.body);
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_answer_is_remembered_across_a_restart() {
    let records = Arc::new(MemoryRecords::new());
    let config = GatewayConfig::default();
    let student = Scripted::thorough();
    let start = async || {
        let gateway = gateway(student.clone(), &config, Health::default());
        listen(
            gateway.with_idempotency(records.clone()),
            ServerConfig::default(),
        )
        .await
    };
    let first = send(&start().await, "k", EXPLANATION).await;
    let again = send(&start().await, "k", EXPLANATION).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.body, again.body);
    assert_eq!(send(&start().await, "k", OTHER).await.status, 409);
    assert_eq!(lessons(&student), 1);
}

#[tokio::test]
async fn a_key_is_its_users_own() {
    let user = |tenant: &str, user: &str| ApiKey {
        name: user.into(),
        tenant: tenant.parse().unwrap(),
        user: user.parse().unwrap(),
        sha256: ApiKey::digest(&format!("{tenant}/{user}")),
        replaced: None,
        rules: KeyRules::default(),
    };
    let keys = vec![user("a", "x"), user("a", "y"), user("b", "x")];
    let config = GatewayConfig {
        auth: AuthConfig {
            keys,
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let student = Scripted::thorough();
    let gateway = gateway(student.clone(), &config, Health::default());
    let server = listen(gateway, ServerConfig::default()).await;
    for secret in ["a/x", "a/y", "b/x"] {
        let headers = [("Idempotency-Key", "k"), ("x-api-key", secret)];
        let reply = server
            .send(post("/chat", &headers, EXPLANATION.as_bytes()))
            .await;
        assert_eq!(reply.header("idempotency-replayed"), None, "{secret}");
    }
    assert_eq!(lessons(&student), 3);
}

#[tokio::test]
async fn keys_that_are_none_and_streams_are_refused() {
    let student = Scripted::thorough();
    let server = serve(student.clone()).await;
    let long = "k".repeat(256);
    for key in ["", &long, "schlüssel"] {
        let reply = send(&server, key, EXPLANATION).await;
        assert_eq!(reply.status, 400, "{key}");
        assert!(reply.detail().contains("1 to 255"));
    }
    let headers = [("Idempotency-Key", "k")];
    let body = br#"{"model":"feynman","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    for (path, body) in [
        ("/chat/stream", EXPLANATION.as_bytes()),
        ("/panel/stream", EXPLANATION.as_bytes()),
        ("/v1/chat/completions", body),
        ("/v1/messages", body),
    ] {
        let reply = server.send(post(path, &headers, body)).await;
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.body.contains("without a stream"), "{path}: {reply:?}");
    }
    assert_eq!(lessons(&student), 0);
}

/// Two processes that share the records.
async fn pair(
    student: &Arc<Scripted>,
    records: &Arc<MemoryRecords>,
    hints: &Arc<MemoryHints>,
) -> (Running, Running) {
    let start = async || {
        let gateway = gateway(
            student.clone(),
            &GatewayConfig::default(),
            Health::default(),
        );
        let gateway = gateway.shared(hints.clone());
        let gateway = gateway.with_idempotency(records.clone());
        listen(gateway, ServerConfig::default()).await
    };
    (start().await, start().await)
}

#[tokio::test]
async fn two_processes_do_a_request_once() {
    let (student, gate) = patient();
    let (records, hints) = (Arc::default(), Arc::default());
    let (one, two) = pair(&student, &records, &hints).await;
    let first = send(&one, "k", EXPLANATION);
    let second = async {
        until(|| lessons(&student) == 1).await;
        // It waits for the other process, and another request is refused at once.
        let (second, other) = tokio::join!(send(&two, "k", EXPLANATION), async {
            let other = send(&two, "k", OTHER).await;
            gate.add_permits(1);
            other
        });
        assert_eq!(other.status, 409, "{other:?}");
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.body, second.body);
    assert_eq!(lessons(&student), 1);
    let claims = records.every("idempotency_claim").await.unwrap();
    assert!(claims.is_empty(), "{claims:?}");
}

#[tokio::test]
async fn a_run_whose_client_left_is_done_by_the_process_that_waits() {
    let (student, gate) = patient();
    let (records, hints) = (Arc::default(), Arc::default());
    let (one, two) = pair(&student, &records, &hints).await;
    let mut client = TcpStream::connect(one.address).await.unwrap();
    let headers = [("Idempotency-Key", "k")];
    let bytes = post("/chat", &headers, EXPLANATION.as_bytes());
    client.write_all(&bytes).await.unwrap();
    until(|| lessons(&student) == 1).await;
    let waits = send(&two, "k", EXPLANATION);
    let leaves = async {
        drop(client);
        until(|| lessons(&student) == 2).await;
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(waits, leaves);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("idempotency-replayed"), None);
}
