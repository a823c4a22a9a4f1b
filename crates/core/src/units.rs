//! Units as types, so that a count of tokens is never added to a sum of money.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
};

use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        /// Saturates at zero.
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
                items.fold(Self::default(), Add::add)
            }
        }
    };
}

unit!(
    /// A number of model tokens.
    Tokens
);
unit!(
    /// Money in millionths of a US dollar.
    MicroUsd
);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0)
    }
}

impl fmt::Display for MicroUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// What one model call consumed, as the provider counted it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, cached ones included.
    pub input: Tokens,
    /// All output tokens, reasoning included.
    pub output: Tokens,
    /// The part of `input` that was read from the provider's prompt cache.
    pub cached_input: Tokens,
    /// The part of `input` that was written to the provider's prompt cache.
    pub cache_write: Tokens,
}

impl Usage {
    /// Input and output together.
    #[must_use]
    pub fn total(&self) -> Tokens {
        self.input + self.output
    }
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            input: self.input + other.input,
            output: self.output + other.output,
            cached_input: self.cached_input + other.cached_input,
            cache_write: self.cache_write + other.cache_write,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Tokens(1) - Tokens(2), Tokens(0));
        assert_eq!(Tokens(u64::MAX) + Tokens(1), Tokens(u64::MAX));
    }

    #[test]
    fn money_prints_exactly() {
        assert_eq!(MicroUsd(1_250_003).to_string(), "$1.250003");
    }
}
