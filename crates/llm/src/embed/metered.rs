//! Counts, times and traces every call of an embedder.
//!
//! Invariant: each call is counted once, as `ok`, as its error, or as `cancelled` when its
//! future was dropped before its end.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Usage};
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};

use crate::metrics;

/// Meters an embedder; see [`metrics`](crate::metrics) for what is recorded. Inside the
/// [`BatchingEmbedder`](super::BatchingEmbedder) it sees the calls of the provider.
#[derive(Debug, Clone)]
pub struct MeteredEmbedder {
    embedder: Arc<dyn Embedder>,
}

impl MeteredEmbedder {
    /// Meters `embedder`.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static) -> Self {
        Self {
            embedder: Arc::new(embedder),
        }
    }
}

#[async_trait]
impl Embedder for MeteredEmbedder {
    fn model(&self) -> &str {
        self.embedder.model()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let mut meter = Meter::start(self.model(), call, texts.len());
        let span = meter.span.clone();
        let answer = self
            .embedder
            .embed(call, kind, texts)
            .instrument(span)
            .await;
        match &answer {
            Ok(all) => {
                meter.status = "ok";
                meter.usage = all.usage;
            }
            Err(error) => meter.status = error.label(),
        }
        answer
    }
}

/// One call in progress; it is recorded when it is dropped.
struct Meter<'a> {
    started: Instant,
    span: Span,
    model: &'a str,
    texts: usize,
    status: &'static str,
    usage: Usage,
}

impl<'a> Meter<'a> {
    fn start(model: &'a str, call: &CallContext, texts: usize) -> Self {
        let span = tracing::info_span!(
            "embeddings",
            otel.kind = "client",
            otel.name = format_args!("embeddings {model}"),
            otel.status_code = Empty,
            request = %call.request,
            gen_ai.operation.name = "embeddings",
            gen_ai.request.model = model,
            gen_ai.usage.input_tokens = Empty,
            error.type = Empty,
            texts,
            status = Empty,
        );
        Self {
            started: Instant::now(),
            span,
            model,
            texts,
            status: "cancelled",
            usage: Usage::default(),
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.span.record("status", self.status);
        match self.status {
            "ok" => {
                let input = self.usage.input.0;
                self.span.record("gen_ai.usage.input_tokens", input);
            }
            "cancelled" => {}
            label => {
                self.span.record("error.type", label);
                self.span.record("otel.status_code", "ERROR");
            }
        }
        let took = self.started.elapsed();
        metrics::embedded(self.model, self.status, self.texts, took, self.usage);
    }
}
