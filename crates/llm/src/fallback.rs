//! A chain of models: when one fails before its content begins, the next is asked.
//!
//! Invariant: the content of one model only reaches the caller. A stream that breaks
//! later is an error, never continued by another model.

use std::sync::Arc;

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
};
use tokio::time::Instant;

use crate::{
    FixedAnswer, metrics,
    opening::{Opened, Opening},
};

/// Asks one model after the other until one answers.
///
/// Every error leads to the next model, refusals of the request too: another model may
/// have a larger context, another key or a lower price. A caller whose deadline passed
/// gets the error.
#[derive(Debug, Clone)]
pub struct Fallback {
    first: Arc<dyn ChatModel>,
    others: Arc<[Arc<dyn ChatModel>]>,
    last_resort: Option<FixedAnswer>,
}

impl Fallback {
    /// Asks `first`, then `others` in order. A request's own model name is meant for
    /// `first`; the others use the models they were configured with.
    #[must_use]
    pub fn new(
        first: Arc<dyn ChatModel>,
        others: impl IntoIterator<Item = Arc<dyn ChatModel>>,
    ) -> Self {
        Self {
            first,
            others: others.into_iter().collect(),
            last_resort: None,
        }
    }

    /// The same with a fixed answer after the last model, given when no model can be
    /// reached; a request that was refused, shed or over its budget is an error all the
    /// same.
    #[must_use]
    pub fn with_last_resort(mut self, answer: FixedAnswer) -> Self {
        self.last_resort = Some(answer);
        self
    }
}

impl ChatModel for Fallback {
    /// The first model's name; an answer names the model that gave it.
    fn name(&self) -> &str {
        self.first.name()
    }

    /// The first model's traits.
    fn traits(&self) -> ModelTraits {
        self.first.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let (mut model, others) = (Arc::clone(&self.first), Arc::clone(&self.others));
        let mut request = request;
        let last_resort = self.last_resort.clone();
        Box::pin(async_stream::try_stream! {
            let mut others = others.iter();
            loop {
                let stream = model.stream(call.clone(), Arc::clone(&request));
                let mut opening = Opening::new(stream);
                let error = loop {
                    match opening.next().await {
                        Opened::Waiting(position) => yield ChatEvent::Queued(position),
                        Opened::Begun => {
                            let mut rest = opening.into_stream();
                            while let Some(event) = rest.next().await {
                                yield event?;
                            }
                            return;
                        }
                        Opened::Failed(error) => break error,
                    }
                };
                let late = is_late(&call);
                let next = match (others.next(), &last_resort) {
                    (Some(next), _) if !late => next,
                    (None, Some(fixed)) if !late && is_outage(&error) => {
                        metrics::fell_back(model.name(), fixed.name(), &error);
                        let mut answer = fixed.stream(call, request);
                        while let Some(event) = answer.next().await {
                            yield event?;
                        }
                        return;
                    }
                    _ => {
                        Err(error)?;
                        return;
                    }
                };
                metrics::fell_back(model.name(), next.name(), &error);
                if request.model.is_some() {
                    let plain = ChatRequest { model: None, ..(*request).clone() };
                    request = Arc::new(plain);
                }
                model = Arc::clone(next);
            }
        })
    }
}

/// Whether the model is to blame, and not the request, the caller or our own load.
fn is_outage(error: &ChatError) -> bool {
    match error {
        ChatError::Authentication { .. }
        | ChatError::BreakerOpen { .. }
        | ChatError::Local { .. } => true,
        error => error.is_retryable(),
    }
}

pub(crate) fn is_late(call: &CallContext) -> bool {
    let late = |deadline| Instant::now() >= Instant::from_std(deadline);
    call.deadline.is_some_and(late)
}
