//! How long a cache keeps what, and how much.

use std::time::Duration;

/// A cache's limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CacheConfig {
    /// The most memory for entries in this process, in bytes: their JSON, their keys and an
    /// estimate of what surrounds them. Default 64 MiB; zero keeps nothing in this process.
    pub max_bytes: u64,
    /// The largest value that is kept, in bytes of JSON. Default 1 MiB; at least 1.
    pub max_value_bytes: usize,
    /// How long a value is fresh. Default 1 h; 1 ms to 30 days.
    pub ttl: Duration,
    /// How much sooner a value may go, as a share of its time, so that what was put together
    /// does not go together. Default 0.1; 0 to 0.5.
    pub jitter: f64,
    /// How long after its time a value may still be given while a new one is fetched in the
    /// background. Default zero: never; at most 30 days.
    pub stale: Duration,
    /// How long the absence of a value is remembered. Default 30 s; zero: not at all.
    pub negative_ttl: Duration,
    /// How long a shared tier may take to answer a look-up or to store a value. Default
    /// 50 ms; 1 to 100 ms.
    pub shared_timeout: Duration,
    /// How long an invalidation in a shared tier may take altogether. Default 10 s; 1 ms to
    /// 5 min.
    pub sweep_timeout: Duration,
    /// How long the source may take. Default 30 s; 1 ms to 1 h.
    pub load_timeout: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_value_bytes: 1 << 20,
            ttl: Duration::from_secs(60 * 60),
            jitter: 0.1,
            stale: Duration::ZERO,
            negative_ttl: Duration::from_secs(30),
            shared_timeout: Duration::from_millis(50),
            sweep_timeout: Duration::from_secs(10),
            load_timeout: Duration::from_secs(30),
        }
    }
}

/// A limit outside its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("set the cache's {field}: it must be {range}")]
pub struct ConfigError {
    /// The field of [`CacheConfig`].
    pub field: &'static str,
    /// What it may be.
    pub range: &'static str,
}

const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const MILLISECOND: Duration = Duration::from_millis(1);

impl CacheConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let rules = [
            (
                (MILLISECOND..=MONTH).contains(&self.ttl),
                "ttl",
                "1 ms to 30 days",
            ),
            (
                (0.0..=0.5).contains(&self.jitter),
                "jitter",
                "from 0 to 0.5",
            ),
            (self.stale <= MONTH, "stale", "at most 30 days"),
            (
                self.negative_ttl <= MONTH,
                "negative_ttl",
                "at most 30 days",
            ),
            (
                (MILLISECOND..=Duration::from_millis(100)).contains(&self.shared_timeout),
                "shared_timeout",
                "1 to 100 ms",
            ),
            (
                (MILLISECOND..=Duration::from_secs(300)).contains(&self.sweep_timeout),
                "sweep_timeout",
                "1 ms to 5 min",
            ),
            (
                (MILLISECOND..=Duration::from_secs(3600)).contains(&self.load_timeout),
                "load_timeout",
                "1 ms to 1 h",
            ),
            (
                self.max_value_bytes > 0,
                "max_value_bytes",
                "at least one byte",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, field, range)) => Err(ConfigError { field, range }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_legal_and_a_slow_tier_is_not() {
        assert_eq!(CacheConfig::default().check(), Ok(()));
        let slow = CacheConfig {
            shared_timeout: Duration::from_secs(1),
            ..CacheConfig::default()
        };
        assert_eq!(slow.check().unwrap_err().field, "shared_timeout");
        let nan = CacheConfig {
            jitter: f64::NAN,
            ..CacheConfig::default()
        };
        assert_eq!(nan.check().unwrap_err().field, "jitter");
    }
}
