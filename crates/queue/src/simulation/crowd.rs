//! The simulated callers: who calls when, for how much, and how patient they are.

use std::time::Duration;

use lyceum_core::{AgentId, Priority, Scope, SessionId, TenantId, Tokens, Usage, UserId};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{Ask, Estimate, OutputCounted};

/// Nanoseconds until an answer begins.
pub(super) const FIRST_TOKEN: u64 = 500_000_000;

/// Callers whose calls arrive at random (a Poisson process).
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// How many conversations call, at least 1.
    pub conversations: u32,
    /// How many tenants they belong to in turn, at least 1.
    pub tenants: u32,
    /// How many times as often as the others the first conversation calls.
    pub heavy: f64,
    /// Calls that arrive each minute, from all together.
    pub calls_per_minute: f64,
    /// The shares of calls in the high and in the low band, together at most 1.
    pub high_and_low: [f64; 2],
    /// The mean number of input tokens of a call, uniform from half to one and a half.
    pub input: u64,
    /// The mean number of output tokens, exponential, cut at `max_output`.
    pub output: u64,
    /// The most output tokens, as the callers declare them.
    pub max_output: u64,
    /// How long callers wait, by band (high, normal, low); `None` for ever.
    pub patience: [Option<Duration>; 3],
    /// The longest way to the upstream, and back from it, uniform from zero.
    pub way: Duration,
    /// Output tokens a second of a running call, which begins after half a second.
    pub speed: f64,
    /// Whether answers begin with what was left of the quotas when their calls arrived.
    pub headers: bool,
    /// Whether callers declare `max_output`; else they only guess `output`.
    pub limited: bool,
    /// How the upstream counts output; `None` is as the queue is told. What nobody knows
    /// is counted at the end.
    pub counted: Option<OutputCounted>,
    /// The seed of all randomness.
    pub seed: u64,
}

impl Default for Crowd {
    /// 500 conversations of a panel, one 20 times as busy.
    fn default() -> Self {
        Self {
            conversations: 500,
            tenants: 1,
            heavy: 20.0,
            calls_per_minute: 750.0,
            high_and_low: [0.125, 0.125],
            input: 1_200,
            output: 300,
            max_output: 1_024,
            patience: [
                Some(Duration::from_secs(30)),
                Some(Duration::from_secs(120)),
                Some(Duration::from_secs(600)),
            ],
            way: Duration::from_millis(400),
            speed: 80.0,
            headers: false,
            limited: true,
            counted: None,
            seed: 1,
        }
    }
}

/// One simulated call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) conversation: u32,
    pub(super) usage: Usage,
    /// The request's output limit.
    pub(super) declared: u64,
    pub(super) deadline: Option<u64>,
    /// Nanoseconds to the upstream.
    pub(super) way: u64,
    /// Nanoseconds at the upstream.
    pub(super) run: u64,
    /// Nanoseconds back from it.
    pub(super) back: u64,
    /// When it reached the upstream.
    pub(super) sent: u64,
    pub(super) forecast: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Source {
    crowd: Crowd,
    random: StdRng,
    scopes: Vec<Scope>,
}

impl Source {
    pub(super) fn new(crowd: &Crowd) -> Self {
        let random = StdRng::seed_from_u64(crowd.seed);
        let tenants = crowd.tenants.max(1);
        let scopes = (0..crowd.conversations.max(1))
            .filter_map(|number| scope(number % tenants, number))
            .collect();
        Self {
            crowd: crowd.clone(),
            random,
            scopes,
        }
    }

    /// Nanoseconds until the next arrival.
    pub(super) fn gap(&mut self) -> u64 {
        (self.exponential() * 60e9 / self.crowd.calls_per_minute) as u64
    }

    /// The call that arrives now.
    pub(super) fn call(&mut self, now: u64) -> (Call, Ask) {
        let conversation = self.conversation();
        let input = self.crowd.input as f64 * self.random.random_range(0.5..1.5);
        let output = self.crowd.output as f64 * self.exponential();
        let output = (output as u64).clamp(1, self.crowd.max_output);
        let longest = self.crowd.way.as_nanos() as f64;
        let way = longest * self.random.random::<f64>();
        let back = longest * self.random.random::<f64>();
        // Callers count their input to within a tenth.
        let counted = input * self.random.random_range(0.9..1.1);
        let (band, priority) = self.band();
        let patience = self.crowd.patience[band];
        let call = Call {
            conversation,
            usage: Usage {
                input: Tokens(input as u64),
                output: Tokens(output),
                ..Usage::default()
            },
            declared: if self.crowd.limited {
                self.crowd.max_output
            } else {
                output
            },
            deadline: patience.map(|patience| now + patience.as_nanos() as u64),
            way: way as u64,
            run: FIRST_TOKEN + (output as f64 / self.crowd.speed * 1e9) as u64,
            back: back as u64,
            sent: 0,
            forecast: None,
        };
        let estimate = match self.crowd.limited {
            true => Estimate::new(counted as u64, self.crowd.max_output),
            false => Estimate::unlimited(counted as u64, self.crowd.output),
        };
        let scope = self.scopes[conversation as usize].clone();
        let ask = Ask {
            priority,
            ..Ask::new(scope, estimate)
        };
        (call, ask)
    }

    fn conversation(&mut self) -> u32 {
        let others = f64::from(self.crowd.conversations.max(1) - 1);
        let drawn = self.random.random::<f64>() * (self.crowd.heavy + others);
        (drawn - self.crowd.heavy + 1.0).max(0.0) as u32 % self.crowd.conversations.max(1)
    }

    fn band(&mut self) -> (usize, Priority) {
        let [high, low] = self.crowd.high_and_low;
        let drawn = self.random.random::<f64>();
        if drawn < high {
            (0, Priority::High)
        } else if drawn < high + low {
            (2, Priority::Low)
        } else {
            (1, Priority::Normal)
        }
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.random.random::<f64>()).ln()
    }
}

/// Numbers are always valid identifiers, so no conversation is lost here.
pub(super) fn scope(tenant: u32, number: u32) -> Option<Scope> {
    Some(Scope {
        tenant: TenantId::new(tenant.to_string()).ok()?,
        user: UserId::new(number.to_string()).ok()?,
        agent: AgentId::new("simulated").ok()?,
        session: Some(SessionId::new(number.to_string()).ok()?),
    })
}
