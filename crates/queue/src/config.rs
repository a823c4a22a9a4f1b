//! What the upstream allows and how the queue behaves. Values only, no decisions.

use std::time::Duration;

/// What the upstream allows in any 60 seconds; a field left `None` is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Requests a minute.
    pub requests: Option<u64>,
    /// Input and output tokens together a minute, for upstreams that count them so.
    pub tokens: Option<u64>,
    /// Input tokens a minute.
    pub input_tokens: Option<u64>,
    /// Output tokens a minute.
    pub output_tokens: Option<u64>,
    /// Calls at one time, at least 1.
    pub concurrency: Option<u32>,
}

/// How the upstream counts input tokens that it read from its prompt cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CachedInput {
    /// Like all others.
    #[default]
    Counted,
    /// Not at all, as Anthropic does for most models.
    Free,
}

/// How the upstream counts output tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutputCounted {
    /// Nobody knows. The expected output is held until the call is settled, and what was
    /// made counts for a whole window after that: no window is exceeded whenever it is
    /// counted, as long as no call makes more than it reserved. It costs the share
    /// `call length / (call length + 60 s)` of the quota, until the upstream's headers
    /// ([`Queue::observe`](crate::Queue::observe)) have shown that it is [`Self::Made`] or
    /// [`Self::AtStart`]. Each refusal takes that back and makes it twice as hard to
    /// conclude again.
    #[default]
    Unknown,
    /// What is really made, but nobody knows whether at a call's start or at its end: both
    /// are kept. After a refusal it is [`Self::Unknown`].
    Made,
    /// What is really made, as it is made or when the call ends, as Anthropic does. The
    /// queue forecasts the window over the time that the calls in flight will take, so
    /// their output need not wait for room that will be free by the time they end.
    AtEnd,
    /// What will really be made, from the call's start on, as an upstream does that knows
    /// or foresees the length of its answers. The queue counts what it expects, keeps a
    /// margin for all calls in flight together, and corrects it when they end.
    ActualAtStart,
    /// What the request declares as its limit, at its start, and what was made from the
    /// moment the call ends, as OpenAI does. The whole of
    /// [`Estimate::output`](crate::Estimate) is reserved where it is a limit, so declare
    /// tight ones; what a call without a limit is expected to make.
    AtStart,
    /// What the request declares as its limit, at its start and for good: nothing is
    /// given back when less was made.
    Declared,
}

/// How a [`Queue`](crate::Queue) behaves. The defaults suit a hosted chat model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueueConfig {
    /// What the upstream allows.
    pub quotas: Quotas,
    /// How cached input is counted.
    pub cached_input: CachedInput,
    /// When output is counted.
    pub output_counted: OutputCounted,
    /// The most waiting calls; zero refuses every call that cannot start at once.
    /// Default 100,000.
    pub capacity: usize,
    /// By how much two calls' ways to the upstream may differ in length. Every window
    /// is kept this much longer than a minute. Default 500 ms; costs 0.8 % of the quota.
    pub jitter: Duration,
    /// The share of a minute's quota that an idle queue may send at once, 0 to 1;
    /// what follows a burst is spread evenly. Default 0.1.
    pub burst: f64,
    /// A band whose first call waited this long is served out of turn. Default 30 s.
    pub ageing: Duration,
    /// Of this many calls one goes to an aged lower band, at least 2. Default 8.
    pub aged_turn: u32,
    /// Whether estimates are corrected by what earlier calls of the same caller used.
    /// Default true.
    pub learn_estimates: bool,
    /// Whether, where no quota a minute is configured, few calls start at first, and one
    /// more with every answer, until headers tell the quotas. Default false.
    pub slow_start: bool,
    /// The pause after a refusal by the upstream that named none. Default 2 s.
    pub default_pause: Duration,
    /// How often a waiting call is told its place, at most. Default 500 ms.
    pub update_interval: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        Self {
            quotas: Quotas::default(),
            cached_input: CachedInput::default(),
            output_counted: OutputCounted::default(),
            capacity: 100_000,
            jitter: Duration::from_millis(500),
            burst: 0.1,
            ageing: Duration::from_secs(30),
            aged_turn: 8,
            learn_estimates: true,
            slow_start: false,
            default_pause: Duration::from_secs(2),
            update_interval: Duration::from_millis(500),
        }
    }
}

/// One kind of limit as an upstream's headers describe it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservedLimit {
    /// The limit itself, per minute.
    pub limit: Option<u64>,
    /// What is left of it now.
    pub remaining: Option<u64>,
    /// When it is whole again.
    pub reset: Option<Duration>,
}

/// What an answer's rate-limit headers said. Reading headers is the client's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ObservedLimits {
    /// Requests.
    pub requests: ObservedLimit,
    /// Input and output tokens together.
    pub tokens: ObservedLimit,
    /// Input tokens.
    pub input_tokens: ObservedLimit,
    /// Output tokens.
    pub output_tokens: ObservedLimit,
}
