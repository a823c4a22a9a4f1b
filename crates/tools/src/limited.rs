//! A tool under its policy: limits, cache, breaker, repeats, a result when it fails.
//!
//! Invariants: a call ends within the time-out, waiting included; never more calls run,
//! or start in any 60 seconds, than the policy allows; a result has at most `max_chars`
//! characters and no control characters; every call is counted, timed and audited.
//! Deliberately absent: choosing who may call it, and asking for approval; the agent does.

mod reach;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, future::join_all, stream};
use lyceum_core::{
    Approval, CallContext, Effect, Priority, Scope, Tool, ToolError, ToolOutput, ToolSpec,
    ToolTraits,
};
use serde_json::Value;
use tokio::time::Instant;

use self::reach::Reach;
use crate::{
    ToolPolicy, audit,
    cache::{Asked, Cache, CacheKey},
    metrics::ToolMetrics,
    text::{cap, plain},
};

/// Results renewed at one time.
const WARMED_AT_ONCE: usize = 4;

/// See the module's text.
///
/// # Examples
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use lyceum_tools::{CachePolicy, Calculator, Limited, ToolPolicy};
///
/// let policy = ToolPolicy {
///     max_per_minute: Some(300),
///     timeout: Duration::from_secs(2),
///     cache: Some(CachePolicy::default()),
///     ..ToolPolicy::default()
/// };
/// let tool = Limited::new(Arc::new(Calculator::default()), policy);
/// ```
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Tool>,
    traits: ToolTraits,
    max_chars: usize,
    default_result: Option<String>,
    cache: Option<Cache>,
    reach: Reach,
    metrics: Arc<ToolMetrics>,
}

/// A result and where it came from.
struct Came {
    result: Result<ToolOutput, ToolError>,
    from: &'static str,
}

impl Limited {
    /// Puts a tool under a policy.
    #[must_use]
    pub fn new(inner: Arc<dyn Tool>, policy: ToolPolicy) -> Self {
        let mut traits = inner.traits();
        if policy.approval == Approval::Needed {
            traits.approval = Approval::Needed;
        }
        let metrics = Arc::new(ToolMetrics::new(&inner.spec().name));
        let reach = Reach::new(inner.clone(), &policy, metrics.clone());
        let cache = policy
            .cache
            .filter(|_| traits.effect == Effect::Reads)
            .map(|cache| Cache::new(cache, traits.audience));
        Self {
            inner,
            traits,
            max_chars: policy.max_chars,
            default_result: policy.default_result,
            cache,
            reach,
            metrics,
        }
    }

    /// Renews the results that are asked for most and will soon be too old, and returns how
    /// many were. Does nothing where the policy does not say so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops; what was renewed stays renewed.
    pub async fn warm(&self) -> usize {
        let Some((cache, warm)) = self.warming() else {
            return 0;
        };
        let call = CallContext::new(Scope::local())
            .with_priority(Priority::Low)
            .with_purpose("warm", 0);
        let renew = async |(key, arguments): (CacheKey, Value)| {
            let end = self.reach.end(&call);
            let result = self.reach.call(&call, &arguments, end).await;
            let renewed = result.map(|output| self.tidy(output));
            if let Ok(output) = &renewed {
                cache.put(key, &arguments, &Arc::new(output.clone()));
                self.metrics.warmed();
            }
            usize::from(renewed.is_ok())
        };
        let renewals = stream::iter(cache.hot(&warm)).map(renew);
        let renewed = renewals.buffer_unordered(WARMED_AT_ONCE);
        renewed.fold(0, async |sum, one| sum + one).await
    }

    /// Keeps hot results warm for as long as it is polled; ends at once where the policy
    /// does not say so.
    pub async fn keep_warm(&self) {
        let Some((_, warm)) = self.warming() else {
            return;
        };
        loop {
            tokio::time::sleep(warm.every).await;
            let renewed = self.warm().await;
            tracing::debug!(tool = %self.spec().name, renewed, "hot results renewed");
        }
    }

    fn warming(&self) -> Option<(&Cache, crate::WarmPolicy)> {
        let cache = self.cache.as_ref()?;
        Some((cache, cache.warm()?))
    }

    async fn answer(&self, call: &CallContext, arguments: &Value) -> Came {
        let end = self.reach.end(call);
        let Some(cache) = &self.cache else {
            let result = self.reach.call(call, arguments, end).await;
            return self.ended(None, result.map(|output| self.tidy(output)), "tool");
        };
        let key = cache.key(call, arguments);
        loop {
            match cache.ask(key) {
                Asked::Kept(output) => {
                    return Came {
                        result: Ok(output.as_ref().clone()),
                        from: "cache",
                    };
                }
                Asked::Lead(lead) => {
                    let result = self.reach.call(call, arguments, end).await;
                    let result = result.map(|output| Arc::new(self.tidy(output)));
                    // Whose time was shorter must not end the others' call.
                    let own =
                        matches!(result, Err(ToolError::Timeout { .. })) && call.deadline.is_some();
                    match own {
                        true => drop(lead),
                        false => lead.finish(arguments, result.clone()),
                    }
                    let result = result.map(|output| output.as_ref().clone());
                    return self.ended(Some(&key), result, "tool");
                }
                Asked::Follow(follow) => {
                    let begun = Instant::now();
                    let result = match tokio::time::timeout_at(end, follow.ended()).await {
                        Ok(Some(result)) => result.map(|output| output.as_ref().clone()),
                        Ok(None) => continue,
                        Err(_) => Err(ToolError::Timeout {
                            after: end.saturating_duration_since(begun),
                        }),
                    };
                    return self.ended(Some(&key), result, "shared");
                }
            }
        }
    }

    /// Where the tool failed, an older result or the default one stands in.
    fn ended(
        &self,
        key: Option<&CacheKey>,
        result: Result<ToolOutput, ToolError>,
        from: &'static str,
    ) -> Came {
        let error = match result {
            Err(error) if blames_the_tool(&error) => error,
            result => return Came { result, from },
        };
        let stale = key
            .zip(self.cache.as_ref())
            .and_then(|(key, cache)| cache.stale(key));
        let default = self.default_result.as_deref().map(ToolOutput::text);
        let stands_in = match stale {
            Some(output) => Some((output.as_ref().clone(), "stale")),
            None => default.map(|output| (output, "default")),
        };
        match stands_in {
            Some((output, from)) => {
                tracing::warn!(tool = %self.spec().name, error = %error, from, "tool degraded");
                let degraded = true;
                Came {
                    result: Ok(ToolOutput { degraded, ..output }),
                    from,
                }
            }
            None => Came {
                result: Err(error),
                from,
            },
        }
    }

    fn tidy(&self, output: ToolOutput) -> ToolOutput {
        ToolOutput {
            content: cap(plain(output.content), self.max_chars),
            sources: output.sources.into_iter().map(plain).collect(),
            degraded: output.degraded,
        }
    }
}

fn blames_the_tool(error: &ToolError) -> bool {
    !matches!(
        error,
        ToolError::Arguments { .. } | ToolError::Denied { .. }
    )
}

/// Keeps hot results of many tools warm for as long as it is polled.
pub async fn keep_warm(tools: &[Arc<Limited>]) {
    join_all(tools.iter().map(|tool| tool.keep_warm())).await;
}

#[async_trait]
impl Tool for Limited {
    fn spec(&self) -> &ToolSpec {
        self.inner.spec()
    }

    fn traits(&self) -> ToolTraits {
        self.traits
    }

    async fn call(&self, call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let begun = Instant::now();
        let Came { result, from } = self.answer(call, &arguments).await;
        let (status, chars) = match &result {
            Ok(output) if output.degraded => ("degraded", output.content.chars().count()),
            Ok(output) => ("ok", output.content.chars().count()),
            Err(error) => {
                tracing::warn!(tool = %self.spec().name, error = %error, "tool call failed");
                (error.label(), 0)
            }
        };
        let took = begun.elapsed();
        self.metrics.called(status, took);
        if result.is_ok() {
            self.metrics.came_from(from);
        }
        audit::Ended {
            tool: &self.spec().name,
            call,
            arguments: &arguments,
            status,
            from,
            chars,
            took,
        }
        .tell();
        result
    }
}
