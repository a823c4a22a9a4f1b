//! Answers to GET that are given again, and when they are not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ExamAnswer, Knowledge, Paper, Pupil, ReviewItem, SessionId, TeachBack, TeachError,
    Tone,
};
use lyceum_gateway::{
    ApiKey, AuthConfig, GatewayConfig, KeyRules, ResponseCacheConfig, ServerConfig,
};
use lyceum_observe::Health;
use tokio::sync::Semaphore;

use crate::support::{EXPLANATION, Reply, Running, Scripted, gateway, listen, post, request, soon};

const PATH: &str = "/sessions/s-1/knowledge?format=markdown";

/// Counts how often it was asked, tells the number, and waits for a permit if there is a gate.
#[derive(Debug, Default)]
struct Counting {
    asked: AtomicUsize,
    gate: Option<Semaphore>,
}

#[async_trait]
impl Pupil for Counting {
    async fn knowledge(
        &self,
        _: CallContext,
        _: SessionId,
    ) -> Result<Option<Knowledge>, TeachError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }

    async fn review(
        &self,
        _: CallContext,
        _: SessionId,
    ) -> Result<Option<Vec<ReviewItem>>, TeachError> {
        Ok(None)
    }

    async fn paper(
        &self,
        call: CallContext,
        _: SessionId,
        _: Paper,
    ) -> Result<Option<String>, TeachError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        Ok(Some(format!("{} {number}", call.scope.user)))
    }

    async fn teach_back(
        &self,
        _: CallContext,
        _: SessionId,
        _: Option<Tone>,
    ) -> Result<Option<TeachBack>, TeachError> {
        Ok(None)
    }

    async fn exam(
        &self,
        _: CallContext,
        _: SessionId,
        _: String,
        _: Option<Tone>,
    ) -> Result<Option<ExamAnswer>, TeachError> {
        Ok(None)
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

impl Counting {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(pupil: Arc<Counting>, keys: Vec<ApiKey>) -> Running {
    let config = GatewayConfig {
        auth: AuthConfig {
            keys,
            ..AuthConfig::default()
        },
        // No answer may be too old for a slow machine.
        cache: ResponseCacheConfig {
            ttl: std::time::Duration::from_secs(600),
            ..ResponseCacheConfig::default()
        },
        ..GatewayConfig::default()
    };
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    listen(gateway.with_pupil(pupil), ServerConfig::default()).await
}

fn key(secret: &str, user: &str, rules: KeyRules) -> ApiKey {
    ApiKey {
        name: "k".into(),
        tenant: "t".parse().unwrap(),
        user: user.parse().unwrap(),
        sha256: ApiKey::digest(secret),
        replaced: None,
        rules,
    }
}

async fn read(server: &Running, key: &str, path: &str) -> Reply {
    let headers = [("x-api-key", key)];
    server.send(request("GET", path, &headers, b"")).await
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
async fn an_answer_is_given_again_until_its_user_writes() {
    let pupil = Arc::new(Counting::default());
    let server = serve(pupil.clone(), Vec::new()).await;
    let first = server.get(PATH).await;
    let again = server.get(PATH).await;
    assert_eq!((&*first.body, &*again.body), ("local 1", "local 1"));
    assert_eq!(first.header("cache-status"), Some("lyceum; fwd=miss"));
    assert_eq!(again.header("cache-status"), Some("lyceum; hit"));
    assert_eq!(again.header("cache-control"), Some("private, no-cache"));
    assert_eq!(first.header("content-type"), again.header("content-type"));
    // Another address is another answer.
    assert_eq!(
        server
            .get("/sessions/s-2/knowledge?format=markdown")
            .await
            .body,
        "local 2"
    );
    for (path, body) in [("/chat", EXPLANATION), ("/chat/stream", EXPLANATION)] {
        let before = server.get(PATH).await.body;
        assert_eq!(server.post(path, body).await.status, 200);
        assert_ne!(server.get(PATH).await.body, before, "{path}");
    }
    // A write to one conversation leaves the others alone.
    let before = server.get(PATH).await.body;
    server.post("/sessions/s-2/gaps/1/dismiss", "{}").await;
    assert_eq!(server.get(PATH).await.body, before);
    server.post("/sessions/s-1/gaps/1/dismiss", "{}").await;
    assert_ne!(server.get(PATH).await.body, before);
}

#[tokio::test]
async fn a_client_that_has_the_answer_is_told_so() {
    let server = serve(Arc::default(), Vec::new()).await;
    for path in [PATH, "/v1/models", "/openapi.json"] {
        let first = server.get(path).await;
        let tag = first.header("etag").unwrap().to_owned();
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("\"x\", {tag}"),
            "*".into(),
        ] {
            let headers = [("If-None-Match", &*known)];
            let reply = server.send(request("GET", path, &headers, b"")).await;
            assert_eq!((reply.status, &*reply.body), (304, ""), "{path} {known}");
            assert_eq!(reply.header("etag"), Some(&*tag));
        }
        let headers = [("If-None-Match", "\"other\"")];
        let reply = server.send(request("GET", path, &headers, b"")).await;
        assert_eq!((reply.status, reply.body), (200, first.body), "{path}");
    }
}

#[tokio::test]
async fn nobody_gets_an_answer_of_another_key() {
    let narrow = KeyRules {
        models: vec!["other".into()],
        ..KeyRules::default()
    };
    let keys = vec![
        key("a", "alice", KeyRules::default()),
        key("b", "bob", KeyRules::default()),
        key("n", "alice", narrow),
    ];
    let pupil = Arc::new(Counting::default());
    let server = serve(pupil.clone(), keys).await;
    assert_eq!(read(&server, "a", PATH).await.body, "alice 1");
    assert_eq!(read(&server, "b", PATH).await.body, "bob 2");
    assert_eq!(read(&server, "a", PATH).await.body, "alice 1");
    assert_eq!(read(&server, "wrong", PATH).await.status, 401);
    // Two keys of one user may see different models.
    let models = async |key| {
        read(&server, key, "/v1/models").await.json()["data"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(models("a").await > 0);
    assert_eq!(models("n").await, 0);
    // A write with one key of a user is a write for the other, and none for others.
    let write = post("/chat", &[("x-api-key", "n")], EXPLANATION.as_bytes());
    assert_eq!(server.send(write).await.status, 200);
    assert_eq!(read(&server, "a", PATH).await.body, "alice 3");
    assert_eq!(read(&server, "b", PATH).await.body, "bob 2");
}

#[tokio::test]
async fn failures_are_not_kept() {
    let pupil = Arc::new(Counting::default());
    let server = serve(pupil.clone(), Vec::new()).await;
    for asked in 1..=2 {
        let reply = server.get("/sessions/s-1/knowledge").await;
        assert_eq!((reply.status, pupil.asked()), (404, asked));
        assert_eq!(reply.header("etag"), None);
    }
}

#[tokio::test]
async fn readers_at_once_have_one_answer_made() {
    let pupil = Arc::new(Counting {
        gate: Some(Semaphore::new(0)),
        ..Counting::default()
    });
    let server = serve(pupil.clone(), Vec::new()).await;
    let reading = futures_util::future::join_all((0..8).map(|_| server.get(PATH)));
    let open = async {
        until(|| pupil.asked() > 0).await;
        pupil.gate.as_ref().unwrap().add_permits(8);
    };
    let (replies, ()) = soon(async { tokio::join!(reading, open) }).await;
    assert!(
        replies.iter().all(|reply| reply.body == "local 1"),
        "{replies:?}"
    );
    assert_eq!(pupil.asked(), 1);
}

#[tokio::test]
async fn what_was_begun_before_a_write_is_not_given_after_it() {
    let pupil = Arc::new(Counting {
        gate: Some(Semaphore::new(0)),
        ..Counting::default()
    });
    let server = serve(pupil.clone(), Vec::new()).await;
    let early = server.get(PATH);
    let late = async {
        until(|| pupil.asked() == 1).await;
        assert_eq!(server.post("/chat", EXPLANATION).await.status, 200);
        let late = server.get(PATH);
        let open = async { pupil.gate.as_ref().unwrap().add_permits(2) };
        tokio::join!(late, open).0
    };
    let (early, late) = soon(async { tokio::join!(early, late) }).await;
    assert_eq!((&*early.body, &*late.body), ("local 1", "local 2"));
}
