//! One provider behind one key, and the queue in front of it.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use lyceum_core::ChatModel;
use lyceum_llm::{Anthropic, AnthropicConfig, Dialect, OpenAi, OpenAiConfig, Planned, PromptCache};
use lyceum_queue::{CachedInput, OutputCounted, Queue, QueueConfig, Quotas};

use super::shared::Ledger;
use crate::{
    config,
    provider::{Hosted, Way},
};

/// The queue in front of a provider, counting as that provider counts.
pub(crate) fn queue(
    name: &str,
    config: &config::Queue,
    dialect: Dialect,
    ledger: Option<Ledger>,
) -> Queue {
    // Anthropic documents that what is made counts; who speaks OpenAI's dialect counts in
    // many ways, so the headers have to tell.
    let (output_counted, cached_input) = match dialect {
        Dialect::OpenAi => (OutputCounted::Unknown, CachedInput::Counted),
        Dialect::Anthropic => (OutputCounted::Made, CachedInput::Free),
    };
    let quotas = Quotas {
        requests: config.requests_per_minute,
        tokens: config.tokens_per_minute,
        input_tokens: config.input_tokens_per_minute,
        output_tokens: config.output_tokens_per_minute,
        concurrency: Some(u32::try_from(config.max_concurrent).unwrap_or(u32::MAX)),
    };
    let config = QueueConfig {
        quotas,
        capacity: config.capacity,
        output_counted: config.output_counted.or(output_counted),
        cached_input: config.cached_input.or(cached_input),
        jitter: Duration::from_millis(config.jitter_ms),
        burst: config.burst,
        ageing: Duration::from_secs(config.ageing_seconds),
        slow_start: true,
        ..QueueConfig::default()
    };
    match ledger {
        None => Queue::named(name, config),
        Some(Ledger { ledger, sharing }) => Queue::shared(name, config, ledger, sharing),
    }
}

/// A provider, with requests planned for its prompt cache. It tells the queue what answers'
/// headers say about the quota.
pub(super) fn provider(model: &Hosted, way: &Way, queue: &Queue) -> Result<Arc<dyn ChatModel>> {
    match model.preset.dialect {
        Dialect::OpenAi => {
            let mut built = OpenAiConfig::from_preset(model.preset, &model.model);
            if let Some(url) = &way.base_url {
                built.base_url.clone_from(url);
            }
            built.api_key.clone_from(&way.key);
            built.timeouts = model.timeouts;
            built.queue = Some(queue.clone());
            Ok(Arc::new(Planned::new(
                OpenAi::new(built)?,
                PromptCache::Automatic,
            )))
        }
        Dialect::Anthropic => {
            let mut built = AnthropicConfig::from_preset(model.preset, &model.model);
            if let Some(url) = &way.base_url {
                built.base_url.clone_from(url);
            }
            built.api_key.clone_from(&way.key);
            built.timeouts = model.timeouts;
            built.queue = Some(queue.clone());
            Ok(Arc::new(Planned::new(
                Anthropic::new(built)?,
                PromptCache::MARKED,
            )))
        }
    }
}
