//! A second attempt beside a slow first one; whichever begins first answers.
//!
//! Invariant: the content of one attempt only reaches the caller, the other is dropped,
//! which cancels it upstream; and second attempts never exceed their share of all calls.
//! Source: Dean and Barroso, "The Tail at Scale", 2013.

mod latency;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, ModelTraits,
};
use tokio::time::{Instant, sleep_until};

use self::latency::Latencies;
use crate::{
    metrics,
    opening::{Opened, Opening},
};

/// When a second attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeDelay {
    /// After this time without content.
    Fixed(Duration),
    /// After the time in which 95 % of recent calls had begun, at least this long. Until
    /// 20 calls were seen there are no second attempts.
    Learned(Duration),
}

/// When and how often a call is hedged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HedgeConfig {
    /// When a second attempt begins; counted from the last news of the queue. Default
    /// learned, at least 1 s.
    pub delay: HedgeDelay,
    /// The most second attempts as a share of all calls, 0 to 1. Default 0.05.
    pub max_share: f64,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            delay: HedgeDelay::Learned(Duration::from_secs(1)),
            max_share: 0.05,
        }
    }
}

/// Asks a second model when the first one is slow. Clones share what was learned.
#[derive(Debug, Clone)]
pub struct Hedged {
    first: Arc<dyn ChatModel>,
    second: Arc<dyn ChatModel>,
    config: HedgeConfig,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    latencies: Latencies,
    /// Second attempts that may be made; a call adds the share.
    allowance: f64,
}

/// The most second attempts that can be saved up.
const SAVED: f64 = 10.0;

impl Hedged {
    /// Asks `first`, and `second` beside it when it is slow. Both may be the same model
    /// when it is balanced over several endpoints.
    #[must_use]
    pub fn new(first: Arc<dyn ChatModel>, second: Arc<dyn ChatModel>, config: HedgeConfig) -> Self {
        Self {
            first,
            second,
            config,
            state: Arc::default(),
        }
    }

    /// Notes a call and says after which time it may be hedged.
    fn start(&self) -> Option<Duration> {
        let mut state = self.lock();
        let share = self.config.max_share.clamp(0.0, 1.0);
        state.allowance = (state.allowance + share).min(SAVED);
        match self.config.delay {
            HedgeDelay::Fixed(delay) => Some(delay),
            HedgeDelay::Learned(least) => Some(state.latencies.p95()?.max(least)),
        }
    }

    fn withdraw(&self) -> bool {
        let mut state = self.lock();
        // The tolerance absorbs the rounding of sums such as twenty times 0.05.
        let allowed = state.allowance >= 1.0 - 1e-9;
        if allowed {
            state.allowance -= 1.0;
        }
        allowed
    }

    fn learn(&self, since: Instant) {
        self.lock().latencies.learn(since.elapsed());
    }

    /// Poison is ignored: every change of the state is complete.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChatModel for Hedged {
    /// The first model's name.
    fn name(&self) -> &str {
        self.first.name()
    }

    /// The first model's traits.
    fn traits(&self) -> ModelTraits {
        self.first.traits()
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let delay = this.start();
            let mut since = Instant::now();
            let mut first = Opening::new(this.first.stream(call.clone(), Arc::clone(&request)));
            let mut patient = delay.is_none();
            let alone = loop {
                let at = since + delay.unwrap_or_default();
                let opened = tokio::select! {
                    biased;
                    opened = first.next() => opened,
                    () = sleep_until(at), if !patient => {
                        if this.withdraw() {
                            break None;
                        }
                        metrics::hedged(this.name(), "capped");
                        patient = true;
                        continue;
                    }
                };
                match opened {
                    Opened::Waiting(position) => {
                        since = Instant::now();
                        yield ChatEvent::Queued(position);
                    }
                    Opened::Begun => break Some(Ok(())),
                    Opened::Failed(error) => break Some(Err(error)),
                }
            };
            let winner = match alone {
                Some(Ok(())) => {
                    this.learn(since);
                    first
                }
                Some(Err(error)) => {
                    Err(error)?;
                    return;
                }
                None => {
                    let second = Opening::new(this.second.stream(call, request));
                    let (which, winner) = race(first, second).await?;
                    // What the loser would have taken is not known, only that it is more.
                    this.learn(since);
                    metrics::hedged(this.name(), which);
                    winner
                }
            };
            let mut rest = winner.into_stream();
            while let Some(event) = rest.next().await {
                yield event?;
            }
        })
    }
}

/// Waits for the first content of either; the other one is dropped. When both fail the
/// first one's error counts.
async fn race(
    mut first: Opening,
    mut second: Opening,
) -> Result<(&'static str, Opening), ChatError> {
    let (mut first_error, mut second_failed) = (None, false);
    loop {
        tokio::select! {
            biased;
            opened = first.next(), if first_error.is_none() => match opened {
                Opened::Waiting(_) => {}
                Opened::Begun => return Ok(("lost", first)),
                Opened::Failed(error) if second_failed => return Err(error),
                Opened::Failed(error) => first_error = Some(error),
            },
            opened = second.next(), if !second_failed => match opened {
                Opened::Waiting(_) => {}
                Opened::Begun => return Ok(("won", second)),
                Opened::Failed(error) => {
                    second_failed = true;
                    if first_error.is_some() {
                        return Err(first_error.unwrap_or(error));
                    }
                }
            },
        }
    }
}
