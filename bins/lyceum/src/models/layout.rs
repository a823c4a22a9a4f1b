//! The model layer in words, for `lyceum check`.

use std::fmt::Write;

use crate::{
    config::{CacheMode, Config},
    provider::{Choice, Chosen, Hosted},
};

/// The decorators around the models chosen, outermost first, one a line.
pub(crate) fn layout(chosen: &Chosen, config: &Config) -> String {
    let mut text = String::new();
    if matches!(chosen.main, Choice::Offline) {
        return text;
    }
    let _ = writeln!(text, "# How a call reaches it, outermost first:");
    let _ = writeln!(text, "#   metered");
    let cache = &config.cache;
    if cache.mode != CacheMode::Off {
        let _ = writeln!(
            text,
            "#   cached ({:?}, {} s, {} s in trouble, {} MiB)",
            cache.mode, cache.ttl_seconds, cache.trouble_ttl_seconds, cache.max_mib
        );
        if cache.shared {
            let _ = writeln!(text, "#     shared with other processes through Redis");
        }
        if let Some(model) = &cache.semantic {
            let least = cache.semantic_threshold;
            let _ = writeln!(
                text,
                "#     and for questions alike by {model}, cosine {least}"
            );
        }
    }
    let chain = !chosen.fallbacks.is_empty() || config.fallback.degraded_answer.is_some();
    if chain {
        let _ = writeln!(text, "#   fallback, before the first token:");
    }
    for choice in std::iter::once(&chosen.main).chain(&chosen.fallbacks) {
        let _ = writeln!(text, "#   - {choice}");
        if let Choice::Hosted(model) = choice {
            hosted(&mut text, model, config);
        }
    }
    if config.fallback.degraded_answer.is_some() {
        let _ = writeln!(text, "#   - the fixed answer, marked as degraded");
    }
    text
}

fn hosted(text: &mut String, model: &Hosted, config: &Config) {
    let hedge = config.hedge;
    if hedge.enabled {
        let after = match hedge.delay_seconds {
            Some(seconds) => format!("{seconds} s"),
            None => "the learned 95th percentile".to_owned(),
        };
        let share = hedge.max_share * 100.0;
        let _ = writeln!(text, "#     hedged after {after}, at most {share} % extra");
    }
    if model.ways.len() > 1 {
        let strategy = config.balance.strategy.strategy().label();
        let _ = writeln!(text, "#     balanced, {strategy}:");
    }
    let priced = crate::cost::table(config.cost.prices.as_deref())
        .is_ok_and(|table| table.price(&model.model).is_some());
    let price = if priced { "known" } else { "unknown" };
    let retry = config.retry;
    let breaker = config.breaker;
    for (at, way) in model.ways.iter().enumerate() {
        let quotas = [
            ("requests", way.queue.requests_per_minute),
            ("tokens", way.queue.tokens_per_minute),
            ("input tokens", way.queue.input_tokens_per_minute),
            ("output tokens", way.queue.output_tokens_per_minute),
        ];
        let limits: String = quotas
            .iter()
            .filter_map(|(what, limit)| limit.map(|limit| format!(", {limit} {what} a minute")))
            .collect();
        let _ = writeln!(
            text,
            "#     - {name} at {address}, weight {weight}: retrying ({attempts} attempts, {min}-{max} s), \
             queued ({concurrent} at once{limits}), priced ({price}), breaking ({failures} failures, {open} s)",
            name = model.label(at),
            address = model.address(at),
            weight = way.weight,
            attempts = retry.attempts,
            min = retry.min_seconds,
            max = retry.max_seconds,
            concurrent = way.queue.max_concurrent,
            price = price,
            failures = breaker.failures,
            open = breaker.open_seconds,
        );
    }
}
