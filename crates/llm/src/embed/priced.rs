//! Pays for embedded texts from a shared account.
//!
//! Invariant: nothing is sent that a budget may not cover, and every call that was sent is
//! charged once: with its usage, or with an estimate when it ended without. Place it outside
//! the [`BatchingEmbedder`](super::BatchingEmbedder), so that each caller pays for its own
//! texts, and inside the cache, whose vectors cost nothing.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Tokens, Usage};
use lyceum_queue::Estimate;

use crate::{Hold, Ledger, Price, PriceTable, cost::is_free, estimate::text_tokens, metrics};

/// Prices the calls of an embedder. A model without a price costs nothing.
#[derive(Debug, Clone)]
pub struct PricedEmbedder {
    embedder: Arc<dyn Embedder>,
    name: Arc<str>,
    price: Option<Price>,
    ledger: Ledger,
}

impl PricedEmbedder {
    /// Charges calls of `embedder` to `ledger`, at the price of its model.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static, prices: &PriceTable, ledger: Ledger) -> Self {
        Self {
            name: embedder.model().into(),
            price: prices.price(embedder.model()),
            embedder: Arc::new(embedder),
            ledger,
        }
    }

    fn pay(&self, price: Price, hold: Hold, input: Tokens) {
        let cost = price.cost(&of_input(input));
        metrics::paid(&self.name, cost);
        hold.settle(cost);
    }
}

#[async_trait]
impl Embedder for PricedEmbedder {
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
        let Some(price) = self.price.filter(|_| !texts.is_empty()) else {
            return self.embedder.embed(call, kind, texts).await;
        };
        let expected: Tokens = texts.iter().map(|text| text_tokens(text)).sum();
        let at_most = price.at_most(&Estimate::new(expected.0, 0));
        let mut hold = self.ledger.reserve(call, at_most)?;
        // What a caller who leaves has cost.
        hold.note(price.cost(&of_input(expected)));
        let answer = self.embedder.embed(call, kind, texts).await;
        match &answer {
            Ok(all) if all.usage.input > Tokens(0) => self.pay(price, hold, all.usage.input),
            Err(EmbedError::Call(error)) if is_free(error) => self.pay(price, hold, Tokens(0)),
            Ok(_) | Err(_) => self.pay(price, hold, expected),
        }
        answer
    }
}

fn of_input(input: Tokens) -> Usage {
    Usage {
        input,
        ..Usage::default()
    }
}
