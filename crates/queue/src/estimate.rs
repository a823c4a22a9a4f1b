//! Learns how callers' estimates relate to what their calls really use.
//!
//! Per caller a smoothed mean and deviation: of input as the ratio of real to estimated
//! tokens, of output in tokens. A corrected output estimate never exceeds what the
//! caller gave as the most.

use std::collections::HashMap;

use lyceum_core::{AgentId, Tokens};

use crate::{Estimate, smoothed::Smoothed};

/// The callers remembered; later ones share one entry.
const CALLERS: usize = 1024;
/// Calls seen before a correction is trusted.
const WARM: u32 = 8;
/// Deviations that the sum of all running calls may be above its mean.
const CONFIDENCE: f64 = 4.0;

#[derive(Debug, Clone, Copy, Default)]
struct Caller {
    input_ratio: Smoothed,
    output: Smoothed,
}

/// Who estimates: an agent and the kind of its call.
pub(crate) type CallerKey = (AgentId, &'static str);

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Estimator {
    callers: HashMap<CallerKey, Caller>,
    others: Caller,
}

impl Estimator {
    /// The estimate that experience suggests in place of the caller's own.
    ///
    /// Quotas bound the sum of all calls. Of `calls` that vary independently the sum varies
    /// by the root of their number only, so each needs that much less of a margin.
    pub(crate) fn correct(&self, key: &CallerKey, given: Estimate, calls: u32) -> Estimate {
        let caller = match self.callers.get(key) {
            Some(caller) => caller,
            None if self.callers.len() >= CALLERS => &self.others,
            None => return given,
        };
        if caller.output.seen() < WARM {
            return given;
        }
        let margin = CONFIDENCE / f64::from(calls.max(1)).sqrt();
        let ratio = caller.input_ratio.above(margin).clamp(0.25, 4.0);
        let output = caller.output.running(margin).ceil() as u64;
        Estimate {
            input: Tokens((given.input.0 as f64 * ratio).ceil() as u64),
            output: given.output.min(Tokens(output.max(1))),
        }
    }

    /// Learns from a call that was given as `given` and used `input` and `output` tokens.
    pub(crate) fn learn(&mut self, key: &CallerKey, given: Estimate, input: u64, output: u64) {
        let caller = if let Some(known) = self.callers.get_mut(key) {
            known
        } else if self.callers.len() < CALLERS {
            self.callers.entry(key.clone()).or_default()
        } else {
            &mut self.others
        };
        let ratio = input as f64 / given.input.0.max(1) as f64;
        caller.input_ratio.learn(ratio);
        caller.output.learn(output as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_approach_the_real_use() {
        let mut estimator = Estimator::default();
        let key = (AgentId::new("feynman").unwrap(), "gaps");
        let given = Estimate::new(1_000, 4_096);
        assert_eq!(estimator.correct(&key, given, 4), given);
        for i in 0..200 {
            estimator.learn(&key, given, 1_200, 280 + i % 40);
        }
        let corrected = estimator.correct(&key, given, 4);
        assert!((1_200..1_260).contains(&corrected.input.0), "{corrected:?}");
        assert!((300..340).contains(&corrected.output.0), "{corrected:?}");
        let short = estimator.correct(&key, Estimate::new(1_000, 50), 1);
        assert_eq!(short.output, Tokens(50), "the caller's own limit holds");
    }
}
