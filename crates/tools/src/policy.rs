//! What an operator demands of one tool. Values only, no decisions.

use std::time::Duration;

use lyceum_core::{Approval, Audience};
use lyceum_queue::{BreakerConfig, RetryPolicy};

/// The most characters of a result that go back to a model.
const MAX_RESULT_CHARS: usize = 4_000;

/// How one tool is called: how often, how long, what is kept, what happens when it fails.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolPolicy {
    /// Calls running at once, at least 1. Default 100.
    pub max_concurrent: u32,
    /// Calls that start in any 60 seconds; those beyond wait in order, up to the time-out.
    /// Default: no limit.
    pub max_per_minute: Option<u64>,
    /// Calls that may wait; more are refused at once. Default 10,000.
    pub max_waiting: usize,
    /// How long a call may take, waiting and repeating included. Default 10 s.
    pub timeout: Duration,
    /// The most characters of a result. Default 4,000.
    pub max_chars: usize,
    /// Which results are given again. Default: none. Only results of tools that
    /// [read](lyceum_core::Effect::Reads) are kept, whatever stands here.
    pub cache: Option<CachePolicy>,
    /// When the tool is left alone because it keeps failing. Default: after 5 failures in
    /// a row, for 60 s. `None`: never, for tools whose failures say nothing about the next
    /// call.
    pub breaker: Option<BreakerConfig>,
    /// When a call that failed in a way that may pass is made again, where the tool's
    /// [`Effect`](lyceum_core::Effect) allows it. Default: once more, after 0.2 to 0.4 s;
    /// such calls stay below a fifth of all. `None`: never.
    pub retry: Option<RetryPolicy>,
    /// What is answered, marked as degraded, when the tool fails and nothing older is
    /// kept. Default: none, the error is.
    pub default_result: Option<String>,
    /// Whether a person must agree to every call, even where the tool does not ask for it.
    pub approval: Approval,
}

impl Default for ToolPolicy {
    fn default() -> Self {
        let retry = RetryPolicy {
            attempts: 2,
            min: Duration::from_millis(200),
            max: Duration::from_secs(1),
        };
        Self {
            max_concurrent: 100,
            max_per_minute: None,
            max_waiting: 10_000,
            timeout: Duration::from_secs(10),
            max_chars: MAX_RESULT_CHARS,
            cache: None,
            breaker: Some(BreakerConfig::default()),
            retry: Some(retry),
            default_result: None,
            approval: Approval::NotNeeded,
        }
    }
}

/// Which results are given again, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// How old a result may be. Default 600 s.
    pub ttl: Duration,
    /// How much older it may be when the tool fails, then marked as degraded. Default 1 h.
    pub stale: Duration,
    /// Which calls are the same. Default: those with equal parameters.
    pub key: KeyStrategy,
    /// Who may be given the results of others. A tool's own
    /// [`audience`](lyceum_core::ToolTraits::audience) is never widened, only narrowed.
    /// Default [`Audience::Public`], which is the tool's own.
    pub audience: Audience,
    /// The most memory of results, in bytes; the one not used for longest goes first.
    /// Default 8 MiB.
    pub max_bytes: usize,
    /// Which results are renewed before they are too old. Default: none.
    pub warm: Option<WarmPolicy>,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(600),
            stale: Duration::from_secs(3_600),
            key: KeyStrategy::default(),
            audience: Audience::Public,
            max_bytes: 8 << 20,
            warm: None,
        }
    }
}

/// Which parameters tell calls apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyStrategy {
    /// All of them; the order of an object's fields does not matter.
    #[default]
    All,
    /// These fields of the arguments.
    Chosen(Vec<String>),
    /// None: every call has the same result.
    None,
}

/// How hot queries are kept warm. Only results for [`Audience::Public`] are: nobody's own
/// question is asked again without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmPolicy {
    /// How often the results are looked through. Default 5 min.
    pub every: Duration,
    /// How many are renewed at a time, those asked for most first. Default 20.
    pub hottest: usize,
}

impl Default for WarmPolicy {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(300),
            hottest: 20,
        }
    }
}
