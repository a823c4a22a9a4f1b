//! The vocabulary that several Lyceum layers share: messages, chat requests and
//! streams, tools, usage, ids and units, and the ports that are spoken across layers.
//!
//! Invariant: an item is here only because two crates need it. Deliberately
//! absent: runtimes, HTTP, SQL and any policy.
//!
//! The central port is [`ChatModel`]: one call gives one lazy [`ChatStream`], and
//! everything else (queueing, retrying, metering, caching) is a decorator over it.
//!
//! ```
//! use std::sync::Arc;
//! use futures::{executor::block_on, stream};
//! use lyceum_core::{CallContext, ChatAnswer, ChatEvent, ChatModel, ChatRequest, ChatStream,
//!     FinishReason, Message, Scope};
//!
//! #[derive(Debug)]
//! struct Parrot;
//!
//! impl ChatModel for Parrot {
//!     fn name(&self) -> &str {
//!         "parrot"
//!     }
//!     fn stream(&self, _call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
//!         let last = request.messages.last().map(|m| m.content.text()).unwrap_or_default();
//!         Box::pin(stream::iter([
//!             Ok(ChatEvent::Text(last)),
//!             Ok(ChatEvent::Finished(FinishReason::Stop)),
//!         ]))
//!     }
//! }
//!
//! let request = Arc::new(ChatRequest::new([Message::user("hello")]));
//! let stream = Parrot.stream(CallContext::new(Scope::local()), request);
//! let answer = block_on(ChatAnswer::collect(stream)).unwrap();
//! assert_eq!(answer.text, "hello");
//! ```

mod answer;
mod call;
mod chat;
mod embed;
mod error;
mod hints;
mod ids;
mod knowledge;
mod library;
mod message;
mod panel;
mod propagation;
mod records;
mod scrub;
mod student;
mod tool;
mod tool_source;
mod units;

pub use answer::{AnswerExtra, ChatAnswer};
pub use call::{CallContext, Priority, QueuePosition};
pub use chat::{
    CacheUse, ChatEvent, ChatModel, ChatRequest, ChatStream, Extra, ExtraPlace, FinishReason,
    ModelTraits, Origin, ResponseFormat, ToolCallDelta, ToolChoice,
};
#[cfg(feature = "conformance")]
pub use embed::conformance as embed_conformance;
pub use embed::{EmbedError, EmbedKind, Embedder, Embeddings, Vector};
pub use error::{ChatError, TimeoutStage};
pub use hints::{Hints, MemoryHints};
pub use ids::{AgentId, IdError, RequestId, Scope, SessionId, TenantId, UserId};
pub use knowledge::{
    Claim, Concept, ExamAnswer, GapStatus, Hole, Knowledge, KnownGap, Misconception, Paper, Pupil,
    Review, ReviewItem, TeachBack, Tone, Verdict,
};
pub use library::{
    Archive, Erased, Export, MemoryEntry, Moment, Notebook, Page, Remembered, SessionEntry,
    Transcript, Utterance, Validity,
};
pub use message::{Content, Message, Part, Reasoning, ReasoningSeal, Role, ToolCall};
pub use panel::{Discussion, Panel, PanelEvent, PanelReport, PanelStream, PanelTurn};
pub use propagation::{Linker, Propagator, install_linker, install_propagator, link_to, propagate};
#[cfg(feature = "conformance")]
pub use records::conformance as record_conformance;
pub use records::{
    Expect, MemoryRecords, Record, RecordError, RecordList, RecordStore, RecordWrite,
};
pub use scrub::{Finding, Scrubbed, Scrubber};
pub use student::{
    Confidence, Conversation, Explanation, Gap, GapKind, Lesson, Memorized, Severity, Student,
    TeachError, TeachEvent, TeachStream, ToolTrace, Turn,
};
pub use tool::{Approval, Audience, Effect, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
pub use tool_source::ToolSource;
pub use units::{MicroUsd, Tokens, Usage};
