//! What each model costs, as data.

use std::collections::BTreeMap;

use lyceum_core::Usage;
use lyceum_queue::Estimate;
use serde::Deserialize;

use super::{MoneyError, PicoUsd};

/// The prices of one token of a model; by default it costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Price {
    /// Input that no cache holds.
    pub input: PicoUsd,
    /// Output, reasoning included.
    pub output: PicoUsd,
    /// Input read from the provider's prompt cache.
    pub cache_read: PicoUsd,
    /// Input written to the provider's prompt cache.
    pub cache_write: PicoUsd,
}

impl Price {
    /// What a call cost, exactly.
    ///
    /// ```
    /// use lyceum_core::{Tokens, Usage};
    /// use lyceum_llm::PriceTable;
    ///
    /// let price = PriceTable::built_in().price("claude-sonnet-4-5").unwrap();
    /// let usage = Usage {
    ///     input: Tokens(10_000), output: Tokens(500), cached_input: Tokens(8_000), cache_write: Tokens(1_000),
    /// };
    /// // 1,000 × $3 + 8,000 × $0.30 + 1,000 × $3.75 + 500 × $15, per million
    /// assert_eq!(price.cost(&usage).to_string(), "$0.01665");
    /// ```
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> PicoUsd {
        let plain = usage.input - usage.cached_input - usage.cache_write;
        self.input.times(plain)
            + self.cache_read.times(usage.cached_input)
            + self.cache_write.times(usage.cache_write)
            + self.output.times(usage.output)
    }

    /// The most that a call of this estimate may cost: no input comes from a cache, half
    /// as much again is read as was estimated, and the whole output is used.
    #[must_use]
    pub fn at_most(&self, estimate: &Estimate) -> PicoUsd {
        let input = lyceum_core::Tokens(estimate.input.0.saturating_mul(3).div_ceil(2));
        let dearest = self.input.max(self.cache_write).max(self.cache_read);
        dearest.times(input) + self.output.times(estimate.output)
    }
}

/// The prices of many models.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PriceTable {
    valid: String,
    models: BTreeMap<String, Price>,
}

/// Why a file of prices cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// It is not TOML of this form.
    #[error("read the prices")]
    Form(#[from] toml::de::Error),
    /// A price is not a decimal number with at most six digits after the point.
    #[error("read the price of {model}")]
    Price {
        /// The model's name.
        model: String,
        /// What is wrong.
        source: MoneyError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    #[serde(default)]
    valid: String,
    models: BTreeMap<String, RawPrice>,
}

/// Dollars per million tokens, as texts: a fraction in TOML is not exact.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrice {
    input: String,
    output: String,
    cache_read: Option<String>,
    cache_write: Option<String>,
}

impl PriceTable {
    /// The prices that are compiled in.
    #[must_use]
    pub fn built_in() -> Self {
        // A test reads the same file, so that it is never empty here.
        Self::parse(include_str!("prices.toml")).unwrap_or_default()
    }

    /// Reads a file of the same form as the one compiled in: dollars per million tokens as
    /// texts, e.g. `"my-model" = { input = "0.30", output = "1.20", cache_read = "0.03" }`
    /// under `[models]`.
    ///
    /// # Errors
    ///
    /// [`PriceError`] when the form or a price is wrong.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let raw: RawTable = toml::from_str(text)?;
        let mut models = BTreeMap::new();
        for (model, price) in raw.models {
            let wrong = |source| PriceError::Price {
                model: model.clone(),
                source,
            };
            let input = PicoUsd::per_token(&price.input).map_err(wrong)?;
            let or_input = |text: &Option<String>| match text {
                Some(text) => PicoUsd::per_token(text).map_err(wrong),
                None => Ok(input),
            };
            let price = Price {
                input,
                output: PicoUsd::per_token(&price.output).map_err(wrong)?,
                cache_read: or_input(&price.cache_read)?,
                cache_write: or_input(&price.cache_write)?,
            };
            models.insert(model, price);
        }
        Ok(Self {
            valid: raw.valid,
            models,
        })
    }

    /// The same with another table's entries in place of its own.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.models.extend(other.models);
        self
    }

    /// When the prices were collected, as a date; empty where the file does not say.
    #[must_use]
    pub fn valid(&self) -> &str {
        &self.valid
    }

    /// The price of a model: by its name, or by its name without the date or `latest`
    /// after it.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<Price> {
        if let Some(price) = self.models.get(model) {
            return Some(*price);
        }
        let is_version = |rest: &str| {
            let digits = |c: char| c.is_ascii_digit() || c == '-';
            rest == "latest" || (rest.len() >= 4 && rest.chars().all(digits))
        };
        model
            .match_indices(['-', '@', ':'])
            .filter(|(at, _)| is_version(&model[at + 1..]))
            .find_map(|(at, _)| self.models.get(&model[..at]).copied())
    }

    /// Every model with its price, by name.
    pub fn models(&self) -> impl Iterator<Item = (&str, &Price)> {
        self.models
            .iter()
            .map(|(name, price)| (name.as_str(), price))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_table_is_whole_and_no_price_is_a_slip() {
        let table = PriceTable::parse(include_str!("prices.toml")).unwrap();
        assert!(table.models().count() >= 60);
        assert_eq!(table.valid().len(), "2026-11-23".len());
        let cent = PicoUsd::per_token("0.01").unwrap();
        let hundred = PicoUsd::per_token("100").unwrap();
        for (name, price) in table.models() {
            assert!(price.input >= cent && price.output <= hundred, "{name}");
            // An embedding model has no output.
            let embeds = price.output == PicoUsd::default();
            assert!(embeds || price.input <= price.output, "{name}");
            assert!(price.cache_read <= price.input, "{name}");
            assert!(price.cache_write >= price.input, "{name}");
        }
    }

    #[test]
    fn dated_names_are_found_and_other_models_are_not() {
        let table = PriceTable::built_in();
        let of = |name| table.price(name);
        assert_eq!(of("gpt-5-2025-08-07"), of("gpt-5"));
        assert_eq!(of("claude-haiku-4-5-20251001"), of("claude-haiku-4-5"));
        assert_eq!(of("qwen-plus-latest"), of("qwen-plus"));
        assert_eq!(
            of("doubao-seed-2-1-lite-260215"),
            of("doubao-seed-2-1-lite")
        );
        for unknown in ["gpt-5-pro", "gpt", "gpt-5.1-codex-max", "", "llama3.2:3b"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_file_overrides_single_models() {
        let own = "[models]\n\"gpt-5\" = { input = \"0.5\", output = \"1\" }\n";
        let table = PriceTable::built_in().with(PriceTable::parse(own).unwrap());
        let price = table.price("gpt-5").unwrap();
        assert_eq!(price.cache_read, price.input);
        assert!(table.price("gpt-5.1").is_some());
        let wrong = "[models]\n\"m\" = { input = \"a lot\", output = \"1\" }\n";
        let error = PriceTable::parse(wrong).unwrap_err();
        assert!(error.to_string().contains("the price of m"), "{error}");
    }
}
