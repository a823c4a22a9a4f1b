//! One process of callers: calls arrive at random at a fixed rate, whatever becomes of the
//! earlier ones, and go through the queue and the wire code to a provider.
//!
//! Reads its orders as JSON from the command line, prints what it counted so far as one
//! JSON line every second, and a last one at the end. Killed in between, it has told all
//! but its last second.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Message, ModelTraits,
    Priority, Scope, SessionId, Tokens,
};
use lyceum_llm::{
    Anthropic, AnthropicConfig, Dialect, OpenAi, OpenAiConfig, Preset, Queued, SharedRetryBudget,
};
use lyceum_queue::{OutputCounted, Queue, QueueConfig, Quotas, SharedConfig};
use lyceum_store_redis::{RedisLedger, RedisServer};
use serde::{Deserialize, Serialize};

/// What a process of callers is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Orders {
    /// The provider.
    pub(super) url: String,
    /// Whether it speaks Anthropic's dialect.
    pub(super) anthropic: bool,
    /// A minute's quotas: requests, tokens, input tokens, output tokens.
    pub(super) quotas: [Option<u64>; 4],
    /// Calls a minute.
    pub(super) rate: f64,
    /// Conversations; the first one calls 20 times as often as another.
    pub(super) conversations: u64,
    pub(super) seconds: f64,
    /// Before it nothing is counted.
    pub(super) warm_up: f64,
    pub(super) seed: u64,
    /// The Redis through which the quota is shared.
    pub(super) redis: Option<String>,
}

/// What was counted. Bands are high, normal, low.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) offered: u64,
    pub(super) answered: u64,
    pub(super) shed: u64,
    pub(super) expired: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// Tokens asked for and tokens served, by conversation, over the whole run.
    pub(super) wanted: HashMap<u64, u64>,
    pub(super) served: HashMap<u64, u64>,
    /// Seconds.
    pub(super) waits: [Vec<f32>; 3],
    /// Of waits above a second.
    pub(super) forecast_errors: Vec<f32>,
}

/// How long callers wait, by band.
const PATIENCE: [u64; 3] = [30, 60, 120];
/// Input tokens on average, and the limit of the output, a fifth of which is used.
const INPUT: u64 = 500;
const MOST_OUTPUT: u64 = 512;

/// A provider that notes when it is called.
#[derive(Debug)]
struct Stamped {
    provider: Arc<dyn ChatModel>,
    called: Arc<OnceLock<Instant>>,
}

impl ChatModel for Stamped {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn traits(&self) -> ModelTraits {
        self.provider.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let _ = self.called.set(Instant::now());
        self.provider.stream(call, request)
    }
}

struct Callers {
    provider: Arc<dyn ChatModel>,
    queue: Queue,
    budget: SharedRetryBudget,
    tally: Mutex<Tally>,
    drawn: AtomicU64,
    seed: u64,
    count_from: Instant,
    conversations: u64,
}

/// Runs the callers that the orders, as JSON, tell of.
///
/// # Errors
///
/// When the orders cannot be read or the output cannot be written.
pub fn run(orders: &str) -> Result<()> {
    let orders: Orders = serde_json::from_str(orders).context("read the orders")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(call(orders))
}

async fn call(orders: Orders) -> Result<()> {
    let queue = queue(&orders)?;
    let begun = Instant::now();
    let callers = Arc::new(Callers {
        provider: provider(&orders, &queue)?,
        queue,
        budget: SharedRetryBudget::default(),
        tally: Mutex::default(),
        drawn: AtomicU64::new(0),
        seed: orders.seed,
        count_from: begun + Duration::from_secs_f64(orders.warm_up),
        conversations: orders.conversations,
    });
    let end = begun + Duration::from_secs_f64(orders.seconds);
    let (mut next, mut said) = (begun, begun);
    while next < end {
        let gap = -(1.0 - callers.draw()).ln() * 60.0 / orders.rate;
        next += Duration::from_secs_f64(gap);
        tokio::time::sleep_until(next.into()).await;
        tokio::spawn(one(Arc::clone(&callers)));
        if said.elapsed() >= Duration::from_secs(1) {
            said = Instant::now();
            callers.say()?;
        }
    }
    callers.say()
}

fn queue(orders: &Orders) -> Result<Queue> {
    let [requests, tokens, input_tokens, output_tokens] = orders.quotas;
    let config = QueueConfig {
        quotas: Quotas {
            requests,
            tokens,
            input_tokens,
            output_tokens,
            ..Quotas::default()
        },
        // As the program has it for the dialect.
        output_counted: match orders.anthropic {
            true => OutputCounted::Made,
            false => OutputCounted::Unknown,
        },
        ..QueueConfig::default()
    };
    let Some(redis) = &orders.redis else {
        return Ok(Queue::new(config));
    };
    let sharing = SharedConfig::default();
    let server = RedisServer::new(&redis.as_str().into(), sharing.timeout)?;
    let ledger = RedisLedger::new(server, "bench", lyceum_queue::LedgerTerms::default());
    Ok(Queue::shared("bench", config, Arc::new(ledger), sharing))
}

fn provider(orders: &Orders, queue: &Queue) -> Result<Arc<dyn ChatModel>> {
    let dialect = match orders.anthropic {
        true => "anthropic",
        false => "vllm",
    };
    let preset = Preset::by_name(dialect).context("no such preset")?;
    Ok(match preset.dialect {
        Dialect::OpenAi => Arc::new(OpenAi::new(OpenAiConfig {
            base_url: format!("{}/v1", orders.url),
            queue: Some(queue.clone()),
            ..OpenAiConfig::from_preset(preset, "sim")
        })?),
        Dialect::Anthropic => Arc::new(Anthropic::new(AnthropicConfig {
            base_url: orders.url.clone(),
            api_key: Some("bench".into()),
            queue: Some(queue.clone()),
            ..AnthropicConfig::from_preset(preset, "sim")
        })?),
    })
}

async fn one(callers: Arc<Callers>) {
    let heavy = 20.0;
    let others = (callers.conversations - 1) as f64;
    let drawn = callers.draw() * (heavy + others);
    let conversation = (drawn - heavy + 1.0).max(0.0) as u64;
    let (band, priority) = match callers.draw() {
        drawn if drawn < 0.125 => (0, Priority::High),
        drawn if drawn < 0.25 => (2, Priority::Low),
        _ => (1, Priority::Normal),
    };
    let words = (INPUT as f64 * (0.5 + callers.draw())) as usize;
    let begun = Instant::now();
    let Ok(session) = SessionId::new(conversation.to_string()) else {
        return;
    };
    let mut call = CallContext::new(Scope::local().with_session(session)).with_priority(priority);
    call.deadline = Some(begun + Duration::from_secs(PATIENCE[band]));
    let mut request = ChatRequest::new([Message::user("word ".repeat(words))]);
    request.max_output = Some(Tokens(MOST_OUTPUT));
    let called = Arc::new(OnceLock::new());
    let stamped = Stamped {
        provider: Arc::clone(&callers.provider),
        called: Arc::clone(&called),
    };
    let model = Queued::new(stamped, callers.queue.clone()).with_budget(callers.budget.clone());
    let counted = begun >= callers.count_from;
    callers.note(|tally| {
        tally.offered += u64::from(counted);
        *tally.wanted.entry(conversation).or_default() += words as u64;
    });
    let mut stream = model.stream(call, Arc::new(request));
    let (mut forecast, mut used, mut error) = (None, 0, None);
    while let Some(event) = stream.next().await {
        match event {
            Ok(ChatEvent::Queued(place)) => {
                forecast.get_or_insert(place.estimated_wait);
            }
            Ok(ChatEvent::Usage(usage)) => used = usage.total().0,
            Ok(_) => {}
            Err(failed) => error = Some(failed),
        }
    }
    let wait = called
        .get()
        .map(|at| at.duration_since(begun).as_secs_f64());
    let Some(error) = error else {
        callers.note(|tally| {
            *tally.served.entry(conversation).or_default() += used;
            if !counted {
                return;
            }
            tally.answered += 1;
            let Some(wait) = wait else { return };
            tally.waits[band].push(wait as f32);
            if let (Some(Some(forecast)), true) = (forecast, wait > 1.0) {
                let off = (forecast.as_secs_f64() - wait).abs() / wait;
                tally.forecast_errors.push(off as f32);
            }
        });
        return;
    };
    if counted {
        callers.note(|tally| match error {
            // Told at once that it would wait too long, or only when it had waited.
            ChatError::Shed { .. } if forecast.is_none() => tally.shed += 1,
            ChatError::Shed { .. } => tally.expired += 1,
            ChatError::RateLimited { .. } => tally.refused += 1,
            _ => tally.failed += 1,
        });
    }
}

impl Callers {
    fn note(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The next of a sequence of numbers from 0 to 1 (splitmix64).
    fn draw(&self) -> f64 {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut z = (self.seed << 32)
            .wrapping_add(number.wrapping_add(1))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn say(&self) -> Result<()> {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        let line = serde_json::to_string(&*tally)?;
        drop(tally);
        writeln!(io::stdout(), "{line}")?;
        Ok(())
    }
}
