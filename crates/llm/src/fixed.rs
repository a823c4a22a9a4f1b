//! The answer when nobody can be reached: a fixed text, marked as such.

use std::sync::Arc;

use futures_util::stream;
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, Origin, Usage,
};

/// Answers every request with the same text, under the provider's name `degraded` and
/// with [`Origin::Degraded`], so that no caller takes it for a model's words.
#[derive(Debug, Clone)]
pub struct FixedAnswer {
    text: Arc<str>,
}

impl FixedAnswer {
    /// Answers with `text`.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into() }
    }
}

impl ChatModel for FixedAnswer {
    fn name(&self) -> &str {
        "degraded"
    }

    fn stream(&self, _call: CallContext, _request: Arc<ChatRequest>) -> ChatStream {
        Box::pin(stream::iter([
            Ok(ChatEvent::Started {
                provider: "degraded".into(),
                model: "fixed".into(),
            }),
            Ok(ChatEvent::Origin(Origin::Degraded)),
            Ok(ChatEvent::Text(self.text.to_string())),
            Ok(ChatEvent::Usage(Usage::default())),
            Ok(ChatEvent::Finished(FinishReason::Stop)),
        ]))
    }
}
