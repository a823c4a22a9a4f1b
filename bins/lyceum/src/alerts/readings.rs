//! What the alerts look at, read from the process' own metrics.
//!
//! Invariant: rates and averages are those of the last ten minutes, or of the process'
//! life if it is shorter; too few events give no reading.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Dollars of this day.
pub(super) const DAILY_COST: &str = "daily_cost";
/// Share of lookups that the answer cache served.
pub(super) const CACHE_HIT_RATE: &str = "cache_hit_rate";
/// Seconds.
pub(super) const AVERAGE_RESPONSE: &str = "average_response";
/// Calls beyond 150,000 tokens.
pub(super) const LARGE_REQUESTS: &str = "large_requests";
/// Requests beyond `cost.alert_request_usd`.
pub(super) const COSTLY_REQUESTS: &str = "costly_requests";

const WINDOW: Duration = Duration::from_secs(600);

/// Fewer events say nothing about a rate or an average.
const FEWEST: f64 = 20.0;

/// Routes that say nothing about answers.
const PROBES: [&str; 8] = [
    "/metrics",
    "/api/metrics",
    "/health",
    "/api/health",
    "/livez",
    "/readyz",
    "/startupz",
    "/assets",
];

/// The counters of one moment.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    cost_today: f64,
    lookups: f64,
    hits: f64,
    answers: f64,
    answer_seconds: f64,
    large: f64,
    costly: f64,
}

/// The moments of the window, oldest first.
#[derive(Debug, Default)]
pub(super) struct Readings(VecDeque<(Instant, Counters)>);

impl Readings {
    /// Takes the scrape of a moment and gives the readings by rule name.
    pub(super) fn take(
        &mut self,
        now: Instant,
        scrape: &str,
    ) -> impl Fn(&str) -> Option<f64> + use<> {
        let latest = Counters::read(scrape);
        // The newest moment that is a whole window old stays, as the point to count from.
        while self
            .0
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW)
        {
            self.0.pop_front();
        }
        let first = self.0.front().map_or_else(Counters::default, |(_, c)| *c);
        self.0.push_back((now, latest));
        move |name| match name {
            DAILY_COST => Some(latest.cost_today),
            CACHE_HIT_RATE => ratio(latest.hits - first.hits, latest.lookups - first.lookups),
            AVERAGE_RESPONSE => ratio(
                latest.answer_seconds - first.answer_seconds,
                latest.answers - first.answers,
            ),
            LARGE_REQUESTS => Some(latest.large - first.large),
            COSTLY_REQUESTS => Some(latest.costly - first.costly),
            _ => None,
        }
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole >= FEWEST).then(|| part / whole)
}

impl Counters {
    fn read(scrape: &str) -> Self {
        let mut counters = Self::default();
        for line in scrape.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let Ok(value) = value.parse::<f64>() else {
                continue;
            };
            let sum = match name {
                "llm_cost_today_dollars" => &mut counters.cost_today,
                "llm_large_requests_total" => &mut counters.large,
                "llm_cost_alerts_total" => &mut counters.costly,
                "llm_cache_lookups_total" => {
                    if !labels.contains("outcome=\"miss\"") {
                        counters.hits += value;
                    }
                    &mut counters.lookups
                }
                "api_request_duration_seconds_sum" if !is_probe(labels) => {
                    &mut counters.answer_seconds
                }
                "api_request_duration_seconds_count" if !is_probe(labels) => &mut counters.answers,
                _ => continue,
            };
            *sum += value;
        }
        counters
    }
}

fn is_probe(labels: &str) -> bool {
    let endpoint = labels
        .split_once("endpoint=\"")
        .map_or("", |(_, rest)| rest);
    let endpoint = endpoint.split('"').next().unwrap_or_default();
    PROBES.contains(&endpoint) || endpoint.starts_with("/assets/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(hits: u32, misses: u32, seconds: f64, answers: u32) -> String {
        format!(
            "# TYPE llm_cache_lookups_total counter\n\
             llm_cache_lookups_total{{outcome=\"exact\"}} {hits}\n\
             llm_cache_lookups_total{{outcome=\"miss\"}} {misses}\n\
             api_request_duration_seconds_sum{{method=\"POST\",endpoint=\"/chat\"}} {seconds}\n\
             api_request_duration_seconds_count{{method=\"POST\",endpoint=\"/chat\"}} {answers}\n\
             api_request_duration_seconds_sum{{method=\"GET\",endpoint=\"/metrics\"}} 0.01\n\
             api_request_duration_seconds_count{{method=\"GET\",endpoint=\"/metrics\"}} 1000\n\
             llm_cost_today_dollars 3.5\n"
        )
    }

    #[test]
    fn rates_are_those_of_the_window() {
        let (mut readings, start) = (Readings::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let read = readings.take(at(0), &scrape(5, 5, 10.0, 10));
        assert_eq!(read(CACHE_HIT_RATE), None, "ten lookups are too few");
        assert_eq!(read(DAILY_COST), Some(3.5));
        let read = readings.take(at(300), &scrape(5, 25, 50.0, 20));
        assert_eq!(
            read(CACHE_HIT_RATE),
            Some(0.0),
            "what was before the start of the window"
        );
        let read = readings.take(at(600), &scrape(35, 25, 250.0, 50));
        assert_eq!(read(CACHE_HIT_RATE), Some(0.6));
        assert_eq!(read(AVERAGE_RESPONSE), Some(6.0));
        let read = readings.take(at(900), &scrape(65, 25, 250.0, 70));
        assert_eq!(read(CACHE_HIT_RATE), Some(1.0));
        assert_eq!(read("unknown"), None);
    }
}
