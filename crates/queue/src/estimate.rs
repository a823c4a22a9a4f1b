//! Learns how callers' estimates relate to what their calls really use.
//!
//! Per caller a smoothed mean and variance: of input as the ratio of real to estimated
//! tokens, of output in tokens. A corrected output estimate never exceeds what the
//! caller gave as the most.

use std::collections::HashMap;

use lyceum_core::AgentId;

use crate::{Estimate, smoothed::Moments};

/// The callers remembered; later ones share one entry.
const CALLERS: usize = 1024;
/// Calls seen before a correction is trusted.
const WARM: u32 = 8;
/// Deviations that the sum of all running calls may be above its mean.
const CONFIDENCE: f64 = 3.2;

/// What a call will probably use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Input with its margin.
    pub(crate) input: u64,
    /// Output on average, without a margin.
    pub(crate) output: u64,
    /// Output with its margin.
    pub(crate) safe_output: u64,
    /// The variance of the output.
    pub(crate) variance: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Caller {
    input_ratio: Moments,
    output: Moments,
    /// Calls that run, and calls that ended.
    running: u32,
    ended: u32,
}

impl Caller {
    /// The mean output where calls without experience make `most`.
    ///
    /// At first short calls end and long ones run, so what ended says too little: those
    /// that run count as `most` until several times as many have ended.
    fn mean_output(&self, most: f64) -> f64 {
        let (running, ended) = (f64::from(self.running), f64::from(self.ended));
        let mean = self.output.above(0.0);
        if ended >= 8.0 * running {
            return mean;
        }
        let unknown = running * (-ended / running).exp();
        (mean * ended + most * unknown) / (ended + unknown)
    }
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

    /// What experience expects of a call in place of the caller's own estimate.
    ///
    /// Quotas bound the sum of all calls. Of `calls` that vary independently the sum varies
    /// by the root of their number only, so each needs that much less of a margin.
    pub(crate) fn expect(&self, id: CallerId, given: Estimate, calls: u32) -> Expected {
        let caller = &self.callers[usize::from(id.0)];
        let (input, most) = (given.input.0, given.output.0);
        if caller.output.seen() < WARM {
            return Expected {
                input,
                output: most,
                safe_output: most,
                variance: 0,
            };
        }
        let margin = CONFIDENCE / f64::from(calls.max(1)).sqrt();
        let ratio = caller.input_ratio.above(margin).clamp(0.25, 4.0);
        let variance = caller.output.variance();
        let mean = caller.mean_output(most as f64);
        let safe = mean + variance / mean.max(1.0) + margin * variance.sqrt();
        let output = |tokens: f64| (tokens.ceil() as u64).clamp(1, most.max(1)).min(most);
        Expected {
            input: (input as f64 * ratio).ceil() as u64,
            output: output(mean),
            safe_output: output(safe),
            variance: (variance as u64).min(most.saturating_mul(most)),
        }
    }

    /// A call starts.
    pub(crate) fn started(&mut self, id: CallerId) {
        self.callers[usize::from(id.0)].running += 1;
    }

    /// A call ends, however.
    pub(crate) fn ended(&mut self, id: CallerId) {
        let caller = &mut self.callers[usize::from(id.0)];
        caller.running = caller.running.saturating_sub(1);
    }

    /// Learns from a call that was given as `given` and used `input` and `output` tokens.
    pub(crate) fn learn(&mut self, id: CallerId, given: Estimate, input: u64, output: u64) {
        let caller = &mut self.callers[usize::from(id.0)];
        let ratio = input as f64 / given.input.0.max(1) as f64;
        caller.input_ratio.learn(ratio);
        caller.output.learn(output as f64);
        caller.ended = caller.ended.saturating_add(1);
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
        assert_eq!(estimator.expect(id, given, 4).output, 4_096);
        for i in 0..200 {
            estimator.learn(id, given, 1_200, 280 + i % 40);
        }
        let expected = estimator.expect(id, given, 4);
        assert!((1_200..1_260).contains(&expected.input), "{expected:?}");
        assert!((295..310).contains(&expected.output), "{expected:?}");
        assert!((300..340).contains(&expected.safe_output), "{expected:?}");
        let short = estimator.expect(id, Estimate::new(1_000, 50), 1);
        assert_eq!(short.safe_output, 50, "the caller's own limit holds");
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
