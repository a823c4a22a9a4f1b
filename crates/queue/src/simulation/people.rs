//! People who wait for whole answers: each asks, waits until the last call of the answer is
//! done, reads, and asks again.
//!
//! The load follows from the answers, as with real people: who waits does not ask. Every
//! endpoint has a queue of its own, the one of production, and a call goes to the less busy
//! of two drawn at random, as `lyceum-llm` balances. Deterministic for a seed. Deliberately
//! absent: failures of the upstream, and several processes that share one quota.

mod run;

use std::time::Duration;

use crate::QueueConfig;

/// What people ask for, and what the upstream is like.
#[derive(Debug, Clone, PartialEq)]
pub struct People {
    /// How many there are at one time, at least 1.
    pub people: u32,
    /// How long each reads before the next question, on average (exponential).
    pub think: Duration,
    /// The shares of answers of one, two and three rounds; they need not add up to 1.
    pub rounds: [f64; 3],
    /// The calls of a round, at least 1. The third has high priority, as the panel's host.
    pub calls: u32,
    /// The share of a call's output after which the next call of its round begins, 0 to 1.
    pub overlap: f64,
    /// The mean number of input tokens of a call, uniform from half to one and a half.
    pub input: u64,
    /// The mean number of output tokens, exponential, cut at `max_output`.
    pub output: u64,
    /// The most output tokens, as the callers declare them.
    pub max_output: u64,
    /// From a call's arrival at the upstream to its first token.
    pub first_token: Duration,
    /// Output tokens a second after it.
    pub speed: f64,
    /// The longest way to the upstream, and back from it, uniform from zero.
    pub way: Duration,
    /// The share of calls that a cache answers at once, 0 to 1.
    pub cached: f64,
    /// The share of answers that begin with tools, 0 to 1.
    pub tools: f64,
    /// How long these tools take together.
    pub tool_time: Duration,
    /// After which an answer has failed whose calls do not all run.
    pub patience: Duration,
    /// How many endpoints there are, each with the whole quota; at least 1.
    pub endpoints: u32,
    /// The seed of all randomness.
    pub seed: u64,
}

impl Default for People {
    /// 500 people before a panel of four, answers of two rounds on average, three calls to
    /// tools in 30 % of them.
    fn default() -> Self {
        Self {
            people: 500,
            think: Duration::from_secs(20),
            rounds: [1.0, 1.0, 1.0],
            calls: 4,
            overlap: 0.3,
            input: 1_200,
            output: 300,
            max_output: 1_024,
            first_token: Duration::from_millis(500),
            speed: 80.0,
            way: Duration::from_millis(400),
            cached: 0.0,
            tools: 0.3,
            tool_time: Duration::from_secs(3),
            patience: Duration::from_secs(120),
            endpoints: 1,
            seed: 1,
        }
    }
}

/// What came of it, from the end of the warm-up on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// Answers that were completed.
    pub answers: u64,
    /// Answers of which a call was refused or waited longer than the patience.
    pub failed: u64,
    /// The mean time of completed answers, from the question to the last call's end.
    pub average: Duration,
    /// The time that half of them did not exceed.
    pub p50: Duration,
    /// The time that 95 % of them did not exceed.
    pub p95: Duration,
    /// The time that 99 % of them did not exceed.
    pub p99: Duration,
    /// Completed answers a minute.
    pub answers_per_minute: f64,
    /// Calls a minute that went to the upstream.
    pub calls_per_minute: f64,
    /// The wait that half of the calls did not exceed.
    pub wait_p50: Duration,
    /// The wait that 99 % of the calls did not exceed.
    pub wait_p99: Duration,
    /// How many calls waited in all queues together, on average.
    pub waiting: f64,
    /// How many calls were at the upstream, on average.
    pub running: f64,
    /// How many answers were under way, on average.
    pub under_way: f64,
    /// How full the fullest quota of a minute was on average, over all endpoints, 0 to 1.
    pub quota_used: f64,
    /// Calls that arrived when an upstream's sliding minute had no room for them.
    pub violations: u64,
}

/// Lets people ask for `warm_up` and then for `length` of virtual time, which is measured.
///
/// ```
/// use std::time::Duration;
/// use lyceum_queue::{QueueConfig, Quotas, simulation::{People, serve}};
///
/// let quotas = Quotas { requests: Some(500), concurrency: Some(50), ..Quotas::default() };
/// let config = QueueConfig { quotas, ..QueueConfig::default() };
/// let people = People { people: 20, ..People::default() };
/// let minute = Duration::from_secs(60);
/// let outcome = serve(config, &people, minute, 2 * minute);
/// assert_eq!((outcome.violations, outcome.failed), (0, 0));
/// assert!(outcome.average < minute);
/// ```
#[must_use]
pub fn serve(config: QueueConfig, people: &People, warm_up: Duration, length: Duration) -> Outcome {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let from = nanos(warm_up);
    let to = from.saturating_add(nanos(length));
    let mut run = run::Run::new(config, people, from, to);
    run.until_the_end();
    run.outcome()
}
