//! Seeded numbers that depend on the request's place in the order of arrival alone.
//!
//! Invariant: the same seed, request and purpose give the same number, whatever else
//! happens at the same time. Deliberately absent: a generator with state, which would
//! make one request's numbers depend on another's.

/// What a number is for, so that two decisions about one request are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Fault,
    FirstToken,
    PerToken(u32),
    Length,
    ToolUse,
    Identity,
}

impl Purpose {
    fn salt(self) -> u64 {
        match self {
            Self::Fault => 1,
            Self::FirstToken => 2,
            Self::Length => 3,
            Self::ToolUse => 4,
            Self::Identity => 5,
            Self::PerToken(token) => (1 << 32) | u64::from(token),
        }
    }
}

/// Sixty-four well mixed bits.
pub(crate) fn bits(seed: u64, request: u64, purpose: Purpose) -> u64 {
    mix(mix(mix(seed) ^ request) ^ purpose.salt())
}

/// A number in `[0, 1)`.
pub(crate) fn unit(seed: u64, request: u64, purpose: Purpose) -> f64 {
    to_unit(bits(seed, request, purpose))
}

/// A number of the standard normal distribution (Box-Muller transform).
pub(crate) fn normal(seed: u64, request: u64, purpose: Purpose) -> f64 {
    let first = bits(seed, request, purpose);
    let radius = (-2.0 * (1.0 - to_unit(first)).ln()).sqrt();
    radius * (std::f64::consts::TAU * to_unit(mix(first))).cos()
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", OOPSLA 2014).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "53 bits fit a double's mantissa exactly"
)]
fn to_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_numbers_have_mean_zero_and_deviation_one() {
        let sample: Vec<f64> = (0..20_000)
            .map(|request| normal(7, request, Purpose::FirstToken))
            .collect();
        let mean = sample.iter().sum::<f64>() / 20_000.0;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }

    #[test]
    fn purposes_and_requests_are_independent_and_repeatable() {
        assert_eq!(bits(1, 2, Purpose::Fault), bits(1, 2, Purpose::Fault));
        assert_ne!(bits(1, 2, Purpose::Fault), bits(1, 2, Purpose::Length));
        assert_ne!(bits(1, 2, Purpose::Fault), bits(1, 3, Purpose::Fault));
        assert_ne!(bits(1, 2, Purpose::Fault), bits(2, 2, Purpose::Fault));
    }
}
