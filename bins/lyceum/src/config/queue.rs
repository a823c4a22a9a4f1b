//! `[queue]`: what a provider allows, and how the queue in front of it behaves.

use std::{collections::BTreeMap, time::Duration};

use lyceum_queue::{CachedInput, LedgerTerms, OutputCounted, QueueConfig};
use serde::{Deserialize, Serialize};

/// `[queue]`: the provider's quota for this key, and how long work may wait. Unset limits do not apply.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Queue {
    /// Requests in any 60 seconds. Default: none.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens together in any 60 seconds. Default: none.
    pub tokens_per_minute: Option<u64>,
    /// Input tokens in any 60 seconds. Default: none.
    pub input_tokens_per_minute: Option<u64>,
    /// Output tokens in any 60 seconds. Default: none.
    pub output_tokens_per_minute: Option<u64>,
    /// How the provider counts output. Default `auto`.
    pub output_counted: Output,
    /// How the provider counts input from its prompt cache. Default `auto`.
    pub cached_input: Cached,
    /// Calls running at once. Default 50; 1 to 100,000.
    pub max_concurrent: u64,
    /// Calls waiting at once; beyond it callers get 503. Default 10,000; 1 to 10,000,000.
    pub capacity: usize,
    /// By how much the ways of two calls to the provider may differ, in milliseconds. Costs
    /// its share of a minute. Default 500; 0 to 10,000.
    pub jitter_ms: u64,
    /// The share of a minute's quota that may be sent at once after a pause. Default 0.1;
    /// 0 to 1.
    pub burst: f64,
    /// Seconds after which a call of a lower band is served out of turn. Default 30; 1 to
    /// 3,600.
    pub ageing_seconds: u64,
    /// Shares of tenants compared with others, who have 1. Default: none; 1 to 1,000.
    pub tenant_weights: BTreeMap<String, u32>,
    /// `redis`: all processes with the same key and model share these limits through the
    /// server of `[redis]`. Default: none, each process has them for itself. Only in
    /// `[queue]`; an endpoint's own limits are shared when these are.
    pub shared: Option<Shared>,
    /// The fewest processes to divide the limits among while that server is out of reach.
    /// Default 1; 1 to 1000. The number seen last counts when it is more.
    pub shared_replicas: u32,
    /// Seconds of silence after which a process is taken for dead and its slots return.
    /// Default 10; 2 to 600.
    pub shared_dead_after_seconds: u64,
    /// Seconds for which an emptied server grants nothing, so that every process can tell
    /// what it spent. Default 2; 1 to 60.
    pub shared_grace_seconds: u64,
}

/// Through what processes share a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Shared {
    /// The server of `[redis]`.
    Redis,
}

/// How a provider counts output tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Output {
    /// As the provider's headers show. Until they do, whatever is safe where the dialect
    /// says nothing, and what is really made where it does (Anthropic's).
    #[default]
    Auto,
    /// What is made, when a call ends or as it is made.
    AtEnd,
    /// The request's limit when a call starts, corrected when it ends.
    AtStart,
    /// The request's limit, for good.
    Declared,
    /// What will be made, from the call's start on.
    ActualAtStart,
}

/// How a provider counts input that it read from its prompt cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cached {
    /// Not at all in Anthropic's dialect, like all other input in OpenAI's.
    #[default]
    Auto,
    /// Like all other input.
    Counted,
    /// Not at all.
    Free,
}

impl Default for Queue {
    fn default() -> Self {
        let (queue, terms) = (QueueConfig::default(), LedgerTerms::default());
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            output_counted: Output::Auto,
            cached_input: Cached::Auto,
            max_concurrent: 50,
            capacity: 10_000,
            jitter_ms: 500,
            burst: queue.burst,
            ageing_seconds: queue.ageing.as_secs(),
            tenant_weights: BTreeMap::new(),
            shared: None,
            shared_replicas: 1,
            shared_dead_after_seconds: terms.dead_after.as_secs(),
            shared_grace_seconds: terms.grace.as_secs(),
        }
    }
}

impl Queue {
    /// What processes that share it agree on.
    pub(crate) fn terms(&self) -> LedgerTerms {
        LedgerTerms {
            jitter: Duration::from_millis(self.jitter_ms),
            burst: self.burst,
            dead_after: Duration::from_secs(self.shared_dead_after_seconds),
            grace: Duration::from_secs(self.shared_grace_seconds),
            ..LedgerTerms::default()
        }
    }
}

impl Output {
    /// As the queue is told, where a dialect's own way is `usual`.
    pub(crate) fn or(self, usual: OutputCounted) -> OutputCounted {
        match self {
            Self::Auto => usual,
            Self::AtEnd => OutputCounted::AtEnd,
            Self::AtStart => OutputCounted::AtStart,
            Self::Declared => OutputCounted::Declared,
            Self::ActualAtStart => OutputCounted::ActualAtStart,
        }
    }
}

impl Cached {
    /// As the queue is told, where a dialect's own way is `usual`.
    pub(crate) fn or(self, usual: CachedInput) -> CachedInput {
        match self {
            Self::Auto => usual,
            Self::Counted => CachedInput::Counted,
            Self::Free => CachedInput::Free,
        }
    }
}
