//! Counts, times and traces every call of a model.
//!
//! Invariant: each polled stream is counted once, as `ok`, as its error, or as
//! `cancelled` when it was dropped before its end.

use std::sync::Arc;

use futures_util::StreamExt;
use lyceum_core::{CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits, Usage};
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};

use crate::{answer::is_content, genai, metrics};

/// Meters a model; see [`metrics`](crate::metrics) for what is recorded. Every call has a
/// span `llm_call`, whose fields follow OpenTelemetry's conventions for generative AI.
#[derive(Debug, Clone)]
pub struct Metered {
    model: Arc<dyn ChatModel>,
}

impl Metered {
    /// Meters `model`.
    #[must_use]
    pub fn new(model: impl ChatModel + 'static) -> Self {
        Self {
            model: Arc::new(model),
        }
    }
}

impl ChatModel for Metered {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let model = Arc::clone(&self.model);
        Box::pin(async_stream::try_stream! {
            let mut meter = Meter::start(model.name(), &call);
            let span = meter.span.clone();
            let mut stream = model.stream(call, request);
            while let Some(event) = stream.next().instrument(span.clone()).await {
                match event {
                    Ok(event) => {
                        meter.note(&event);
                        yield event;
                    }
                    Err(error) => {
                        meter.status = error.label();
                        Err(error)?;
                    }
                }
            }
        })
    }
}

/// One call in progress; it is recorded when it is dropped.
struct Meter {
    started: Instant,
    span: Span,
    /// The provider that answers, once it is known; the model asked until then.
    provider: Arc<str>,
    /// The model that answers, once it is known.
    model: Option<Arc<str>>,
    status: &'static str,
    usage: Option<Usage>,
    begun: bool,
}

impl Meter {
    fn start(name: &str, call: &CallContext) -> Self {
        let span = tracing::info_span!(
            "llm_call",
            otel.kind = "client",
            otel.name = format_args!("chat {name}"),
            otel.status_code = Empty,
            gen_ai.conversation.id = call.scope.session.as_ref().map(|session| session.as_str()),
            request = %call.request,
            gen_ai.operation.name = "chat",
            gen_ai.provider.name = name,
            gen_ai.response.model = Empty,
            gen_ai.usage.input_tokens = Empty,
            gen_ai.usage.output_tokens = Empty,
            error.type = Empty,
            status = Empty,
        );
        Self {
            started: Instant::now(),
            span,
            provider: name.into(),
            model: None,
            status: "cancelled",
            usage: None,
            begun: false,
        }
    }

    fn genai(&self) -> genai::Call {
        genai::Call::new(&self.provider, self.model.as_deref().unwrap_or_default())
    }

    fn note(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Started { provider, model } => {
                self.span.record("gen_ai.provider.name", &**provider);
                self.span.record("gen_ai.response.model", &**model);
                self.provider = Arc::clone(provider);
                self.model = Some(Arc::clone(model));
            }
            ChatEvent::Usage(usage) => self.usage = Some(*usage),
            ChatEvent::Finished(_) => self.status = "ok",
            event if !self.begun && is_content(event) => {
                self.begun = true;
                let after = self.started.elapsed();
                metrics::first_token(&self.provider, after);
                self.genai().began(after);
            }
            _ => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.span.record("status", self.status);
        if !matches!(self.status, "ok" | "cancelled") {
            self.span.record("error.type", self.status);
            self.span.record("otel.status_code", "ERROR");
        }
        if let Some(usage) = self.usage {
            self.span.record("gen_ai.usage.input_tokens", usage.input.0);
            self.span
                .record("gen_ai.usage.output_tokens", usage.output.0);
        }
        let took = self.started.elapsed();
        metrics::ended(&self.provider, self.status, took, self.usage);
        self.genai().ended(self.status, took, self.usage);
    }
}
