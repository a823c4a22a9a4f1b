//! An embedder in its decorators as the server composes them, in paused time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod recorder;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, MicroUsd, Scope, TenantId,
    Tokens, embed_conformance::check,
};
use lyceum_llm::{
    BatchingConfig, BatchingEmbedder, BreakingEmbedder, Budgets, CachedEmbedder, Circuit,
    EmbedCacheConfig, HashingEmbedder, Ledger, MeteredEmbedder, PicoUsd, PriceTable,
    PricedEmbedder, QueuedEmbedder, RetryingEmbedder, SharedRetryBudget,
};
use lyceum_queue::{BreakerConfig, BreakerState, Queue, QueueConfig, Quotas, RetryPolicy};
use recorder::Recorder;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Fails as told, takes a second over each call, then embeds by hashing. Every text is ten
/// tokens.
#[derive(Debug, Default)]
struct Provider {
    failures: Mutex<VecDeque<ChatError>>,
    calls: Mutex<Vec<(Instant, usize)>>,
}

impl Provider {
    fn failing(failures: impl IntoIterator<Item = ChatError>) -> Arc<Self> {
        Arc::new(Self {
            failures: Mutex::new(failures.into_iter().collect()),
            calls: Mutex::default(),
        })
    }

    /// The numbers of texts of the calls.
    fn sizes(&self) -> Vec<usize> {
        let calls = self.calls.lock().unwrap();
        calls.iter().map(|(_, texts)| *texts).collect()
    }
}

#[async_trait]
impl Embedder for Provider {
    fn model(&self) -> &str {
        "text-embedding-3-small"
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
        self.calls
            .lock()
            .unwrap()
            .push((Instant::now(), texts.len()));
        tokio::time::sleep(SECOND).await;
        if let Some(error) = self.failures.lock().unwrap().pop_front() {
            return Err(error.into());
        }
        let mut all = HashingEmbedder::new(64).embed(call, kind, texts).await?;
        all.usage.input = Tokens(10 * texts.len() as u64);
        Ok(all)
    }
}

struct Stack {
    embedder: CachedEmbedder,
    queue: Queue,
    circuit: Circuit,
    ledger: Ledger,
}

/// `slots` calls at once, of at most ten texts.
fn stack(provider: &Arc<Provider>, slots: u32, budgets: Budgets) -> Stack {
    let config = QueueConfig {
        quotas: Quotas {
            requests: Some(1_000),
            tokens: Some(1_000_000),
            concurrency: Some(slots),
            ..Quotas::default()
        },
        ..QueueConfig::default()
    };
    let queue = Queue::named("embed", config);
    let breaking = BreakingEmbedder::new(Arc::clone(provider), "embed", BreakerConfig::default());
    let circuit = breaking.circuit();
    let budget = SharedRetryBudget::default();
    let queued = QueuedEmbedder::new(breaking, queue.clone()).with_budget(budget.clone());
    let retrying = RetryingEmbedder::new(queued, RetryPolicy::default()).with_shared_budget(budget);
    let batching = BatchingConfig::default();
    let batched = BatchingEmbedder::new(MeteredEmbedder::new(retrying), batching);
    let ledger = Ledger::new(budgets);
    let priced = PricedEmbedder::new(batched, &PriceTable::built_in(), ledger.clone());
    Stack {
        embedder: CachedEmbedder::new(priced, EmbedCacheConfig::default()),
        queue,
        circuit,
        ledger,
    }
}

impl Stack {
    async fn embed(&self, tenant: &str, texts: &[&str]) -> Result<Embeddings, EmbedError> {
        let call = CallContext::new(Scope {
            tenant: TenantId::new(tenant).unwrap(),
            ..Scope::local()
        });
        let texts: Vec<Arc<str>> = texts.iter().map(|text| Arc::from(*text)).collect();
        self.embedder
            .embed(&call, EmbedKind::Document, &texts)
            .await
    }

    /// Tokens in the queue's books, where nothing runs or waits any more.
    fn tokens(&self) -> u64 {
        let snapshot = self.queue.snapshot();
        assert_eq!((snapshot.running, snapshot.waiting), (0, 0), "a slot leaks");
        assert_eq!(
            self.ledger.today().held,
            PicoUsd(0),
            "money stays set aside"
        );
        snapshot.tokens.unwrap().used
    }
}

fn unavailable(status: u16) -> ChatError {
    ChatError::Unavailable {
        status,
        retry_after: None,
        message: String::new(),
    }
}

fn limited(retry_after: Duration) -> ChatError {
    ChatError::RateLimited {
        retry_after: Some(retry_after),
        message: String::new(),
    }
}

/// $0.02 a million tokens.
fn cost(tokens: u64) -> PicoUsd {
    PicoUsd(tokens * 20_000)
}

#[tokio::test(start_paused = true)]
async fn it_is_an_embedder_like_any_other() {
    let provider = Provider::failing([]);
    check(&stack(&provider, 8, Budgets::default()).embedder).await;
}

#[tokio::test(start_paused = true)]
async fn each_caller_pays_for_its_own_texts_of_a_shared_call_and_for_none_twice() {
    let provider = Provider::failing([]);
    let stack = stack(&provider, 8, Budgets::default());
    let (a, b) = tokio::join!(stack.embed("a", &["1", "2", "3"]), stack.embed("b", &["4"]));
    assert_eq!(a.unwrap().usage.input + b.unwrap().usage.input, Tokens(40));
    assert_eq!(provider.sizes(), [4], "one call");
    assert_eq!(stack.tokens(), 40);
    let spent = |tenant: &str| {
        let tenant = TenantId::new(tenant).unwrap();
        stack.ledger.tenant_today(&tenant).spent
    };
    assert_eq!((spent("a"), spent("b")), (cost(30), cost(10)));
    stack.embed("a", &["2"]).await.unwrap();
    assert_eq!(
        (provider.sizes().len(), spent("a")),
        (1, cost(30)),
        "remembered"
    );
}

#[tokio::test(start_paused = true)]
async fn a_budget_stops_texts_before_they_are_sent() {
    let provider = Provider::failing([]);
    let budgets = Budgets {
        // Half a million tokens.
        tenant_day: Some(MicroUsd(10_000)),
        ..Budgets::default()
    };
    let stack = stack(&provider, 8, budgets);
    let long = "x".repeat(2_000_000);
    let error = stack.embed("a", &[&long]).await.unwrap_err();
    assert_eq!(error.label(), "over_budget");
    assert!(provider.sizes().is_empty());
    stack.embed("a", &["short"]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_rate_goes_back_into_the_queue_and_costs_nothing() {
    let provider = Provider::failing([limited(7 * SECOND)]);
    let stack = stack(&provider, 8, Budgets::default());
    let began = Instant::now();
    stack.embed("a", &["1"]).await.unwrap();
    assert!(began.elapsed() >= 9 * SECOND, "{:?}", began.elapsed());
    assert_eq!(provider.sizes(), [1, 1]);
    assert_eq!((stack.tokens(), stack.ledger.today().spent), (10, cost(10)));
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_within_the_budget_and_then_left_alone() {
    let provider = Provider::failing([unavailable(500)]);
    let stack = stack(&provider, 8, Budgets::default());
    stack.embed("a", &["1"]).await.unwrap();
    assert_eq!(provider.sizes().len(), 2);
    assert!(
        stack.tokens() > 10,
        "what the failed call used is not known"
    );

    let failures = (0..200).map(|_| unavailable(500));
    provider.failures.lock().unwrap().extend(failures);
    for number in 0..20 {
        let error = stack
            .embed("a", &[&format!("text {number}")])
            .await
            .unwrap_err();
        assert!(
            matches!(error.label(), "unavailable" | "breaker_open"),
            "{error}"
        );
    }
    assert_eq!(stack.circuit.state(), BreakerState::Open);
    let attempts = provider.sizes().len() - 2;
    assert!((5..=10).contains(&attempts), "{attempts} attempts");
    stack.tokens();
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_their_turn() {
    let provider = Provider::failing([]);
    let stack = stack(&provider, 1, Budgets::default());
    let texts: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    let stack = &stack;
    let calls = texts
        .iter()
        .map(|text| async move { stack.embed("a", &[text]).await });
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let calls = provider.calls.lock().unwrap();
    let apart = calls.windows(2).map(|two| two[1].0 - two[0].0);
    assert_eq!(calls.len(), 3, "of ten texts each");
    assert!(apart.min().unwrap() >= SECOND, "one at a time");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_frees_the_slot_and_pays_for_what_may_have_been_used() {
    let provider = Provider::failing([]);
    let stack = stack(&provider, 1, Budgets::default());
    let text = "x".repeat(1_000);
    let left = tokio::time::timeout(3 * SECOND / 2, stack.embed("a", &[&text])).await;
    assert!(left.is_err());
    // The batch notices when it is looked at again.
    stack.embed("a", &["2"]).await.unwrap();
    assert_eq!(provider.sizes(), [1, 1]);
    assert!(stack.tokens() >= 300, "{}", stack.tokens());
    assert!(stack.ledger.today().spent >= cost(300));
}

#[test]
fn calls_are_counted_by_model_and_outcome() {
    let recorder = Recorder::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let wrong = ChatError::Rejected {
                status: 404,
                message: String::new(),
            };
            let provider = Provider::failing([wrong, unavailable(500)]);
            let stack = stack(&provider, 8, Budgets::default());
            stack.embed("a", &["1"]).await.unwrap_err();
            stack.embed("a", &["1", "2"]).await.unwrap();
        });
    });
    let seen = recorder.seen();
    let value = |name: &str| seen.get(name).copied().unwrap_or_default();
    let of = "model=text-embedding-3-small";
    assert_eq!(
        value(&format!("llm_embeddings_total{{{of},status=ok}}")),
        1.0
    );
    assert_eq!(
        value(&format!("llm_embeddings_total{{{of},status=rejected}}")),
        1.0
    );
    assert_eq!(value(&format!("llm_embedding_texts_total{{{of}}}")), 3.0);
    assert_eq!(value(&format!("llm_embedding_tokens_total{{{of}}}")), 20.0);
    let retried = "llm_retries_total{provider=text-embedding-3-small,reason=unavailable}";
    assert_eq!(value(retried), 1.0, "{seen:#?}");
}
