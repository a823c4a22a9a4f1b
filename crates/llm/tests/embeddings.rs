//! Embedders: the OpenAI dialect on the wire, batches and the cache.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, Scope, TenantId, Tokens,
    Usage, embed_conformance::check,
};
use lyceum_llm::{
    BatchingConfig, BatchingEmbedder, CachedEmbedder, EmbedCacheConfig, EmbedEncoding,
    HashingEmbedder, OpenAiEmbedConfig, OpenAiEmbedder, Preset,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use support::{KEY, Server, call, plain, read_request};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};

const SECOND: Duration = Duration::from_secs(1);

fn texts(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

/// Embeds by hashing, remembers what it was asked, fails where told to, and answers
/// only while there is leave.
#[derive(Debug)]
struct Recorder {
    calls: Mutex<Vec<Vec<Arc<str>>>>,
    leave: Semaphore,
}

impl Recorder {
    fn new(leave: usize) -> Arc<Self> {
        Arc::new(Self {
            calls: Mutex::default(),
            leave: Semaphore::new(leave),
        })
    }

    fn sizes(&self) -> Vec<usize> {
        self.calls.lock().unwrap().iter().map(Vec::len).collect()
    }
}

#[async_trait]
impl Embedder for Recorder {
    fn model(&self) -> &str {
        "recorder"
    }

    fn dimensions(&self) -> usize {
        64
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        self.calls.lock().unwrap().push(texts.to_vec());
        let _leave = self.leave.acquire().await.unwrap();
        let message = || "as told".to_owned();
        let told = |what: &str| texts.iter().any(|text| text.contains(what));
        if told("too long") {
            let message = message();
            return Err(ChatError::Rejected {
                status: 400,
                message,
            }
            .into());
        }
        if told("overload") {
            let (status, retry_after, message) = (529, Some(SECOND), message());
            return Err(ChatError::Unavailable {
                status,
                retry_after,
                message,
            }
            .into());
        }
        let mut all = HashingEmbedder::new(64).embed(call, kind, texts).await?;
        all.usage.input = Tokens(texts.iter().map(|text| text.len() as u64 + 1).sum());
        Ok(all)
    }
}

/// A server of the dialect around the hashing embedder.
async fn server(encoding: EmbedEncoding, backwards: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, encoding, backwards));
        }
    });
    url
}

async fn serve(mut stream: TcpStream, encoding: EmbedEncoding, backwards: bool) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let inputs = request.body["input"].as_array().unwrap();
        let inputs: Vec<Arc<str>> = inputs.iter().map(|t| t.as_str().unwrap().into()).collect();
        let all = HashingEmbedder::new(32)
            .embed(&call(), EmbedKind::Document, &inputs)
            .await;
        let mut data: Vec<Value> = all
            .unwrap()
            .vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = match encoding {
                    EmbedEncoding::Float => json!(vector),
                    EmbedEncoding::Base64 => {
                        use base64::{Engine as _, engine::general_purpose::STANDARD};
                        let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
                        json!(STANDARD.encode(bytes))
                    }
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        if backwards {
            data.reverse();
        }
        let usage = json!({"prompt_tokens": 7, "total_tokens": 7});
        let body = json!({"object": "list", "data": data, "model": "m", "usage": usage});
        let json = "content-type: application/json\r\n";
        stream
            .write_all(&plain("200 OK", json, &body.to_string()))
            .await
            .unwrap();
    }
}

fn config(base_url: &str) -> OpenAiEmbedConfig {
    let preset = Preset::by_name("openai").unwrap();
    OpenAiEmbedConfig {
        base_url: base_url.to_owned(),
        api_key: Some(SecretString::from(KEY)),
        max_texts: 10,
        ..OpenAiEmbedConfig::from_preset(preset, "test-embed", 32)
    }
}

#[tokio::test]
async fn every_embedder_keeps_the_contract() {
    check(&HashingEmbedder::new(128)).await;
    for (encoding, backwards) in [(EmbedEncoding::Float, false), (EmbedEncoding::Base64, true)] {
        let url = server(encoding, backwards).await;
        let provider = OpenAiEmbedder::new(config(&url)).unwrap();
        check(&provider).await;
        let batching = BatchingEmbedder::new(
            provider,
            BatchingConfig {
                max_wait: Duration::from_millis(2),
                ..BatchingConfig::default()
            },
        );
        check(&batching).await;
        check(&CachedEmbedder::new(batching, EmbedCacheConfig::default())).await;
    }
}

#[tokio::test]
async fn a_request_says_what_was_configured() {
    let vector: Vec<f32> = vec![0.5; 32];
    let answer = json!({"data": [{"embedding": vector}], "usage": {"prompt_tokens": 3}});
    let json = "content-type: application/json\r\n";
    let mut server = Server::saying(plain("200 OK", json, &answer.to_string())).await;
    let embedder = OpenAiEmbedder::new(OpenAiEmbedConfig {
        send_dimensions: true,
        encoding: EmbedEncoding::Base64,
        query_prefix: "query: ".into(),
        ..config(&format!("{}/v1", server.url))
    });
    let embedder = embedder.unwrap();
    let found = embedder
        .embed(&call(), EmbedKind::Query, &texts(&["阳光"]))
        .await
        .unwrap();
    assert_eq!(found.usage.input, Tokens(3));
    let request = server.requests.recv().await.unwrap();
    assert!(
        request.head.starts_with("post /v1/embeddings "),
        "{}",
        request.head
    );
    assert!(
        request
            .head
            .contains(&format!("authorization: bearer {KEY}"))
    );
    let expected = json!({"model": "test-embed", "input": ["query: 阳光"],
        "encoding_format": "base64", "dimensions": 32});
    assert_eq!(request.body, expected);
}

#[tokio::test]
async fn what_is_no_answer_is_a_typed_error() {
    let item =
        |index: usize, numbers: usize| json!({"index": index, "embedding": vec![0.1; numbers]});
    let table = [
        (
            "200 OK",
            json!({"data": [item(0, 31)]}),
            "dimensions",
            false,
        ),
        ("200 OK", json!({"data": []}), "protocol", true),
        (
            "200 OK",
            json!({"data": [item(0, 32), item(0, 32)]}),
            "protocol",
            true,
        ),
        (
            "200 OK",
            json!({"data": [{"embedding": "AAA"}]}),
            "protocol",
            true,
        ),
        (
            "200 OK",
            json!({"error": {"code": "rate_limit_exceeded"}}),
            "rate_limited",
            true,
        ),
        (
            "400 Bad Request",
            json!({"error": {"message": "too long"}}),
            "rejected",
            false,
        ),
        ("429 Slow", json!({}), "rate_limited", true),
        ("500 Oops", json!({}), "unavailable", true),
    ];
    for (status, body, label, retryable) in table {
        let json = "content-type: application/json\r\n";
        let server = Server::saying(plain(status, json, &body.to_string())).await;
        let embedder = OpenAiEmbedder::new(config(&server.url)).unwrap();
        let error = embedder
            .embed(&call(), EmbedKind::Document, &texts(&["x"]))
            .await
            .unwrap_err();
        assert_eq!(
            (error.label(), error.is_retryable()),
            (label, retryable),
            "{body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ten_texts_go_at_once_and_fewer_after_a_second() {
    let recorder = Recorder::new(100);
    let embedder = BatchingEmbedder::new(Arc::clone(&recorder), BatchingConfig::default());
    let started = Instant::now();
    let one = |n: usize| {
        let embedder = embedder.clone();
        async move {
            let text = texts(&[&format!("text {n}")]);
            let found = embedder
                .embed(&call(), EmbedKind::Document, &text)
                .await
                .unwrap();
            let alone = HashingEmbedder::new(64)
                .embed(&call(), EmbedKind::Document, &text)
                .await;
            assert_eq!(found.vectors, alone.unwrap().vectors, "each gets its own");
            assert_eq!(
                found.usage.input,
                Tokens(text[0].len() as u64 + 1),
                "and its share"
            );
        }
    };
    join_all((0..10).map(one)).await;
    assert_eq!(
        (recorder.sizes(), started.elapsed()),
        (vec![10], Duration::ZERO)
    );
    join_all((0..3).map(one)).await;
    assert_eq!((recorder.sizes(), started.elapsed()), (vec![10, 3], SECOND));
    // Somebody waits for a query.
    let query = embedder
        .embed(&call(), EmbedKind::Query, &texts(&["?"]))
        .await;
    assert!(query.is_ok() && started.elapsed() < SECOND + SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn only_the_text_at_fault_fails() {
    let recorder = Recorder::new(100);
    let embedder = BatchingEmbedder::new(Arc::clone(&recorder), BatchingConfig::default());
    let ask = |n: usize| {
        let embedder = embedder.clone();
        let text = if n == 6 {
            "too long".into()
        } else {
            format!("text {n}")
        };
        async move {
            embedder
                .embed(&call(), EmbedKind::Document, &texts(&[&text]))
                .await
        }
    };
    let answers = join_all((0..10).map(ask)).await;
    let failed: Vec<usize> = (0..10).filter(|n| answers[*n].is_err()).collect();
    assert_eq!(failed, [6]);
    assert_eq!(answers[6].as_ref().unwrap_err().label(), "rejected");
    assert!(
        recorder.sizes().len() <= 9,
        "halved: {:?}",
        recorder.sizes()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_provider_fails_all_and_is_not_repeated() {
    let recorder = Recorder::new(100);
    let embedder = BatchingEmbedder::new(Arc::clone(&recorder), BatchingConfig::default());
    let ask = |n: usize| {
        let embedder = embedder.clone();
        async move {
            embedder
                .embed(
                    &call(),
                    EmbedKind::Document,
                    &texts(&[&format!("overload {n}")]),
                )
                .await
        }
    };
    for answer in join_all((0..10).map(ask)).await {
        let error = answer.unwrap_err();
        assert_eq!(
            (error.label(), error.retry_after()),
            ("unavailable", Some(SECOND))
        );
    }
    assert_eq!(recorder.sizes(), [10]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_is_not_embedded_and_the_others_are() {
    let recorder = Recorder::new(100);
    let embedder = BatchingEmbedder::new(Arc::clone(&recorder), BatchingConfig::default());
    let mut hurried = call();
    hurried.deadline = Some((Instant::now() + SECOND / 2).into_std());
    let hurried_text = texts(&["hurried"]);
    let patient = call();
    let patient_text = texts(&["patient"]);
    let (hurried, patient) = tokio::join!(
        embedder.embed(&hurried, EmbedKind::Document, &hurried_text),
        embedder.embed(&patient, EmbedKind::Document, &patient_text),
    );
    assert_eq!(hurried.unwrap_err().label(), "timeout");
    assert!(patient.is_ok());
    assert_eq!(*recorder.calls.lock().unwrap(), [texts(&["patient"])]);
}

#[tokio::test(start_paused = true)]
async fn a_call_nobody_waits_for_is_cancelled() {
    let recorder = Recorder::new(0);
    let embedder = BatchingEmbedder::new(
        Arc::clone(&recorder),
        BatchingConfig {
            max_items: 1,
            max_in_flight: 1,
            ..BatchingConfig::default()
        },
    );
    let text = texts(&["first"]);
    let context = call();
    let lost = embedder.embed(&context, EmbedKind::Document, &text);
    assert!(tokio::time::timeout(SECOND, lost).await.is_err());
    recorder.leave.add_permits(1);
    // The only place for a call is free again.
    let text = texts(&["second"]);
    assert!(
        embedder
            .embed(&call(), EmbedKind::Document, &text)
            .await
            .is_ok()
    );
    assert_eq!(recorder.sizes(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_known_text_is_not_embedded_again_for_a_day() {
    let recorder = Recorder::new(100);
    let embedder = CachedEmbedder::new(Arc::clone(&recorder), EmbedCacheConfig::default());
    let embed = |kind, words: Vec<&'static str>, tenant: &'static str| {
        let embedder = embedder.clone();
        async move {
            let mut call = call();
            call.scope = Scope {
                tenant: TenantId::new(tenant).unwrap(),
                ..call.scope
            };
            embedder.embed(&call, kind, &texts(&words)).await.unwrap()
        }
    };
    let first = embed(EmbedKind::Document, vec!["a", "b", "a"], "one").await;
    assert_eq!(
        recorder.sizes(),
        [2],
        "a text that comes twice is embedded once"
    );
    assert_eq!(first.vectors[0], first.vectors[2]);
    let again = embed(EmbedKind::Document, vec!["b", "c", "a"], "one").await;
    assert_eq!(recorder.sizes(), [2, 1]);
    assert_eq!(again.vectors[0], first.vectors[1]);
    assert_eq!(
        again.usage,
        Usage {
            input: Tokens(2),
            ..Usage::default()
        },
        "only the new one costs"
    );
    let stats = embedder.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (3, 3, 3));

    embed(EmbedKind::Query, vec!["a"], "one").await;
    embed(EmbedKind::Document, vec!["a"], "two").await;
    assert_eq!(
        recorder.sizes(),
        [2, 1, 1, 1],
        "another kind or tenant is another key"
    );

    tokio::time::advance(24 * 60 * 60 * SECOND).await;
    embed(EmbedKind::Document, vec!["a"], "one").await;
    assert_eq!(recorder.sizes(), [2, 1, 1, 1, 1]);
}

#[tokio::test]
async fn a_cache_is_bounded_and_keeps_what_is_used() {
    let recorder = Recorder::new(100);
    let two = 2 * (64 * 4 + 128);
    let config = EmbedCacheConfig {
        max_bytes: two,
        ..EmbedCacheConfig::default()
    };
    let embedder = CachedEmbedder::new(Arc::clone(&recorder), config);
    for word in ["a", "b", "a", "c", "a"] {
        embedder
            .embed(&call(), EmbedKind::Document, &texts(&[word]))
            .await
            .unwrap();
    }
    assert_eq!((recorder.sizes().len(), embedder.stats().entries), (3, 2));
}
