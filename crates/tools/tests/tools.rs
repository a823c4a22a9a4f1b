//! The tools through their port: right answers, bad input, limits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{CallContext, Scope, Tool, ToolError, ToolOutput, ToolSpec};
use lyceum_memory::{InMemory, Memory, MemoryConfig, MemoryKind, NewMemory};
use lyceum_tools::{Calculator, Clock, Documents, Limited, Recall, ToolPolicy, WebSearch};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};

fn call() -> CallContext {
    CallContext::new(Scope::local())
}

async fn calculate(expression: &str) -> Result<String, ToolError> {
    let output = Calculator::default()
        .call(&call(), json!({"expression": expression}))
        .await;
    output.map(|output| output.content)
}

#[tokio::test]
async fn the_calculator_is_exact_and_knows_units() {
    assert_eq!(calculate("0.1 + 0.2").await.unwrap(), "0.3");
    assert_eq!(calculate("15% of 80").await.unwrap(), "12");
    assert_eq!(calculate("72 km/h to m/s").await.unwrap(), "20 m / s");
}

#[tokio::test]
async fn the_calculator_ends_whatever_it_is_given() {
    for bomb in ["9^9^9^9", "10000000!", "2^(10^9)"] {
        assert!(
            matches!(calculate(bomb).await, Err(ToolError::Timeout { .. })),
            "{bomb}"
        );
    }
    for nonsense in ["", "1/0", "\0", "hello there", "5 eur to usd", "roll d20"] {
        assert!(
            matches!(calculate(nonsense).await, Err(ToolError::Arguments { .. })),
            "{nonsense}"
        );
    }
    assert!(matches!(
        calculate(&"1+".repeat(300)).await,
        Err(ToolError::Arguments { .. })
    ));
    let wrong = Calculator::default()
        .call(&call(), json!({"formula": 1}))
        .await;
    assert!(matches!(wrong, Err(ToolError::Arguments { .. })));
}

#[tokio::test]
async fn the_clock_tells_the_weekday() {
    let clock = Clock::at(|| time::OffsetDateTime::UNIX_EPOCH);
    assert_eq!(
        clock.call(&call(), json!({})).await.unwrap().content,
        "Thursday 1970-01-01 00:00:00 UTC"
    );
}

#[tokio::test]
async fn recall_sees_only_the_callers_memories() {
    let store = Arc::new(InMemory::default());
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    let taught = NewMemory::new(
        MemoryKind::Fact,
        "Bread",
        "Yeast eats sugar and makes carbon dioxide.",
    );
    memory.remember(&Scope::local(), taught).await.unwrap();
    let tool = Recall::new(memory);
    let mine = tool
        .call(&call(), json!({"query": "what does yeast eat"}))
        .await
        .unwrap();
    assert!(mine.content.contains("eats sugar"), "{mine:?}");
    let mut other = call();
    other.scope.tenant = "other".parse().unwrap();
    let theirs = tool
        .call(&other, json!({"query": "what does yeast eat"}))
        .await
        .unwrap();
    assert_eq!(theirs.content, "nothing was taught about that");
}

#[tokio::test]
async fn documents_are_found_with_their_source_and_links_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(
        secret.path().join("secret.txt"),
        "the password of the lighthouse",
    )
    .unwrap();
    std::fs::create_dir(dir.path().join("sea")).unwrap();
    std::fs::write(
        dir.path().join("sea/light.md"),
        "A lighthouse warns ships of rocks.",
    )
    .unwrap();
    std::fs::write(dir.path().join("binary.bin"), "lighthouse").unwrap();
    std::os::unix::fs::symlink(secret.path(), dir.path().join("link")).unwrap();
    let tool = Documents::open(dir.path()).await.unwrap();
    assert_eq!(tool.pieces(), 1);
    let output = tool
        .call(&call(), json!({"query": "lighthouse"}))
        .await
        .unwrap();
    assert_eq!(
        (output.content.as_str(), output.sources),
        (
            "A lighthouse warns ships of rocks.",
            vec!["sea/light.md".to_owned()]
        )
    );
}

/// Answers one request with the given body and gives what was asked.
async fn serve_once(status: &str, body: &str) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlocation: http://169.254.169.254/\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = socket.read(&mut request).await.unwrap();
        socket.write_all(response.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, asked)
}

#[tokio::test]
async fn web_search_gives_results_with_sources() {
    let body = r#"{"results":[{"url":"https://example.org/a","title":"A","content":"about a","engine":"x"}]}"#;
    let (url, asked) = serve_once("200 OK", body).await;
    let search = WebSearch::searxng(&url).unwrap();
    let output = search
        .call(&call(), json!({"query": "a & b/../c"}))
        .await
        .unwrap();
    assert_eq!(output.content, "A\nabout a");
    assert_eq!(output.sources, ["https://example.org/a"]);
    assert!(
        asked
            .await
            .unwrap()
            .starts_with("GET /search?q=a+%26+b%2F..%2Fc&format=json ")
    );
}

#[tokio::test]
async fn web_search_follows_no_redirect_and_reads_no_nonsense() {
    for (status, body) in [("302 Found", ""), ("500 Oops", ""), ("200 OK", "<html>")] {
        let (url, _asked) = serve_once(status, body).await;
        let result = WebSearch::searxng(&url)
            .unwrap()
            .call(&call(), json!({"query": "a"}))
            .await;
        assert!(
            matches!(
                result,
                Err(ToolError::Failed { .. } | ToolError::Transient { .. })
            ),
            "{status}: {result:?}"
        );
    }
    assert!(WebSearch::searxng("file:///etc/passwd").is_err());
    assert!(WebSearch::searxng("not an address").is_err());
}

/// Counts how many of its calls run at once; each waits until it is told to go on.
#[derive(Debug)]
struct Gate {
    spec: ToolSpec,
    running: AtomicUsize,
    most: AtomicUsize,
    go: Notify,
}

impl Gate {
    fn new() -> Arc<Self> {
        let spec = ToolSpec::new("gate", "", json!({}));
        Arc::new(Self {
            spec,
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            go: Notify::new(),
        })
    }
}

#[async_trait]
impl Tool for Gate {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    async fn call(&self, _call: &CallContext, _arguments: Value) -> Result<ToolOutput, ToolError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.go.notified().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok(ToolOutput::text("x".repeat(50)))
    }
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_time_number_and_length() {
    let gate = Gate::new();
    let limits = ToolPolicy {
        max_concurrent: 2,
        timeout: Duration::from_secs(5),
        max_chars: 10,
        ..ToolPolicy::default()
    };
    let tool = Arc::new(Limited::new(gate.clone(), limits));
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let tool = tool.clone();
            tokio::spawn(async move { tool.call(&call(), json!({})).await })
        })
        .collect();
    while gate.running.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    gate.go.notify_waiters();
    let mut ok = 0;
    let mut late = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(output) => {
                assert_eq!(
                    output.content.chars().count(),
                    11,
                    "ten characters and the mark of the cut"
                );
                ok += 1;
            }
            Err(ToolError::Timeout { after }) => {
                assert_eq!(after, Duration::from_secs(5));
                late += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((ok, late, gate.most.load(Ordering::SeqCst)), (2, 2, 2));
}
