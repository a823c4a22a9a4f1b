//! A model that does as it is told, and what the tests of the decorators share.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream,
    FinishReason, Message, Scope, Tokens, Usage,
};
use lyceum_queue::{Queue, QueueConfig, Quotas};
use tokio::time::Instant;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Do {
    Say(ChatEvent),
    Fail(ChatError),
    /// Takes that long over the next action.
    Take(Duration),
    Hang,
}

/// When a call was made and with what.
type Call = (Instant, Arc<ChatRequest>);

/// Plays one script for each call, and remembers when it was called and with what.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    name: &'static str,
    scripts: Arc<Mutex<VecDeque<Vec<Do>>>>,
    pub(crate) calls: Arc<Mutex<Vec<Call>>>,
}

impl Actor {
    pub(crate) fn new(name: &'static str, scripts: impl IntoIterator<Item = Vec<Do>>) -> Self {
        Self {
            name,
            scripts: Arc::new(Mutex::new(scripts.into_iter().collect())),
            calls: Arc::default(),
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl ChatModel for Actor {
    fn name(&self) -> &str {
        self.name
    }

    fn stream(&self, _call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            this.calls.lock().unwrap().push((Instant::now(), request));
            let script = this.scripts.lock().unwrap().pop_front().expect("a script");
            for action in script {
                match action {
                    Do::Say(event) => yield event,
                    Do::Fail(error) => Err(error)?,
                    Do::Take(time) => tokio::time::sleep(time).await,
                    Do::Hang => std::future::pending().await,
                }
            }
        })
    }
}

pub(crate) fn started() -> Do {
    Do::Say(ChatEvent::Started {
        provider: "actor".into(),
        model: "m".into(),
    })
}

pub(crate) fn text(text: &str) -> Do {
    Do::Say(ChatEvent::Text(text.into()))
}

pub(crate) fn used() -> Usage {
    Usage {
        input: Tokens(10),
        output: Tokens(5),
        ..Usage::default()
    }
}

pub(crate) fn answer(words: &str) -> Vec<Do> {
    vec![
        started(),
        text(words),
        Do::Say(ChatEvent::Usage(used())),
        Do::Say(ChatEvent::Finished(FinishReason::Stop)),
    ]
}

pub(crate) fn limited(retry_after: Option<Duration>) -> Vec<Do> {
    vec![Do::Fail(ChatError::RateLimited {
        retry_after,
        message: "slow down".into(),
    })]
}

pub(crate) fn call() -> CallContext {
    CallContext::new(Scope::local())
}

pub(crate) fn hello() -> Arc<ChatRequest> {
    Arc::new(ChatRequest::new([Message::user("hello")]))
}

pub(crate) fn ask(model: &dyn ChatModel) -> ChatStream {
    model.stream(call(), hello())
}

pub(crate) async fn collect(model: &dyn ChatModel) -> Result<ChatAnswer, ChatError> {
    ChatAnswer::collect(ask(model)).await
}

pub(crate) async fn events(mut stream: ChatStream) -> (Vec<ChatEvent>, Option<ChatError>) {
    let mut events = Vec::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

pub(crate) fn starts(events: &[ChatEvent]) -> usize {
    let started = |event: &&ChatEvent| matches!(event, ChatEvent::Started { .. });
    events.iter().filter(started).count()
}

pub(crate) fn queue(quotas: Quotas) -> Queue {
    Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    })
}

pub(crate) fn one_at_a_time() -> Queue {
    queue(Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    })
}
