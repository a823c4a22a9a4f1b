//! Pays for every call of one model from a shared account.
//!
//! Invariant: nothing is sent that a budget may not cover, and every call that was sent is
//! charged once: with the provider's usage, or with an estimate when the call ended
//! without it. Place it inside the queue, next to the provider, so that repeated and
//! hedged attempts are paid for like any other.

use std::sync::Arc;

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
    TimeoutStage, Tokens, Usage,
};

use super::{Hold, Ledger, Price, PriceTable};
use crate::{
    estimate::{estimate, text_tokens},
    metrics,
};

/// The limit of a request that sets none, as long as there is a budget: without one
/// nobody could say what it may cost at most.
const OUTPUT_LIMIT: Tokens = Tokens(16_384);

/// Prices the calls of a model. A model without a price costs nothing; what it uses is counted.
#[derive(Debug, Clone)]
pub struct Priced {
    model: Arc<dyn ChatModel>,
    default_model: Arc<str>,
    prices: Arc<PriceTable>,
    ledger: Ledger,
}

impl Priced {
    /// Charges calls of `model` to `ledger`. `default_model` is whose price counts when
    /// a request names no model, or one without a price.
    #[must_use]
    pub fn new(
        model: impl ChatModel + 'static,
        default_model: impl Into<Arc<str>>,
        prices: Arc<PriceTable>,
        ledger: Ledger,
    ) -> Self {
        Self {
            model: Arc::new(model),
            default_model: default_model.into(),
            prices,
            ledger,
        }
    }

    /// The name that labels the cost, a configured or a listed one, and its price.
    fn price(&self, request: &ChatRequest) -> Option<(Arc<str>, Price)> {
        if let Some(asked) = request.model.as_deref()
            && let Some(price) = self.prices.price(asked)
        {
            return Some((asked.into(), price));
        }
        let price = self.prices.price(&self.default_model)?;
        Some((Arc::clone(&self.default_model), price))
    }
}

impl ChatModel for Priced {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn traits(&self) -> ModelTraits {
        self.model.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let priced = self.price(&request);
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut request = request;
            if priced.is_some() && request.max_output.is_none() && this.ledger.has_budgets() {
                Arc::make_mut(&mut request).max_output = Some(OUTPUT_LIMIT);
            }
            let expected = estimate(&request);
            let (name, price) = priced.map_or((None, Price::default()), |(name, price)| (Some(name), price));
            let hold = this.ledger.reserve(&call, price.at_most(&expected))?;
            let mut bill = Bill {
                name,
                price,
                hold: Some(hold),
                usage: None,
                expected: Usage { input: expected.input, ..Usage::default() },
            };
            let mut stream = this.model.stream(call, request);
            bill.sent();
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        bill.see(&event);
                        yield event;
                    }
                    Err(error) => {
                        bill.failed(&error);
                        Err(error)?;
                    }
                }
            }
        })
    }
}

/// Whether a failed call costs nothing: no provider asks money for one that it refused.
pub(crate) fn is_free(error: &ChatError) -> bool {
    matches!(
        error,
        ChatError::Connect { .. }
            | ChatError::Authentication { .. }
            | ChatError::RateLimited { .. }
            | ChatError::Unavailable { .. }
            | ChatError::Rejected { .. }
            | ChatError::ContextTooLong { .. }
            | ChatError::BreakerOpen { .. }
            | ChatError::Shed { .. }
            | ChatError::Cancelled
            | ChatError::Timeout {
                stage: TimeoutStage::Connect,
                ..
            }
    )
}

/// What one call costs; it is paid when this is dropped.
struct Bill {
    /// Of whose price it is.
    name: Option<Arc<str>>,
    price: Price,
    hold: Option<Hold>,
    /// As the provider reported it.
    usage: Option<Usage>,
    /// As far as it can be seen from here.
    expected: Usage,
}

impl Bill {
    /// From now on the call costs at least its input.
    fn sent(&mut self) {
        let known = self.known();
        if let Some(hold) = &mut self.hold {
            hold.count(known);
            hold.note(self.price.cost(&known));
        }
    }

    fn see(&mut self, event: &ChatEvent) {
        match event {
            ChatEvent::Usage(usage) => self.usage = Some(*usage),
            ChatEvent::Text(text) | ChatEvent::Reasoning(text) => {
                self.expected.output += text_tokens(text);
            }
            ChatEvent::ToolCall(delta) => self.expected.output += text_tokens(&delta.arguments),
            ChatEvent::Finished(_) => {
                let usage = self.usage.unwrap_or(self.expected);
                self.pay(usage);
            }
            _ => {}
        }
    }

    fn failed(&mut self, error: &ChatError) {
        if is_free(error) && self.usage.is_none() && self.expected.output == Tokens(0) {
            self.pay(Usage::default());
        }
    }

    fn pay(&mut self, usage: Usage) {
        if let Some(mut hold) = self.hold.take() {
            let cost = self.price.cost(&usage);
            if let Some(name) = &self.name {
                metrics::paid(name, cost);
            }
            hold.count(usage);
            hold.settle(cost);
        }
    }

    /// The larger of what was reported and what was seen, part by part: a report in the
    /// middle of a stream may be behind.
    fn known(&self) -> Usage {
        let reported = self.usage.unwrap_or_default();
        Usage {
            input: reported.input.max(self.expected.input),
            output: reported.output.max(self.expected.output),
            ..reported
        }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.pay(self.known());
    }
}
