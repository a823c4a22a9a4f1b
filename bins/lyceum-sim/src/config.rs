//! What a simulated provider is told to be.
//!
//! Every default is the fastest, most generous provider: no latency, no quota, no fault.
//! Deliberately absent: files and environment; the command line and tests build the
//! values directly.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use crate::{fault::FaultRule, quota::Quotas, random, random::Purpose, script::Rule};

/// The settings of a simulated provider.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// From which all random decisions follow, together with a request's number.
    pub seed: u64,
    /// From a request's arrival to the first byte of its answer.
    pub first_token: Spread<Duration>,
    /// Between two tokens of an answer.
    pub per_token: Spread<Duration>,
    /// How long answers are, in tokens, before the request's own limit. `None` is their
    /// natural length: the echo or scripted text alone.
    pub output: Option<Spread<u64>>,
    /// The limits, kept apart for each API key and model.
    pub quotas: Quotas,
    /// Faults; the first rule that hits a request decides.
    pub faults: Vec<FaultRule>,
    /// Scripted answers; the first rule that fits a request decides.
    pub script: Vec<Rule>,
    /// The share of requests with tools on offer that are answered by a tool call, 0 to
    /// 1. A request that demands a call always gets one.
    pub tool_use: f64,
    /// The models that exist; empty means that any name does.
    pub models: Vec<String>,
    /// The API keys that are accepted; empty means that any key, or none, is.
    pub api_keys: Vec<String>,
    /// The length of an embedding where the request does not say.
    pub embedding_dimensions: usize,
    /// How many of the latest requests [`Running::requests`](crate::Running::requests)
    /// keeps.
    pub record: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 1,
            first_token: Spread::Fixed(Duration::ZERO),
            per_token: Spread::Fixed(Duration::ZERO),
            output: None,
            quotas: Quotas::default(),
            faults: Vec::new(),
            script: Vec::new(),
            tool_use: 0.0,
            models: Vec::new(),
            api_keys: Vec::new(),
            embedding_dimensions: 384,
            record: 0,
        }
    }
}

/// A value that is the same for every request or spread over them.
///
/// Written `V` or `p50=V,p99=V`, e.g. `300ms` or `p50=300ms,p99=2s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread<V> {
    /// Always this.
    Fixed(V),
    /// Log-normal, which is what measured latencies and lengths of answers look like.
    LogNormal {
        /// Half of the values are below it. Above zero.
        p50: V,
        /// 99 % of the values are below it. At least `p50`.
        p99: V,
    },
}

/// A quantity that can be spread.
pub trait Quantity: Copy + PartialOrd {
    /// The most that is ever sampled, so that no setting exhausts memory or the clock.
    const MOST: Self;
    /// As a number.
    fn to_f64(self) -> f64;
    /// From a number that is not negative.
    fn from_f64(value: f64) -> Self;
    /// From a setting's text.
    fn parse(text: &str) -> Option<Self>;
}

impl Quantity for Duration {
    const MOST: Self = Self::from_secs(24 * 60 * 60);
    fn to_f64(self) -> f64 {
        self.as_secs_f64()
    }
    fn from_f64(value: f64) -> Self {
        Self::try_from_secs_f64(value).unwrap_or(Self::MAX)
    }
    fn parse(text: &str) -> Option<Self> {
        parse_duration(text)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "lengths of answers are far below 2^53, and the cast saturates"
)]
impl Quantity for u64 {
    /// Above the longest answers that vendors allow (128,000 tokens).
    const MOST: Self = 200_000;
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn from_f64(value: f64) -> Self {
        value.round() as Self
    }
    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl<V: Quantity> Spread<V> {
    /// The value for one request.
    pub(crate) fn sample(&self, seed: u64, request: u64, purpose: Purpose) -> V {
        /// The standard normal distribution's quantile of 0.99.
        const Z99: f64 = 2.326_347_874;
        let value = match *self {
            Self::Fixed(value) => value,
            Self::LogNormal { p50, p99 } => {
                let sigma = (p99.to_f64() / p50.to_f64()).ln() / Z99;
                let z = random::normal(seed, request, purpose);
                V::from_f64(p50.to_f64() * (sigma * z).exp())
            }
        };
        if value > V::MOST { V::MOST } else { value }
    }
}

/// Why a setting's text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {text:?}: expected {expected}")]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// What it should look like.
    pub expected: &'static str,
}

impl<V: Quantity> FromStr for Spread<V> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let spread = match text.split_once(',') {
            None => V::parse(text).map(Self::Fixed),
            Some((p50, p99)) => p50
                .strip_prefix("p50=")
                .and_then(V::parse)
                .zip(p99.strip_prefix("p99=").and_then(V::parse))
                .filter(|(p50, p99)| p50.to_f64() > 0.0 && p50 <= p99)
                .map(|(p50, p99)| Self::LogNormal { p50, p99 }),
        };
        spread.ok_or_else(|| ParseError {
            text: text.to_owned(),
            expected: "a value or p50=VALUE,p99=VALUE with 0 < p50 <= p99; durations as 250us, 20ms, 1.5s, 2m",
        })
    }
}

impl<V: fmt::Debug> fmt::Display for Spread<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(value) => write!(f, "{value:?}"),
            Self::LogNormal { p50, p99 } => write!(f, "p50={p50:?},p99={p99:?}"),
        }
    }
}

/// Reads `250us`, `20ms`, `1.5s`, `2m` or a bare number of seconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * scale).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_are_read() {
        let spread = "p50=300ms,p99=2s".parse::<Spread<Duration>>().unwrap();
        let expected = Spread::LogNormal {
            p50: Duration::from_millis(300),
            p99: Duration::from_secs(2),
        };
        assert_eq!(spread, expected);
        assert_eq!("40".parse::<Spread<u64>>().unwrap(), Spread::Fixed(40));
        for wrong in ["", "fast", "p50=2s,p99=1s", "p50=0,p99=1", "1h", "p99=1s"] {
            assert!(wrong.parse::<Spread<Duration>>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn no_sample_passes_the_most() {
        let long = Spread::Fixed(u64::MAX);
        assert_eq!(long.sample(1, 1, Purpose::Length), u64::MOST);
        let slow: Spread<Duration> = "p50=1s,p99=100000000m".parse().unwrap();
        let samples = (0..1_000).map(|n| slow.sample(1, n, Purpose::FirstToken));
        assert_eq!(samples.max(), Some(Duration::MOST));
    }

    #[test]
    fn a_spread_meets_its_percentiles() {
        let spread = Spread::LogNormal {
            p50: 100_u64,
            p99: 1_000,
        };
        let mut sample: Vec<u64> = (0..20_000)
            .map(|request| spread.sample(3, request, Purpose::Length))
            .collect();
        sample.sort_unstable();
        assert!((95..=105).contains(&sample[10_000]), "{}", sample[10_000]);
        assert!(
            (850..=1_150).contains(&sample[19_800]),
            "{}",
            sample[19_800]
        );
    }
}
