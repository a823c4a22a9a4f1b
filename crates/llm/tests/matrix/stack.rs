//! The decorators as the server composes them: a main model and the next of its chain,
//! each behind its own queue, and one answer cache before both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Message,
    Scope,
};
use lyceum_llm::{
    AnswerCacheConfig, Breaking, CachePolicy, Cached, Dialect, Fallback, InMemoryAnswers, Ledger,
    Metered, Planned, PriceTable, Priced, PromptCache, Queued, Retrying, SharedRetryBudget,
    Timeouts, Trouble,
};
use lyceum_queue::{BreakerConfig, Queue, QueueConfig, Quotas, RetryPolicy};

use crate::support::Server;

/// Ends a test of a time-out soon, and is long enough for a busy machine.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    first_token: Duration::from_millis(1_500),
    between_chunks: Duration::from_millis(700),
    total: Duration::from_secs(30),
};

/// A model layer and what can be seen of it.
pub(crate) struct Stack {
    pub(crate) model: Arc<dyn ChatModel>,
    /// Of the main model and of the next one.
    pub(crate) queues: [Queue; 2],
    pub(crate) ledger: Ledger,
}

/// What a caller saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) error: Option<ChatError>,
    /// How often an answer began.
    pub(crate) starts: usize,
    pub(crate) cached: bool,
}

impl Stack {
    /// `slots` calls run at once; `failures` open the breaker.
    pub(crate) fn new(
        (main, next): (&Server, &Server),
        dialect: Dialect,
        slots: u32,
        failures: u32,
    ) -> Self {
        let ledger = Ledger::new(lyceum_llm::Budgets::default());
        let quotas = Quotas {
            requests: Some(10_000),
            tokens: Some(10_000_000),
            concurrency: Some(slots),
            ..Quotas::default()
        };
        let config = QueueConfig {
            quotas,
            default_pause: Duration::from_millis(10),
            ..QueueConfig::default()
        };
        let queues = [Queue::named("main", config), Queue::named("next", config)];
        let breaker = BreakerConfig {
            failures,
            ..BreakerConfig::default()
        };
        let mut circuits = Vec::new();
        let mut guard = |server: &Server, dialect: Dialect, name: &'static str, queue: &Queue| {
            let (provider, price): (Arc<dyn ChatModel>, _) = match dialect {
                Dialect::OpenAi => {
                    let provider = Planned::new(server.openai(TIMEOUTS), PromptCache::Automatic);
                    (Arc::new(provider), "gpt-5.2")
                }
                Dialect::Anthropic => {
                    let provider = Planned::new(server.anthropic(TIMEOUTS), PromptCache::MARKED);
                    (Arc::new(provider), "claude-sonnet-4-5")
                }
            };
            let breaking = Breaking::new(provider, name, breaker);
            circuits.push(breaking.circuit());
            let prices = Arc::new(PriceTable::built_in());
            let priced = Priced::new(breaking, price, prices, ledger.clone());
            let budget = SharedRetryBudget::default();
            let queued = Queued::new(priced, queue.clone()).with_budget(budget.clone());
            let policy = RetryPolicy {
                min: Duration::from_millis(1),
                max: Duration::from_millis(5),
                ..RetryPolicy::default()
            };
            Arc::new(Retrying::new(queued, policy).with_shared_budget(budget))
        };
        let first: Arc<dyn ChatModel> = guard(main, dialect, "main", &queues[0]);
        let second: Arc<dyn ChatModel> = guard(next, other(dialect), "next", &queues[1]);
        let cache = AnswerCacheConfig {
            policy: CachePolicy::All,
            ..AnswerCacheConfig::default()
        };
        let store = Arc::new(InMemoryAnswers::new(1 << 20));
        let cached = Cached::new(Fallback::new(first, [second]), store, cache)
            .with_trouble(Trouble::new(circuits, queues.to_vec()));
        Self {
            model: Arc::new(Metered::new(cached)),
            queues,
            ledger,
        }
    }

    /// A call of a caller with some patience.
    pub(crate) fn ask(&self, question: &str) -> ChatStream {
        let mut call = CallContext::new(Scope::local());
        call.deadline = Some(Instant::now() + Duration::from_secs(60));
        let request = ChatRequest::new([Message::user(question)]);
        self.model.stream(call, Arc::new(request))
    }

    /// A call whose caller reads the stream.
    pub(crate) async fn streamed(&self, question: &str) -> Seen {
        let (events, error) = crate::support::drain(self.ask(question)).await;
        let text = |event: &ChatEvent| match event {
            ChatEvent::Text(text) => Some(text.clone()),
            _ => None,
        };
        let count = |is: fn(&ChatEvent) -> bool| events.iter().filter(|event| is(event)).count();
        Seen {
            text: events.iter().filter_map(text).collect(),
            error,
            starts: count(|event| matches!(event, ChatEvent::Started { .. })),
            cached: count(|event| matches!(event, ChatEvent::Origin(_))) > 0,
        }
    }

    /// A call whose caller waits for the whole answer.
    pub(crate) async fn collected(&self, question: &str) -> Seen {
        match ChatAnswer::collect(self.ask(question)).await {
            Ok(answer) => Seen {
                text: answer.text,
                error: None,
                starts: 1,
                cached: answer.origin.is_some(),
            },
            Err(error) => Seen {
                text: String::new(),
                error: Some(error),
                starts: 0,
                cached: false,
            },
        }
    }
}

/// The other dialect.
pub(crate) fn other(dialect: Dialect) -> Dialect {
    match dialect {
        Dialect::OpenAi => Dialect::Anthropic,
        Dialect::Anthropic => Dialect::OpenAi,
    }
}
