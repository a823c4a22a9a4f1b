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

/// Who estimates: a place among the callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallerId(u16);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Estimator {
    ids: HashMap<(AgentId, &'static str), CallerId>,
    /// The first one stands for all that came too late.
    callers: Vec<Caller>,
}

impl Estimator {
    pub(crate) fn new() -> Self {
        Self {
            ids: HashMap::new(),
            callers: vec![Caller::default()],
        }
    }

    /// Names a caller: an agent and the kind of its call.
    pub(crate) fn caller(&mut self, agent: AgentId, kind: &'static str) -> CallerId {
        let key = (agent, kind);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        if self.callers.len() > CALLERS {
            return CallerId(0);
        }
        let id = CallerId(self.callers.len() as u16);
        self.callers.push(Caller::default());
        self.ids.insert(key, id);
        id
    }

    /// The estimate that experience suggests in place of the caller's own.
    ///
    /// Quotas bound the sum of all calls. Of `calls` that vary independently the sum varies
    /// by the root of their number only, so each needs that much less of a margin.
    pub(crate) fn correct(&self, id: CallerId, given: Estimate, calls: u32) -> Estimate {
        let caller = &self.callers[usize::from(id.0)];
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
    pub(crate) fn learn(&mut self, id: CallerId, given: Estimate, input: u64, output: u64) {
        let caller = &mut self.callers[usize::from(id.0)];
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
        let mut estimator = Estimator::new();
        let id = estimator.caller(AgentId::new("feynman").unwrap(), "gaps");
        let given = Estimate::new(1_000, 4_096);
        assert_eq!(estimator.correct(id, given, 4), given);
        for i in 0..200 {
            estimator.learn(id, given, 1_200, 280 + i % 40);
        }
        let corrected = estimator.correct(id, given, 4);
        assert!((1_200..1_260).contains(&corrected.input.0), "{corrected:?}");
        assert!((300..340).contains(&corrected.output.0), "{corrected:?}");
        let short = estimator.correct(id, Estimate::new(1_000, 50), 1);
        assert_eq!(short.output, Tokens(50), "the caller's own limit holds");
    }

    #[test]
    fn callers_are_bounded() {
        let mut estimator = Estimator::new();
        for number in 0..2_000 {
            estimator.caller(AgentId::new(format!("agent-{number}")).unwrap(), "");
        }
        assert_eq!(estimator.ids.len(), CALLERS);
        let late = estimator.caller(AgentId::new("late").unwrap(), "");
        assert_eq!(late, CallerId(0));
    }
}
