//! Exact money.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Sub},
    str::FromStr,
};

use lyceum_core::{MicroUsd, Tokens};
use serde::{Deserialize, Serialize};

/// Money in millionths of a millionth of a US dollar, up to 18 million dollars; sums
/// saturate. A price of so many millionths of a dollar per million tokens is the same
/// number of these per token, so the cost of a call is exact.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PicoUsd(pub u64);

/// How many make a dollar.
const DOLLAR: u64 = 1_000_000_000_000;
const DIGITS: usize = 12;

/// A text is not an amount of dollars such as `0.075`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read an amount of dollars: digits and at most {digits} of them after the point")]
#[non_exhaustive]
pub struct MoneyError {
    digits: usize,
}

impl PicoUsd {
    /// The price of one token, from a price in dollars per million tokens.
    ///
    /// # Errors
    ///
    /// [`MoneyError`] when it is not a decimal number with at most six digits after the point.
    pub fn per_token(dollars_per_million: &str) -> Result<Self, MoneyError> {
        parse(dollars_per_million, 6)
    }

    /// The cost of so many tokens at this price for one.
    #[must_use]
    pub fn times(self, tokens: Tokens) -> Self {
        Self(self.0.saturating_mul(tokens.0))
    }

    /// In millionths of a dollar, rounded up: a cost is never said to be less than it is.
    #[must_use]
    pub fn to_micro(self) -> MicroUsd {
        MicroUsd(self.0.div_ceil(1_000_000))
    }

    /// In dollars, for display and metrics.
    #[must_use]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / DOLLAR as f64
    }
}

impl From<MicroUsd> for PicoUsd {
    fn from(micro: MicroUsd) -> Self {
        Self(micro.0.saturating_mul(1_000_000))
    }
}

impl FromStr for PicoUsd {
    type Err = MoneyError;

    /// Reads an amount of dollars such as `12.50`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        parse(text, DIGITS)
    }
}

impl fmt::Display for PicoUsd {
    /// All digits that are not zero, at least two after the point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:012}", self.0 % DOLLAR);
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "${}.{}", self.0 / DOLLAR, &fraction[..kept])
    }
}

impl Add for PicoUsd {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for PicoUsd {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Saturates at zero.
impl Sub for PicoUsd {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for PicoUsd {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), Add::add)
    }
}

/// Reads a decimal number as a whole number of its `digits`-th places.
fn parse(text: &str, digits: usize) -> Result<PicoUsd, MoneyError> {
    let wrong = || MoneyError { digits };
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > digits || !is_number(whole) || !is_number(fraction) {
        return Err(wrong());
    }
    let unit = 10_u64.pow(u32::try_from(digits).map_err(|_| wrong())?);
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let fraction: u64 = format!("{fraction:0<digits$}")
        .parse()
        .map_err(|_| wrong())?;
    let sum = whole
        .checked_mul(unit)
        .and_then(|whole| whole.checked_add(fraction));
    sum.map(PicoUsd).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_and_amounts_are_read_exactly() {
        assert_eq!(PicoUsd::per_token("0.30"), Ok(PicoUsd(300_000)));
        assert_eq!(PicoUsd::per_token("15"), Ok(PicoUsd(15_000_000)));
        assert_eq!(PicoUsd::per_token("0.000001"), Ok(PicoUsd(1)));
        assert_eq!("12.5".parse(), Ok(PicoUsd(12_500_000_000_000)));
        for wrong in [
            "",
            ".5",
            "-1",
            "1e3",
            "0.0000001",
            "1.2.3",
            "99999999999999",
        ] {
            assert!(PicoUsd::per_token(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn amounts_are_printed_exactly() {
        assert_eq!(PicoUsd(300_000).to_string(), "$0.0000003");
        assert_eq!(PicoUsd(2 * DOLLAR).to_string(), "$2.00");
        assert_eq!(PicoUsd(1).to_micro(), MicroUsd(1));
    }
}
