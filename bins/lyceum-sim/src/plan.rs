//! When and how the bytes of an answer leave, faults included.
//!
//! Pure: a plan is made at once and says everything; the body only follows it. Pauses
//! add up from the first byte on, so a late timer does not slow the answer down.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    SimConfig,
    fault::Fault,
    random::Purpose,
    wire::{Dialect, Events, Identity},
};

/// One step of sending an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Bytes that carry this many output tokens.
    Send(Bytes, u64),
    Pause(Duration),
    /// Nothing more, with the connection open.
    Hang,
    /// A TCP reset.
    Reset,
}

/// Between the last bytes and a reset, so that they leave first.
const FLUSH: Duration = Duration::from_millis(20);
/// Between two bytes of a trickle.
const TRICKLE: Duration = Duration::from_millis(10);

/// The plan of a streamed answer.
pub(crate) fn of_stream(
    events: Events,
    config: &SimConfig,
    request: u64,
    fault: Option<(Fault, Dialect, &Identity)>,
) -> Vec<Step> {
    let instant = config.per_token == crate::Spread::Fixed(Duration::ZERO);
    let Some((fault, dialect, identity)) = fault else {
        if instant {
            let (bytes, tokens) = events.whole();
            return vec![Step::Send(bytes, tokens)];
        }
        return paced(events, config, request);
    };
    let steps = paced(events, config, request);
    let half = steps.len() / 2;
    match fault {
        Fault::HangInBody => cut(steps, half, [Step::Hang]),
        Fault::Reset => cut(steps, half, [Step::Pause(FLUSH), Step::Reset]),
        Fault::Truncate => cut(steps, half, []),
        Fault::ErrorEvent => {
            let event = Step::Send(dialect.error_event(identity), 0);
            cut(steps, half, [event])
        }
        Fault::Malformed => malformed(steps, half),
        Fault::Trickle => trickle(steps),
        Fault::RateLimited | Fault::ServerError | Fault::Overloaded | Fault::HangBeforeHeaders => {
            steps
        }
    }
}

/// The plan of a whole answer with a fault; half of it is half of its bytes.
pub(crate) fn of_body(body: &Bytes, tokens: u64, fault: Fault) -> Vec<Step> {
    let half = body.len() / 2;
    let first = Step::Send(body.slice(..half), 0);
    match fault {
        Fault::HangInBody => vec![first, Step::Hang],
        Fault::Reset => vec![first, Step::Pause(FLUSH), Step::Reset],
        Fault::Truncate => vec![first],
        Fault::Malformed => vec![
            first,
            Step::Send(Bytes::from_static(b"\x00}{"), 0),
            Step::Send(body.slice(half..), tokens),
        ],
        Fault::Trickle => trickle(vec![Step::Send(body.clone(), tokens)]),
        Fault::RateLimited
        | Fault::ServerError
        | Fault::Overloaded
        | Fault::HangBeforeHeaders
        | Fault::ErrorEvent => vec![Step::Send(body.clone(), tokens)],
    }
}

/// A pause before every token but the first, whose time is the latency to it.
fn paced(events: Events, config: &SimConfig, request: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut tokens_before = 0_u32;
    for (bytes, tokens) in events.split() {
        for _ in 0..tokens {
            if tokens_before > 0 {
                let purpose = Purpose::PerToken(tokens_before);
                let pause = config.per_token.sample(config.seed, request, purpose);
                if !pause.is_zero() {
                    steps.push(Step::Pause(pause));
                }
            }
            tokens_before += 1;
        }
        steps.push(Step::Send(bytes, tokens));
    }
    steps
}

/// How long a whole answer takes after its first token.
pub(crate) fn generation_time(tokens: u64, config: &SimConfig, request: u64) -> Duration {
    if config.per_token == crate::Spread::Fixed(Duration::ZERO) {
        return Duration::ZERO;
    }
    (1..u32::try_from(tokens).unwrap_or(u32::MAX))
        .map(|token| {
            config
                .per_token
                .sample(config.seed, request, Purpose::PerToken(token))
        })
        .sum()
}

/// The first `keep` steps, then the end.
fn cut<const N: usize>(mut steps: Vec<Step>, keep: usize, end: [Step; N]) -> Vec<Step> {
    steps.truncate(keep);
    steps.extend(end);
    steps
}

/// An event whose JSON is broken off takes the place of the first one from `at` on.
fn malformed(mut steps: Vec<Step>, at: usize) -> Vec<Step> {
    let victim = steps.iter_mut().skip(at).find_map(|step| match step {
        Step::Send(bytes, _) => Some(bytes),
        _ => None,
    });
    if let Some(bytes) = victim {
        let mut broken = bytes[..bytes.len() * 2 / 3].to_vec();
        broken.extend_from_slice(b"\n\n");
        *bytes = broken.into();
    }
    steps
}

/// The same bytes one at a time.
fn trickle(steps: Vec<Step>) -> Vec<Step> {
    let mut slow = Vec::new();
    for step in steps {
        let Step::Send(mut bytes, tokens) = step else {
            slow.push(step);
            continue;
        };
        while bytes.len() > 1 {
            slow.push(Step::Send(bytes.split_to(1), 0));
            slow.push(Step::Pause(TRICKLE));
        }
        slow.push(Step::Send(bytes, tokens));
        slow.push(Step::Pause(TRICKLE));
    }
    slow
}
