//! The configuration of the model layer around the providers: balancing, breaker,
//! retries, hedging, fallback, the answer cache and budgets.

use std::{path::PathBuf, time::Duration};

use lyceum_core::MicroUsd;
use lyceum_llm::{
    AnswerCacheConfig, Budgets, CachePolicy, HedgeConfig, HedgeDelay, RateLimits, SemanticConfig,
    Strategy,
};
use lyceum_queue::{BreakerConfig, RetryPolicy};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Model, Queue, masked};

/// One `[[model.endpoints]]`: another key or address of the same model.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Endpoint {
    /// The address of the API. Default: the model's.
    pub base_url: Option<String>,
    /// The key. Default: the model's.
    #[serde(serialize_with = "masked")]
    pub api_key: Option<SecretString>,
    /// The variable that holds the key, e.g. `OPENAI_API_KEY_2`.
    pub api_key_env: Option<String>,
    /// Its share compared with the others, the model itself having 1. Default 1; 1 to 1000.
    pub weight: u32,
    /// Its price compared with the others, the model itself having 0, for the strategy
    /// `cheapest`. Default 0.
    pub price: u64,
    /// Its quota. Default: a queue of its own with the same limits as the model's.
    pub queue: Option<Queue>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            base_url: None,
            api_key: None,
            api_key_env: None,
            weight: 1,
            price: 0,
            queue: None,
        }
    }
}

/// `[balance]`: how calls are spread over the endpoints of one model.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Balance {
    /// `peak_ewma` (default), `weighted`, `least_busy` or `cheapest`.
    pub strategy: Balancing,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Balancing {
    /// The better of two by recent first-token time and load.
    #[default]
    PeakEwma,
    /// In turn, by weight.
    Weighted,
    /// The fewest running calls.
    LeastBusy,
    /// The lowest price.
    Cheapest,
}

impl Balancing {
    pub(crate) fn strategy(self) -> Strategy {
        match self {
            Self::PeakEwma => Strategy::PeakEwma,
            Self::Weighted => Strategy::Weighted,
            Self::LeastBusy => Strategy::LeastBusy,
            Self::Cheapest => Strategy::Cheapest,
        }
    }
}

/// `[breaker]`: when an endpoint that keeps failing is left alone.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    /// Failures in a row that open it. Default 5; 1 to 1000.
    pub failures: u32,
    /// How long it stays open, in seconds. Default 60; 1 to 3600.
    pub open_seconds: u64,
    /// Calls that must succeed before it closes. Default 1; 1 to 100.
    pub probes: u32,
    /// Whether refusals for rate (429) count as failures. Default false: the queue slows
    /// down instead.
    pub count_rate_limits: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        let default = BreakerConfig::default();
        Self {
            failures: default.failures,
            open_seconds: default.open_for.as_secs(),
            probes: default.probes,
            count_rate_limits: false,
        }
    }
}

impl Breaker {
    pub(crate) fn config(self) -> BreakerConfig {
        BreakerConfig {
            failures: self.failures,
            open_for: Duration::from_secs(self.open_seconds),
            probes: self.probes,
        }
    }

    pub(crate) fn rate_limits(self) -> RateLimits {
        match self.count_rate_limits {
            true => RateLimits::Counted,
            false => RateLimits::Ignored,
        }
    }
}

/// `[retry]`: when a failed call is made again.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Retry {
    /// Attempts in all. Default 3; 1 makes no retries; 1 to 10.
    pub attempts: u32,
    /// The shortest wait, in seconds. Default 2; 0 to 600.
    pub min_seconds: u64,
    /// The longest wait unless the provider asks for more, in seconds. Default 10; 0 to 600.
    pub max_seconds: u64,
    /// Retries as a share of all calls. Default 0.2; 0 to 1.
    pub budget: f64,
}

impl Default for Retry {
    fn default() -> Self {
        let default = RetryPolicy::default();
        Self {
            attempts: default.attempts,
            min_seconds: default.min.as_secs(),
            max_seconds: default.max.as_secs(),
            budget: 0.2,
        }
    }
}

impl Retry {
    pub(crate) fn policy(self) -> RetryPolicy {
        RetryPolicy {
            attempts: self.attempts,
            min: Duration::from_secs(self.min_seconds),
            max: Duration::from_secs(self.max_seconds.max(self.min_seconds)),
        }
    }
}

/// `[hedge]`: a second attempt beside a slow one.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hedge {
    /// Whether slow calls get a second attempt. Default false: it costs tokens.
    pub enabled: bool,
    /// After how many seconds without a first token. Default: the 95th percentile of recent
    /// calls, at least 1 s. 0 to 600.
    pub delay_seconds: Option<f64>,
    /// Second attempts as a share of all calls. Default 0.05; 0 to 1.
    pub max_share: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            enabled: false,
            delay_seconds: None,
            max_share: HedgeConfig::default().max_share,
        }
    }
}

impl Hedge {
    pub(crate) fn config(self) -> Option<HedgeConfig> {
        let delay = match self.delay_seconds {
            Some(seconds) => HedgeDelay::Fixed(Duration::from_secs_f64(seconds)),
            None => HedgeConfig::default().delay,
        };
        self.enabled.then_some(HedgeConfig {
            delay,
            max_share: self.max_share,
        })
    }
}

/// `[fallback]`: who answers when the model cannot.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fallback {
    /// A fixed answer when no model can be reached. Default: none, the caller gets the error.
    pub degraded_answer: Option<String>,
    /// The models asked in order after `[model]`, each written as `[model]` is.
    pub models: Vec<Model>,
}

/// `[cache]`: answers that are given again, within a tenant.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cache {
    /// `off`, `asked` (default): requests that ask for it; `deterministic`: those of
    /// temperature zero without tools too; `all`: all without tools.
    pub mode: CacheMode,
    /// How old an answer may be, in seconds. Default 300; 1 to 86,400.
    pub ttl_seconds: u64,
    /// How old it may be while the provider is in trouble, in seconds. Default 1800; 1 to
    /// 86,400.
    pub trouble_ttl_seconds: u64,
    /// The most memory for answers, in MiB. Default 64; 1 to 65,536.
    pub max_mib: usize,
    /// Whether processes share answers through the server of `[redis]`, each tenant its own.
    /// Default false.
    pub shared: bool,
    /// The embedding model by which questions of the same meaning are found. Default: none,
    /// a question must be the same to the letter.
    pub semantic: Option<String>,
    /// The least cosine of two questions that mean the same. It depends on the embedding
    /// model. Default 0.95; above 0, to 1.
    pub semantic_threshold: f32,
}

/// Which requests may be answered from the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CacheMode {
    /// None.
    Off,
    /// Those that ask for it.
    #[default]
    Asked,
    /// Those of temperature zero without tools too.
    Deterministic,
    /// All without tools.
    All,
}

impl Default for Cache {
    fn default() -> Self {
        let default = AnswerCacheConfig::default();
        Self {
            mode: CacheMode::default(),
            ttl_seconds: default.lifetime.as_secs(),
            trouble_ttl_seconds: default.trouble_lifetime.as_secs(),
            max_mib: 64,
            shared: false,
            semantic: None,
            semantic_threshold: SemanticConfig::default().threshold,
        }
    }
}

impl Cache {
    /// How questions are compared.
    pub(crate) fn likeness(&self) -> SemanticConfig {
        SemanticConfig {
            threshold: self.semantic_threshold,
            ..SemanticConfig::default()
        }
    }

    /// `None` when there is none.
    pub(crate) fn config(&self) -> Option<AnswerCacheConfig> {
        let policy = match self.mode {
            CacheMode::Off => return None,
            CacheMode::Asked => CachePolicy::Asked,
            CacheMode::Deterministic => CachePolicy::Deterministic,
            CacheMode::All => CachePolicy::All,
        };
        Some(AnswerCacheConfig {
            policy,
            lifetime: Duration::from_secs(self.ttl_seconds),
            trouble_lifetime: Duration::from_secs(self.trouble_ttl_seconds),
        })
    }
}

/// `[cost]`: prices and budgets, in US dollars. Days are those of UTC; an unset budget
/// does not apply.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cost {
    /// A TOML file whose prices take the place of the built-in ones.
    pub prices: Option<PathBuf>,
    /// What everybody together may spend in a day. Default: no limit.
    pub daily_usd: Option<f64>,
    /// What one tenant may spend in a day. Default: no limit.
    pub tenant_daily_usd: Option<f64>,
    /// What one session may spend. Default: no limit.
    pub session_usd: Option<f64>,
    /// From which cost on a request is logged and counted as an alert. Default 1.
    pub alert_request_usd: f64,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            prices: None,
            daily_usd: None,
            tenant_daily_usd: None,
            session_usd: None,
            alert_request_usd: 1.0,
        }
    }
}

impl Cost {
    pub(crate) fn budgets(&self) -> Budgets {
        let micro = |dollars: f64| MicroUsd((dollars * 1e6).round() as u64);
        Budgets {
            day: self.daily_usd.map(micro),
            tenant_day: self.tenant_daily_usd.map(micro),
            session: self.session_usd.map(micro),
            alert: micro(self.alert_request_usd),
        }
    }
}
