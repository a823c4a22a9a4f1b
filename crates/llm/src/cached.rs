//! Gives an answer again that was given before.
//!
//! Invariant: an answer is given only within the tenant that paid for it, only whole ones
//! are kept, and what is given again says so. Deliberately absent: answers of requests
//! that neither ask for it nor are repeatable by [`CachePolicy`].

mod flight;
mod key;
mod semantic;
mod store;
mod tiered;
mod trouble;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream};
use lyceum_core::{
    CacheUse, CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, Embedder, FinishReason,
    ModelTraits, Origin, TenantId, ToolCallDelta, Usage,
};
use tokio::time::Instant;

use self::{
    flight::{Flights, Seat, is_personal},
    semantic::{Asked, Semantic},
};
use crate::{answer::is_content, metrics};

pub use self::{
    key::AnswerKey,
    semantic::SemanticConfig,
    store::{AnswerStore, AnswerStoreError, CachedAnswer, InMemoryAnswers},
    tiered::TieredAnswers,
    trouble::Trouble,
};

/// Which requests may be answered from the cache, beside those that ask for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// None.
    #[default]
    Asked,
    /// Those that a model answers alike each time: temperature zero and no tools.
    Deterministic,
    /// All without tools, for those to whom a repeated question may get the same words.
    All,
}

/// How long answers are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerCacheConfig {
    /// Which requests.
    pub policy: CachePolicy,
    /// How old an answer may be. Default 5 min.
    pub lifetime: Duration,
    /// How old it may be while the provider is in trouble. Default 30 min.
    pub trouble_lifetime: Duration,
}

impl Default for AnswerCacheConfig {
    fn default() -> Self {
        Self {
            policy: CachePolicy::default(),
            lifetime: Duration::from_secs(5 * 60),
            trouble_lifetime: Duration::from_secs(30 * 60),
        }
    }
}

/// Answers from a store, else from a model; equal calls at one time are one call. Clones
/// share the store and the calls under way.
#[derive(Debug, Clone)]
pub struct Cached {
    model: Arc<dyn ChatModel>,
    store: Arc<dyn AnswerStore>,
    config: AnswerCacheConfig,
    trouble: Trouble,
    semantic: Option<Arc<Semantic>>,
    flights: Flights,
    /// The wall clock at a moment of the runtime's clock.
    clock: (SystemTime, Instant),
}

impl Cached {
    /// Answers from `store`, else from `model`. Needs a tokio runtime with time.
    #[must_use]
    pub fn new(
        model: impl ChatModel + 'static,
        store: Arc<dyn AnswerStore>,
        config: AnswerCacheConfig,
    ) -> Self {
        Self {
            model: Arc::new(model),
            store,
            config,
            trouble: Trouble::default(),
            semantic: None,
            flights: Flights::default(),
            clock: (SystemTime::now(), Instant::now()),
        }
    }

    /// The same, keeping answers longer while the provider is in trouble.
    #[must_use]
    pub fn with_trouble(mut self, trouble: Trouble) -> Self {
        self.trouble = trouble;
        self
    }

    /// The same, answering questions that mean the same too.
    #[must_use]
    pub fn with_semantic(mut self, embedder: Arc<dyn Embedder>, config: SemanticConfig) -> Self {
        self.semantic = Some(Arc::new(Semantic::new(embedder, config)));
        self
    }

    fn admits(&self, request: &ChatRequest) -> bool {
        match (request.cache, self.config.policy) {
            (CacheUse::Never, _) | (CacheUse::Policy, CachePolicy::Asked) => false,
            (CacheUse::Allow, _) => true,
            (CacheUse::Policy, policy) => {
                let repeatable = request.temperature == Some(0.0) || policy == CachePolicy::All;
                repeatable && request.tools.is_empty() && request.other_tools.is_empty()
            }
        }
    }

    /// An answer that is kept and young enough, and its age.
    async fn look_up(
        &self,
        tenant: &TenantId,
        key: &AnswerKey,
    ) -> Option<(Arc<CachedAnswer>, Duration)> {
        let found = self.store.get(tenant, key).await;
        let answer = found.unwrap_or_else(|error| {
            metrics::cache_failed("get", &error);
            None
        })?;
        let age = Duration::from_millis(self.now_ms().saturating_sub(answer.made_ms));
        let lifetime = match age < self.config.lifetime {
            true => self.config.lifetime,
            false if self.trouble.is_there() => self.config.trouble_lifetime,
            false => self.config.lifetime,
        };
        (age < lifetime).then_some((answer, age))
    }

    fn now_ms(&self) -> u64 {
        let (wall, at) = self.clock;
        let since = (wall + at.elapsed()).duration_since(UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps an answer, if it is one that may be given again.
    async fn keep(
        self,
        (tenant, key): (TenantId, AnswerKey),
        asked: Option<Asked>,
        events: Vec<ChatEvent>,
    ) {
        let Some(answer) = whole(events, self.now_ms()) else {
            return;
        };
        let config = &self.config;
        let lifetime = config.lifetime.max(config.trouble_lifetime);
        match self
            .store
            .put(&tenant, key, Arc::new(answer), lifetime)
            .await
        {
            Ok(()) => {
                if let (Some(semantic), Some(asked)) = (&self.semantic, asked) {
                    semantic.remember(asked, key);
                }
            }
            Err(error) => metrics::cache_failed("put", &error),
        }
    }
}

impl ChatModel for Cached {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        if !self.admits(&request) {
            return self.model.stream(call, request);
        }
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let tenant = &call.scope.tenant;
            let key = AnswerKey::new(&call, this.name(), &request);
            let mut found = this.look_up(tenant, &key).await.map(|found| ("exact", found));
            let mut asked = None;
            if found.is_none()
                && let Some(semantic) = &this.semantic
                && let Some((context, question)) =
                    AnswerKey::apart_from_question(&call, this.name(), &request)
            {
                asked = semantic.ask(&call, context, question).await;
                if let Some(near) = asked.as_ref().and_then(|asked| semantic.nearest(asked)) {
                    found = this.look_up(tenant, &near).await.map(|found| ("semantic", found));
                }
            }
            if let Some((how, (answer, age))) = found {
                metrics::cache_looked_up(how);
                let mut again = replay(&answer, age);
                while let Some(event) = again.next().await {
                    yield event;
                }
                return;
            }
            let begin = || this.model.stream(call.clone(), Arc::clone(&request));
            let keeper = this.clone();
            let place = (tenant.clone(), key);
            let done = move |events| keeper.keep(place, asked, events);
            let (flight, seat) = this.flights.join(key, begin, done);
            metrics::cache_looked_up(match seat {
                Seat::Leader => "miss",
                Seat::Follower => "joined",
            });
            let mut answer = flight.stream();
            let mut begun = false;
            loop {
                match answer.next().await {
                    Some(Ok(event)) => {
                        begun |= is_content(&event);
                        yield event;
                    }
                    Some(Err(error)) if seat == Seat::Follower && !begun && is_personal(&error) => {
                        answer = this.model.stream(call.clone(), Arc::clone(&request));
                        begun = true;
                    }
                    Some(Err(error)) => Err(error)?,
                    None => return,
                }
            }
        })
    }
}

/// The answer that these events make; `None` when it is not to be given again: cut by a
/// limit or a filter, not a model's own, or with parts that are not kept.
fn whole(events: Vec<ChatEvent>, made_ms: u64) -> Option<CachedAnswer> {
    let mut answer = CachedAnswer {
        provider: String::new(),
        model: String::new(),
        reasoning: String::new(),
        text: String::new(),
        tool_calls: Vec::new(),
        usage: Usage::default(),
        finish: FinishReason::Stop,
        made_ms,
    };
    let mut pieces = Vec::new();
    for event in events {
        match event {
            ChatEvent::Started { provider, model } => {
                answer.provider = provider.to_string();
                answer.model = model.to_string();
            }
            ChatEvent::Text(text) => answer.text.push_str(&text),
            ChatEvent::Reasoning(text) => answer.reasoning.push_str(&text),
            piece @ ChatEvent::ToolCall(_) => pieces.push(Ok(piece)),
            ChatEvent::Usage(usage) => answer.usage = usage,
            // An id or a fingerprint belongs to one call.
            ChatEvent::Extra(_) => {}
            ChatEvent::Finished(finish @ (FinishReason::Stop | FinishReason::ToolCalls)) => {
                answer.finish = finish.clone();
                pieces.push(Ok(ChatEvent::Finished(finish)));
            }
            _ => return None,
        }
    }
    // The pieces of tool calls are joined where all are.
    let collected = lyceum_core::ChatAnswer::collect(stream::iter(pieces));
    answer.tool_calls = futures_util::FutureExt::now_or_never(collected)?
        .ok()?
        .tool_calls;
    Some(answer)
}

/// How many characters of a kept answer are one event.
const PIECE: usize = 24;

/// A kept answer as a stream: at once, in pieces, with no usage of its own.
fn replay(
    answer: &CachedAnswer,
    age: Duration,
) -> impl stream::Stream<Item = ChatEvent> + Send + Unpin {
    let mut events = vec![
        ChatEvent::Started {
            provider: answer.provider.as_str().into(),
            model: answer.model.as_str().into(),
        },
        ChatEvent::Origin(Origin::Cached {
            age,
            saved: answer.usage,
        }),
    ];
    events.extend(pieces(&answer.reasoning).map(ChatEvent::Reasoning));
    events.extend(pieces(&answer.text).map(ChatEvent::Text));
    for (index, call) in (0..).zip(&answer.tool_calls) {
        events.push(ChatEvent::ToolCall(ToolCallDelta {
            index,
            id: Some(call.id.clone()),
            name: Some(call.name.clone()),
            arguments: call.arguments.clone(),
            extra: call.extra.clone(),
        }));
    }
    events.push(ChatEvent::Usage(Usage::default()));
    events.push(ChatEvent::Finished(answer.finish.clone()));
    stream::iter(events)
}

fn pieces(text: &str) -> impl Iterator<Item = String> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest
            .char_indices()
            .nth(PIECE)
            .map_or(rest.len(), |(at, _)| at);
        let (piece, more) = rest.split_at(end);
        rest = more;
        (!piece.is_empty()).then(|| piece.to_owned())
    })
}
