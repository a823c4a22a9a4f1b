//! The headers in which vendors report their limits.
//!
//! Sources: OpenAI "Rate limits in headers" (durations such as `1s` or `6m0s`);
//! Anthropic "Rate limits, response headers" (instants as RFC 3339); RFC 9110 section
//! 10.2.3 for `retry-after`. Each reset is the time until the window is empty.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Dialect;
use crate::quota::{Level, Limit, Meter};

/// Adds the vendor's headers for every limit that is set.
pub(crate) fn add(headers: &mut HeaderMap, dialect: Dialect, meter: &mut Meter, now: Instant) {
    match dialect {
        Dialect::OpenAi => {
            if let Some(level) = meter.level(now, Limit::Requests) {
                open_ai(headers, level, OPEN_AI_REQUESTS);
            }
            // OpenAI has one count of tokens, and no headers for a limit of input alone.
            if let Some(level) = meter.level(now, Limit::TotalTokens) {
                open_ai(headers, level, OPEN_AI_TOKENS);
            }
        }
        Dialect::Anthropic => {
            for (limit, names) in ANTHROPIC {
                if let Some(level) = meter.level(now, limit) {
                    anthropic(headers, level, names);
                }
            }
        }
    }
}

/// Adds `retry-after` in whole seconds, rounded up.
pub(crate) fn add_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    headers.insert(http::header::RETRY_AFTER, seconds.into());
}

/// A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`.
pub(crate) fn short(wait: Duration) -> String {
    let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match rest % 1_000 {
        0 => format!("{}s", rest / 1_000),
        fraction => format!("{}.{fraction:03}s", rest / 1_000),
    };
    match minutes {
        0 => seconds,
        _ => format!("{minutes}m{seconds}"),
    }
}

/// The names of a limit, what remains, and its reset.
type Names = [HeaderName; 3];

const OPEN_AI_REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];

const OPEN_AI_TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

const ANTHROPIC: [(Limit, Names); 4] = [
    (
        Limit::Requests,
        [
            HeaderName::from_static("anthropic-ratelimit-requests-limit"),
            HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
            HeaderName::from_static("anthropic-ratelimit-requests-reset"),
        ],
    ),
    (
        Limit::InputTokens,
        [
            HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
            HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
        ],
    ),
    (
        Limit::OutputTokens,
        [
            HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
            HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
        ],
    ),
    (
        Limit::TotalTokens,
        [
            HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
            HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
            HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
        ],
    ),
];

fn open_ai(headers: &mut HeaderMap, level: Level, names: Names) {
    let [limit, remaining, reset] = names;
    headers.insert(limit, level.limit.into());
    headers.insert(remaining, level.remaining.into());
    if let Ok(value) = HeaderValue::from_str(&short(level.reset)) {
        headers.insert(reset, value);
    }
}

fn anthropic(headers: &mut HeaderMap, level: Level, names: Names) {
    let [limit, remaining, reset] = names;
    headers.insert(limit, level.limit.into());
    headers.insert(remaining, level.remaining.into());
    let at = OffsetDateTime::now_utc() + level.reset;
    let at = at.replace_nanosecond(0).unwrap_or(at);
    if let Some(value) = at
        .format(&Rfc3339)
        .ok()
        .and_then(|at| HeaderValue::try_from(at).ok())
    {
        headers.insert(reset, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_vendor_writes_them() {
        let cases = [
            (0, "0ms"),
            (12, "12ms"),
            (1_000, "1s"),
            (1_500, "1.500s"),
            (360_000, "6m0s"),
            (61_020, "1m1.020s"),
        ];
        for (millis, expected) in cases {
            assert_eq!(short(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn retry_after_is_never_too_early() {
        let mut headers = HeaderMap::new();
        add_retry_after(&mut headers, Duration::from_millis(1_001));
        assert_eq!(headers[http::header::RETRY_AFTER], "2");
    }
}
