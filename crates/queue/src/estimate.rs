//! Learns how callers' estimates relate to what their calls really use.
//!
//! Per caller a smoothed mean and variance: of input as the ratio of real to estimated
//! tokens, of output in tokens. A corrected output estimate never exceeds a limit that the
//! caller gave. Where a caller has no experience and gave no limit, that of all counts.

use std::collections::HashMap;

use lyceum_core::AgentId;

use crate::{Estimate, smoothed::Moments};

/// The callers remembered; later ones share one entry.
const CALLERS: usize = 1024;
/// No answer is longer; vendors' longest are of 128,000 tokens.
const LONGEST: u64 = 1 << 18;
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
    /// The first one has the experience of all, and stands for those that came too late.
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
        let caller = self.experienced(id, given);
        let (input, guess) = (given.input.0, given.output.0);
        let most = if given.limited { guess } else { LONGEST };
        if caller.output.seen() < WARM {
            let unsure = if given.limited { 0 } else { guess };
            return Expected {
                input,
                output: guess,
                safe_output: guess,
                variance: unsure.saturating_mul(unsure),
            };
        }
        let margin = CONFIDENCE / f64::from(calls.max(1)).sqrt();
        let ratio = caller.input_ratio.above(margin).clamp(0.25, 4.0);
        let variance = caller.output.variance();
        let mean = caller.mean_output(guess as f64);
        let safe = mean + variance / mean.max(1.0) + margin * variance.sqrt();
        let output = |tokens: f64| (tokens.ceil() as u64).clamp(1, most.max(1)).min(most);
        Expected {
            input: (input as f64 * ratio).ceil() as u64,
            output: output(mean),
            safe_output: output(safe),
            variance: (variance as u64).min(most.saturating_mul(most)),
        }
    }

    /// Whose experience a call is judged by: its caller's, else that of all callers where a
    /// guess is all there is.
    fn experienced(&self, id: CallerId, given: Estimate) -> &Caller {
        let caller = &self.callers[usize::from(id.0)];
        if caller.output.seen() < WARM && !given.limited {
            return &self.callers[0];
        }
        caller
    }

    /// Whether nothing is known of how much a call will make.
    pub(crate) fn is_blind(&self, id: CallerId, given: Estimate) -> bool {
        !given.limited && self.experienced(id, given).output.seen() < WARM
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
        let ratio = input as f64 / given.input.0.max(1) as f64;
        let all = (id.0 != 0).then_some(0);
        for caller in all.into_iter().chain([usize::from(id.0)]) {
            let caller = &mut self.callers[caller];
            caller.input_ratio.learn(ratio);
            caller.output.learn(output as f64);
            caller.ended = caller.ended.saturating_add(1);
        }
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
    fn a_guess_is_no_limit() {
        let mut estimator = Estimator::new();
        let id = estimator.caller(AgentId::new("writer").unwrap(), "");
        let given = Estimate::unlimited(1_000, 1_000);
        assert!(estimator.is_blind(id, given));
        for _ in 0..50 {
            estimator.started(id);
            estimator.ended(id);
            estimator.learn(id, given, 1_000, 4_000);
        }
        assert!((3_900..4_100).contains(&estimator.expect(id, given, 4).output));
        let other = estimator.caller(AgentId::new("editor").unwrap(), "");
        assert!((3_900..4_100).contains(&estimator.expect(other, given, 4).output));
        assert!(!estimator.is_blind(other, given));
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
