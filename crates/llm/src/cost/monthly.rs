//! What a month will cost, with and without caching. Pure arithmetic.

use serde::Serialize;

use super::{PicoUsd, Price};

/// What is asked of a model in a month.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Workload {
    /// People.
    pub users: u64,
    /// Calls that each makes in a day.
    pub calls_per_user: u64,
    /// Days in the month.
    pub days: u64,
    /// Input tokens of a call.
    pub input_tokens: u64,
    /// Output tokens of a call.
    pub output_tokens: u64,
    /// The share of calls answered from the answer cache, 0 to 1.
    pub cache_hit_rate: f64,
    /// The share of input tokens that the provider reads from its prompt cache, 0 to 1.
    pub prompt_cache_rate: f64,
}

/// A month's calls, tokens and cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Month {
    /// Calls that reach the provider.
    pub calls: u64,
    /// Their input tokens.
    pub input_tokens: u64,
    /// Their output tokens.
    pub output_tokens: u64,
    /// What they cost.
    pub cost: PicoUsd,
}

/// A month before and after caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MonthlyEstimate {
    /// Every call at the full price.
    pub before: Month,
    /// With answers from the cache, and input from the provider's prompt cache.
    pub after: Month,
}

impl MonthlyEstimate {
    /// What a workload costs at a price. Calls and tokens are rounded to whole ones before
    /// they are priced; writing the prompt cache is not counted.
    #[must_use]
    pub fn new(work: &Workload, price: &Price) -> Self {
        let all = work
            .users
            .saturating_mul(work.calls_per_user)
            .saturating_mul(work.days);
        let missed = share(all, 1.0 - work.cache_hit_rate);
        Self {
            before: month(all, work, price, 0.0),
            after: month(missed, work, price, work.prompt_cache_rate),
        }
    }

    /// What caching saves.
    #[must_use]
    pub fn saved(&self) -> PicoUsd {
        self.before.cost - self.after.cost
    }
}

fn month(calls: u64, work: &Workload, price: &Price, cached: f64) -> Month {
    let input = calls.saturating_mul(work.input_tokens);
    let output = calls.saturating_mul(work.output_tokens);
    let read = share(input, cached);
    let tokens = lyceum_core::Tokens;
    Month {
        calls,
        input_tokens: input,
        output_tokens: output,
        cost: price.input.times(tokens(input - read))
            + price.cache_read.times(tokens(read))
            + price.output.times(tokens(output)),
    }
}

fn share(of: u64, share: f64) -> u64 {
    ((of as f64 * share.clamp(0.0, 1.0)).round() as u64).min(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PriceTable;

    #[test]
    fn a_month_of_the_example_price() {
        let price = PriceTable::built_in().price("claude-sonnet-4-5").unwrap();
        let work = Workload {
            users: 500,
            calls_per_user: 8,
            days: 30,
            input_tokens: 2_000,
            output_tokens: 500,
            cache_hit_rate: 0.4,
            prompt_cache_rate: 0.5,
        };
        let month = MonthlyEstimate::new(&work, &price);
        assert_eq!(month.before.calls, 120_000);
        assert_eq!(month.before.cost.to_string(), "$1620.00");
        assert_eq!(month.after.calls, 72_000);
        // 72 M × $3 + 72 M × $0.30 + 36 M × $15, per million
        assert_eq!(month.after.cost.to_string(), "$777.60");
        assert_eq!(month.saved().to_string(), "$842.40");
    }
}
