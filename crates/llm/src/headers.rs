//! What a provider's answer says about waiting and quotas in its headers.
//!
//! Pure. Sources: RFC 9110 §10.2.3 (`retry-after`), OpenAI "Rate limits" and Anthropic
//! "Rate limits" (API documentation, the sections on response headers). A header that
//! cannot be read counts as absent: limits are advice, an answer never fails for them.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use lyceum_queue::{ObservedLimit, ObservedLimits};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The longest wait that is believed. Longer ones are cut to it.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The headers of one answer, read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateHeaders {
    /// When to come back (`retry-after-ms`, `retry-after`).
    pub retry_after: Option<Duration>,
    /// The quotas (`x-ratelimit-*`, `anthropic-ratelimit-*`).
    pub limits: ObservedLimits,
}

impl RateHeaders {
    /// Reads the headers of an answer. Moments are compared with its own `date` header,
    /// so that a wrong clock on this machine does no harm, else with `now`.
    #[must_use]
    pub fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let clock = Clock { headers, now };
        Self {
            retry_after: retry_after(headers, &clock),
            limits: limits(headers, &clock),
        }
    }
}

/// The time at which the answer was sent, read only when it is needed.
struct Clock<'a> {
    headers: &'a HeaderMap,
    now: SystemTime,
}

impl Clock<'_> {
    fn until(&self, moment: SystemTime) -> Duration {
        let sent = text(self.headers, "date")
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or(self.now);
        moment.duration_since(sent).unwrap_or_default().min(LONGEST)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn retry_after(headers: &HeaderMap, clock: &Clock<'_>) -> Option<Duration> {
    if let Some(millis) = text(headers, "retry-after-ms").and_then(|text| seconds(text, 1e-3)) {
        return Some(millis);
    }
    let value = text(headers, "retry-after")?;
    seconds(value, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(value).ok()?;
        Some(clock.until(date))
    })
}

/// A plain number of units of `unit` seconds each.
fn seconds(text: &str, unit: f64) -> Option<Duration> {
    let number: f64 = text.parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    Some(Duration::from_secs_f64(
        (number * unit).min(LONGEST.as_secs_f64()),
    ))
}

fn limits(headers: &HeaderMap, clock: &Clock<'_>) -> ObservedLimits {
    let openai = |kind: [&str; 3]| ObservedLimit {
        limit: number(headers, kind[0]),
        remaining: number(headers, kind[1]),
        reset: text(headers, kind[2]).and_then(span),
    };
    let anthropic = |kind: [&str; 3]| ObservedLimit {
        limit: number(headers, kind[0]),
        remaining: number(headers, kind[1]),
        reset: text(headers, kind[2])
            .and_then(|moment| OffsetDateTime::parse(moment, &Rfc3339).ok())
            .map(|moment| clock.until(moment.into())),
    };
    if headers.contains_key("anthropic-ratelimit-requests-limit")
        || headers.contains_key("anthropic-ratelimit-input-tokens-limit")
    {
        let input_tokens = anthropic([
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ]);
        // `anthropic-ratelimit-tokens-*` repeats the most restrictive of the limits in
        // force, so it is no quota of its own and is not read.
        return ObservedLimits {
            requests: anthropic([
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ]),
            tokens: ObservedLimit::default(),
            input_tokens,
            output_tokens: anthropic([
                "anthropic-ratelimit-output-tokens-limit",
                "anthropic-ratelimit-output-tokens-remaining",
                "anthropic-ratelimit-output-tokens-reset",
            ]),
        };
    }
    ObservedLimits {
        requests: openai([
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ]),
        tokens: openai([
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ]),
        ..ObservedLimits::default()
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// A span such as `6m0s`, `1h2m3.5s`, `20ms`, or a plain number of seconds.
fn span(text: &str) -> Option<Duration> {
    if let Some(plain) = seconds(text, 1.0) {
        return Some(plain);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total = total.saturating_add(seconds(number, unit)?);
        rest = tail;
    }
    (!text.is_empty()).then_some(total.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn read(pairs: &[(&'static str, &'static str)]) -> RateHeaders {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        RateHeaders::read(&headers, SystemTime::UNIX_EPOCH)
    }

    fn wait(pairs: &[(&'static str, &'static str)]) -> Option<Duration> {
        read(pairs).retry_after
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn every_form_of_retry_after_is_read() {
        assert_eq!(wait(&[("retry-after", "107")]), Some(107 * SECOND));
        assert_eq!(wait(&[("retry-after", "0.5")]), Some(SECOND / 2));
        let both = [("retry-after", "2"), ("retry-after-ms", "1500")];
        assert_eq!(wait(&both), Some(SECOND * 3 / 2));
        let date = [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"),
        ];
        assert_eq!(wait(&date), Some(30 * SECOND));
        let past = [
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"),
        ];
        assert_eq!(wait(&past), Some(Duration::ZERO));
    }

    #[test]
    fn nonsense_counts_as_absent_and_huge_waits_are_cut() {
        for value in ["soon", "-1", "NaN", "inf", ""] {
            assert_eq!(wait(&[("retry-after", value)]), None, "{value}");
        }
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(LONGEST));
        let limits = read(&[("x-ratelimit-limit-requests", "many")]).limits;
        assert_eq!(limits, ObservedLimits::default());
    }

    #[test]
    fn spans_of_the_openai_dialect() {
        assert_eq!(span("6m0s"), Some(360 * SECOND));
        assert_eq!(span("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(span("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(span("8.64"), Some(Duration::from_millis(8_640)));
        for nonsense in ["", "m", "5", "5x", "1s2", "1.2.3s"] {
            let expected = (nonsense == "5").then_some(5 * SECOND);
            assert_eq!(span(nonsense), expected, "{nonsense}");
        }
    }

    #[test]
    fn the_quotas_of_both_dialects() {
        let limits = read(&[
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-remaining-requests", "499"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-tokens", "29000"),
            ("x-ratelimit-reset-tokens", "2s"),
        ])
        .limits;
        assert_eq!(limits.requests.limit, Some(500));
        assert_eq!(limits.requests.reset, Some(Duration::from_millis(120)));
        assert_eq!(limits.tokens.remaining, Some(29_000));

        let limits = read(&[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:39Z"),
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
            ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            ("anthropic-ratelimit-tokens-limit", "40000"),
        ])
        .limits;
        assert_eq!(limits.requests.reset, Some(2 * SECOND));
        assert_eq!(limits.input_tokens.limit, Some(40_000));
        assert_eq!(limits.output_tokens.remaining, Some(8_000));
        assert_eq!(limits.tokens, ObservedLimit::default());
    }
}
