//! Limits around any tool: how many calls at once, how long one may take, how much it may say.
//!
//! Invariant: a call ends within `timeout`, waiting for its turn included, and never
//! more than `max_concurrent` calls run. Deliberately absent: retrying; a model sees
//! the error and decides.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lyceum_core::{CallContext, Tool, ToolError, ToolOutput, ToolSpec};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{MAX_RESULT_CHARS, cap, metrics};

/// The limits of one tool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls running at once. Default 100.
    pub max_concurrent: usize,
    /// How long a call may take, waiting included. Default 10 s.
    pub timeout: Duration,
    /// The most characters of a result. Default 4,000.
    pub max_chars: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent: 100,
            timeout: Duration::from_secs(10),
            max_chars: MAX_RESULT_CHARS,
        }
    }
}

/// A tool under limits, counted and timed.
#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn Tool>,
    limits: Limits,
    running: Semaphore,
}

impl Limited {
    /// Puts a tool under limits.
    #[must_use]
    pub fn new(inner: Arc<dyn Tool>, limits: Limits) -> Self {
        let running = Semaphore::new(limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            inner,
            limits,
            running,
        }
    }

    async fn run(&self, call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let timeout = self.limits.timeout;
        let work = async {
            // The semaphore is never closed; were it, the tool would be unavailable.
            let Ok(_permit) = self.running.acquire().await else {
                return Err(ToolError::Unavailable {
                    retry_after: timeout,
                });
            };
            self.inner.call(call, arguments).await
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(ToolError::Timeout { after: timeout }),
        }
    }
}

#[async_trait]
impl Tool for Limited {
    fn spec(&self) -> &ToolSpec {
        self.inner.spec()
    }

    async fn call(&self, call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let start = Instant::now();
        let mut result = self.run(call, arguments).await;
        let status = match &mut result {
            Ok(output) => {
                output.content = cap(std::mem::take(&mut output.content), self.limits.max_chars);
                if output.degraded { "degraded" } else { "ok" }
            }
            Err(error) => {
                tracing::warn!(tool = %self.spec().name, error = %error, "tool call failed");
                error.label()
            }
        };
        metrics::called(&self.spec().name, status, start.elapsed());
        result
    }
}
