//! Kept results: how old they may be, which is dropped first, which are hot.
//!
//! Invariants: the results together take at most `max_bytes`; none older than `ttl +
//! stale` is given. Pure: callers pass `now`. Deliberately absent: locks, waiting, and
//! the sweeping of old results, which the bound on memory makes needless.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::LinkedHashMap;
use lyceum_core::ToolOutput;
use serde_json::Value;

use super::key::CacheKey;
use crate::CachePolicy;

/// What an entry takes beside its texts, rounded up.
const OVERHEAD_BYTES: usize = 256;

#[derive(Debug)]
struct Entry {
    output: Arc<ToolOutput>,
    /// Kept only where results are kept warm.
    arguments: Option<Value>,
    made: Instant,
    /// Times it was asked for, halved at every round of warming.
    hits: u64,
    bytes: usize,
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Shelf {
    ttl: Duration,
    stale: Duration,
    max_bytes: usize,
    bytes: usize,
    /// The one not used for longest is first.
    entries: LinkedHashMap<CacheKey, Entry>,
}

impl Shelf {
    pub(crate) fn new(policy: &CachePolicy) -> Self {
        Self {
            ttl: policy.ttl,
            stale: policy.stale,
            max_bytes: policy.max_bytes,
            bytes: 0,
            entries: LinkedHashMap::new(),
        }
    }

    /// A result that is young enough. It counts as used.
    pub(crate) fn fresh(&mut self, key: &CacheKey, now: Instant) -> Option<Arc<ToolOutput>> {
        let entry = self.entries.get_mut(key)?;
        entry.hits += 1;
        if now.saturating_duration_since(entry.made) >= self.ttl {
            return None;
        }
        let output = Arc::clone(&entry.output);
        self.entries.to_back(key);
        Some(output)
    }

    /// A result that may stand in for one that cannot be had.
    pub(crate) fn stale(&self, key: &CacheKey, now: Instant) -> Option<Arc<ToolOutput>> {
        let entry = self.entries.get(key)?;
        let age = now.saturating_duration_since(entry.made);
        (age < self.ttl + self.stale).then(|| Arc::clone(&entry.output))
    }

    /// Keeps a result. One that is larger than all memory is not kept.
    pub(crate) fn put(
        &mut self,
        key: CacheKey,
        output: Arc<ToolOutput>,
        arguments: Option<Value>,
        now: Instant,
    ) {
        let sources: usize = output.sources.iter().map(String::len).sum();
        let asked = arguments.as_ref().map_or(0, size);
        let bytes = OVERHEAD_BYTES + output.content.len() + sources + asked;
        let mut hits = 0;
        if let Some(old) = self.entries.remove(&key) {
            self.bytes -= old.bytes;
            hits = old.hits;
        }
        if bytes > self.max_bytes {
            return;
        }
        self.bytes += bytes;
        let entry = Entry {
            output,
            arguments,
            made: now,
            hits,
            bytes,
        };
        self.entries.insert(key, entry);
        while self.bytes > self.max_bytes {
            let Some((_, dropped)) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= dropped.bytes;
        }
    }

    /// The results that were asked for most and will be too old within `ahead`, at most so
    /// many. What was asked counts half from now on.
    pub(crate) fn hot(
        &mut self,
        now: Instant,
        ahead: Duration,
        most: usize,
    ) -> Vec<(CacheKey, Value)> {
        let mut hot: Vec<(u64, CacheKey, &Value)> = Vec::new();
        for (key, entry) in &self.entries {
            let ends = entry.made + self.ttl;
            if let Some(arguments) = &entry.arguments
                && entry.hits > 0
                && ends <= now + ahead
            {
                hot.push((entry.hits, *key, arguments));
            }
        }
        hot.sort_by_key(|(hits, ..)| std::cmp::Reverse(*hits));
        hot.truncate(most);
        let hot = hot
            .into_iter()
            .map(|(_, key, arguments)| (key, arguments.clone()))
            .collect();
        for entry in self.entries.values_mut() {
            entry.hits /= 2;
        }
        hot
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// About what a value takes in memory.
fn size(value: &Value) -> usize {
    let own = 32;
    own + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(k, v)| k.len() + size(v)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use lyceum_core::{Audience, CallContext, Scope};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::KeyStrategy;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: u64) -> CacheKey {
        let call = CallContext::new(Scope::local());
        CacheKey::new(&call, Audience::Public, &KeyStrategy::All, &json!(number))
    }

    fn output(text: &str) -> Arc<ToolOutput> {
        Arc::new(ToolOutput::text(text))
    }

    #[test]
    fn a_result_is_fresh_then_stale_then_gone() {
        let policy = CachePolicy {
            ttl: 600 * SECOND,
            stale: 100 * SECOND,
            ..CachePolicy::default()
        };
        let (mut shelf, now) = (Shelf::new(&policy), Instant::now());
        shelf.put(key(1), output("a"), None, now);
        assert!(shelf.fresh(&key(1), now + 599 * SECOND).is_some());
        assert!(shelf.fresh(&key(1), now + 600 * SECOND).is_none());
        assert!(shelf.stale(&key(1), now + 699 * SECOND).is_some());
        assert!(shelf.stale(&key(1), now + 700 * SECOND).is_none());
    }

    #[test]
    fn the_hottest_are_renewed_before_they_are_too_old() {
        let (mut shelf, now) = (Shelf::new(&CachePolicy::default()), Instant::now());
        for number in 0..4 {
            shelf.put(key(number), output("a"), Some(json!(number)), now);
            for _ in 0..number * 4 {
                shelf.fresh(&key(number), now);
            }
        }
        assert!(shelf.hot(now, 300 * SECOND, 10).is_empty(), "all are young");
        let later = now + 301 * SECOND;
        let hot = shelf.hot(later, 300 * SECOND, 2);
        let asked: Vec<Value> = hot.into_iter().map(|(_, arguments)| arguments).collect();
        assert_eq!(asked, [json!(3), json!(2)], "the most asked first");
        for _ in 0..4 {
            shelf.hot(later, 300 * SECOND, 10);
        }
        assert!(
            shelf.hot(later, 300 * SECOND, 10).is_empty(),
            "what nobody asks any more cools down"
        );
    }

    proptest! {
        #[test]
        fn memory_stays_bounded(puts in prop::collection::vec((0..20_u64, 0..600_usize), 1..200)) {
            let policy = CachePolicy { max_bytes: 2_000, ..CachePolicy::default() };
            let (mut shelf, now) = (Shelf::new(&policy), Instant::now());
            for (number, length) in puts {
                shelf.put(key(number), output(&"x".repeat(length)), None, now);
                prop_assert!(shelf.bytes() <= 2_000);
                let sum: usize = shelf.entries.values().map(|entry| entry.bytes).sum();
                prop_assert_eq!(sum, shelf.bytes());
            }
        }
    }
}
