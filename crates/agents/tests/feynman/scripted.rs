//! A model that says what the test wants, and a student around it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::{StreamExt, stream};
use lyceum_agents::{Feynman, FeynmanConfig, Mind};
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Explanation,
    FinishReason, Lesson, Message, ModelTraits, Priority, Scope, SessionId, Student, TeachError,
    TeachEvent, Tokens, Usage,
};
use lyceum_memory::{InMemory, Memory, MemoryConfig};
use tokio::sync::Notify;

pub(crate) type Answer = Box<dyn Fn(&ChatRequest) -> Result<String, ChatError> + Send + Sync>;

/// Answers by a function of the request and remembers what it was asked.
pub(crate) struct Scripted {
    pub(crate) answer: Answer,
    pub(crate) asked: Mutex<Vec<(Priority, Vec<Message>)>>,
    pub(crate) running: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) hold: Option<Arc<Notify>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    pub(crate) fn new(
        answer: impl Fn(&ChatRequest) -> Result<String, ChatError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            answer: Box::new(answer),
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            hold: None,
        }
    }

    pub(crate) fn prompts(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(_, messages)| messages[0].content.text())
            .collect()
    }
}

/// The test holds an Arc as well, so the model is a handle.
#[derive(Debug, Clone)]
pub(crate) struct Model(pub(crate) Arc<Scripted>);

impl ChatModel for Model {
    fn name(&self) -> &str {
        "scripted"
    }
    fn traits(&self) -> ModelTraits {
        ModelTraits {
            native_tools: true,
            context: Tokens(10_000),
            small: false,
        }
    }
    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.0.clone();
        Box::pin(
            stream::once(async move {
                let now = this.running.fetch_add(1, Ordering::SeqCst) + 1;
                this.most.fetch_max(now, Ordering::SeqCst);
                this.asked
                    .lock()
                    .unwrap()
                    .push((call.priority, request.messages.clone()));
                if let Some(hold) = &this.hold {
                    hold.notified().await;
                }
                tokio::task::yield_now().await;
                this.running.fetch_sub(1, Ordering::SeqCst);
                let usage = Usage {
                    input: Tokens(10),
                    output: Tokens(5),
                    ..Usage::default()
                };
                stream::iter(match (this.answer)(&request) {
                    Ok(text) => {
                        vec![
                            Ok(ChatEvent::Text(text)),
                            Ok(ChatEvent::Usage(usage)),
                            Ok(ChatEvent::Finished(FinishReason::Stop)),
                        ]
                    }
                    Err(error) => vec![Err(error)],
                })
            })
            .flatten(),
        )
    }
}

pub(crate) fn memory() -> Memory {
    let store = Arc::new(InMemory::default());
    Memory::new(store.clone(), store.clone(), store, MemoryConfig::default())
}

pub(crate) fn student(mind: Mind, memory: &Memory) -> Feynman {
    Feynman::new(mind, Vec::new(), memory.clone(), FeynmanConfig::default()).unwrap()
}

pub(crate) fn explanation(session: &str, text: &str) -> Explanation {
    Explanation {
        topic: "Gravity".into(),
        text: text.into(),
        session: SessionId::new(session).unwrap(),
        short_term_memory: Vec::new(),
        tone: None,
    }
}

pub(crate) async fn teach(
    student: &Feynman,
    explanation: Explanation,
) -> Result<(Vec<TeachEvent>, Lesson), TeachError> {
    let mut events = student.teach(CallContext::new(Scope::local()), explanation);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        match event? {
            TeachEvent::Finished(lesson) => return Ok((seen, *lesson)),
            event => seen.push(event),
        }
    }
    panic!("the stream ended without a lesson");
}

pub(crate) fn is_gap_prompt(request: &ChatRequest) -> bool {
    request.messages[0].content.text().contains("Kinds of gap")
}

pub(crate) fn good(request: &ChatRequest) -> Result<String, ChatError> {
    Ok(match is_gap_prompt(request) {
        true => r#"{"gaps":[{"kind":"missing_mechanism","quote":"mass attracts mass","reason":"how?","severity":"high"}]}"#.into(),
        false => "1. How is it that \"mass attracts mass\"?\n2. Where is there mass that attracts nothing?".into(),
    })
}
