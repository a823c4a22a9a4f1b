//! What a loop may spend.
//!
//! Invariant: a limit is looked at before a call, so the call that crosses it is the last
//! but one: the model then answers from what it has. Money is counted in whole millionths
//! of a dollar and rounded up. Deliberately absent: what models cost, which the caller knows.

use lyceum_core::{MicroUsd, Tokens, Usage};

/// What a loop may spend.
#[derive(Debug, Clone, Copy)]
pub struct ReActLimits {
    /// Model calls, the last of which may call no tool and so must answer. Default 4.
    pub max_steps: usize,
    /// Input and output tokens of all calls together. Default 60,000.
    pub max_tokens: Tokens,
    /// Output tokens of one call, silent reasoning included. Default 4,000.
    pub max_output: Tokens,
    /// Money for all calls together. Default: as much as it takes.
    pub max_cost: Option<MaxCost>,
}

/// A sum of money and what it buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxCost {
    /// All calls together.
    pub total: MicroUsd,
    /// What the model's tokens cost.
    pub rates: TokenRates,
}

/// What a million tokens of a model cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenRates {
    /// Input that no cache holds.
    pub input: MicroUsd,
    /// Output, reasoning included.
    pub output: MicroUsd,
    /// Input read from the provider's prompt cache.
    pub cached_input: MicroUsd,
    /// Input written to the provider's prompt cache.
    pub cache_write: MicroUsd,
}

impl TokenRates {
    /// What calls cost, rounded up to a millionth of a dollar.
    ///
    /// ```
    /// use lyceum_agents::TokenRates;
    /// use lyceum_core::{MicroUsd, Tokens, Usage};
    ///
    /// let rates = TokenRates { input: MicroUsd(3_000_000), output: MicroUsd(15_000_000), ..TokenRates::default() };
    /// let usage = Usage { input: Tokens(1_000), output: Tokens(100), ..Usage::default() };
    /// assert_eq!(rates.cost(&usage), MicroUsd(4_500));
    /// ```
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> MicroUsd {
        let plain = usage.input - usage.cached_input - usage.cache_write;
        let parts = [
            (self.input, plain),
            (self.output, usage.output),
            (self.cached_input, usage.cached_input),
            (self.cache_write, usage.cache_write),
        ];
        let parts = parts.map(|(rate, tokens)| u128::from(rate.0) * u128::from(tokens.0));
        let cost = parts.iter().sum::<u128>().div_ceil(1_000_000);
        MicroUsd(u64::try_from(cost).unwrap_or(u64::MAX))
    }
}

impl Default for ReActLimits {
    fn default() -> Self {
        Self {
            max_steps: 4,
            max_tokens: Tokens(60_000),
            max_output: Tokens(4_000),
            max_cost: None,
        }
    }
}

impl ReActLimits {
    /// Whether the call of a step, counted from 1, is the last; `usage` is of those before.
    pub(super) fn is_last(&self, step: usize, usage: &Usage) -> bool {
        let is_spent = |most: MaxCost| most.rates.cost(usage) >= most.total;
        step >= self.max_steps
            || usage.total() >= self.max_tokens
            || self.max_cost.is_some_and(is_spent)
    }
}
