//! A request that was read: priced, admitted, answered or failed on purpose.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::{
    Shared,
    respond::{EVENT_STREAM, JSON, Reply, identify, identity, refusal, reply},
};
use crate::{
    answer::{self, Answer},
    ask::Ask,
    body::SimBody,
    call::{Call, ResetFlag},
    fault::{self, Fault},
    plan,
    quota::{Cost, Limit},
    random::Purpose,
    stats::add,
    wire::{Dialect, Identity, Problem, embeddings, limits},
};

/// What a 429 that the quota did not cause tells the client to wait.
const INJECTED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A request on its way to an answer.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    reset: ResetFlag,
    dialect: Dialect,
    /// The key of the meter of its API key and model.
    meter: u64,
    /// Its place in the order of arrival, from 1.
    number: u64,
    identity: Identity,
    /// The headers that report the limits.
    limits: HeaderMap,
}

impl Exchange {
    pub(super) fn new(shared: Arc<Shared>, reset: ResetFlag, dialect: Dialect, meter: u64) -> Self {
        let number = add(&shared.numbered, 1) + 1;
        Self {
            identity: identity(&shared, number),
            shared,
            reset,
            dialect,
            meter,
            number,
            limits: HeaderMap::new(),
        }
    }

    /// Answers a chat request.
    pub(super) async fn chat(mut self, ask: &Ask) -> Reply {
        // Made before admission, because its length is part of the price.
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let (answer, rule) = answer::compose(ask, config, &shared.script, self.number);
        let cost = Cost {
            input: ask.input_tokens,
            output: answer.tokens,
            max_output: ask.max_output,
        };
        let mut call = match self.admit(cost) {
            Ok(call) => call,
            Err(problem) => {
                shared.script.give_back(rule);
                return self.refuse(&problem);
            }
        };
        let fault = fault::decide(&config.faults, config.seed, self.number);
        if let Some(fault) = fault {
            shared.counters.fault(fault);
            if fault != Fault::Trickle {
                shared.script.give_back(rule);
            }
            if fault == Fault::HangBeforeHeaders {
                // Dropped, with the call, when the client leaves.
                std::future::pending::<()>().await;
            }
            if let Some(problem) = status_of(fault, ask.stream) {
                call.faulted();
                return self.refuse(&problem);
            }
            if matches!(fault, Fault::Reset | Fault::Truncate | Fault::ErrorEvent) {
                call.faulted();
            }
        }
        let first = config
            .first_token
            .sample(config.seed, self.number, Purpose::FirstToken);
        sleep(first).await;
        let reply = if ask.stream {
            self.stream(ask, &answer, call, fault)
        } else {
            sleep(plan::generation_time(answer.tokens, config, self.number)).await;
            self.whole(ask, &answer, call, fault)
        };
        self.dress(reply)
    }

    /// Answers a request for embeddings, which neither latency nor faults touch.
    pub(super) fn embed(mut self, texts: &embeddings::Texts) -> Reply {
        let cost = Cost {
            input: texts.input_tokens,
            ..Cost::default()
        };
        match self.admit(cost) {
            Ok(mut call) => {
                call.finish();
                self.dress(reply(StatusCode::OK, JSON, embeddings::body(texts).into()))
            }
            Err(problem) => self.refuse(&problem),
        }
    }

    fn admit(&mut self, cost: Cost) -> Result<Call, Problem> {
        let mut ticket = None;
        if self.shared.config.quotas.any() {
            // Tokio's clock, so that tests can pause it.
            let now = Instant::now().into_std();
            let (dialect, headers) = (self.dialect, &mut self.limits);
            let admission = self.shared.with_meter(self.meter, |meter| {
                let admission = meter.admit(now, cost);
                limits::add(headers, dialect, meter, now);
                admission
            });
            match admission {
                Ok(admitted) => ticket = Some((self.meter, admitted)),
                Err(refusal) => {
                    self.shared.counters.rate_limited(refusal.limit);
                    self.shared.changed.notify_waiters();
                    return Err(Problem::RateLimited {
                        limit: refusal.limit,
                        retry_after: refusal.retry_after,
                    });
                }
            }
        }
        add(&self.shared.counters.input_tokens, cost.input);
        let (shared, reset) = (Arc::clone(&self.shared), Arc::clone(&self.reset));
        Ok(Call::start(shared, ticket, reset))
    }

    fn stream(&self, ask: &Ask, answer: &Answer, call: Call, fault: Option<Fault>) -> Reply {
        let events = self.dialect.events(&self.identity, ask, answer);
        let fault = fault.map(|fault| (fault, self.dialect, &self.identity));
        let steps = plan::of_stream(events, &self.shared.config, self.number, fault);
        let body = SimBody::planned(steps, call, true);
        reply(StatusCode::OK, EVENT_STREAM, body)
    }

    fn whole(&self, ask: &Ask, answer: &Answer, mut call: Call, fault: Option<Fault>) -> Reply {
        let bytes = self.dialect.body(&self.identity, ask, answer);
        let body = match fault {
            Some(fault) => {
                SimBody::planned(plan::of_body(&bytes, answer.tokens, fault), call, false)
            }
            None => {
                call.sent(answer.tokens);
                call.finish();
                bytes.into()
            }
        };
        reply(StatusCode::OK, JSON, body)
    }

    fn refuse(self, problem: &Problem) -> Reply {
        let mut reply = refusal(self.dialect, &self.identity, problem);
        reply.headers_mut().extend(self.limits);
        reply
    }

    fn dress(self, mut reply: Reply) -> Reply {
        identify(&mut reply, self.dialect, &self.identity);
        reply.headers_mut().extend(self.limits);
        reply
    }
}

/// The refusal that a fault is, if it is one.
fn status_of(fault: Fault, stream: bool) -> Option<Problem> {
    match fault {
        Fault::RateLimited => Some(Problem::RateLimited {
            limit: Limit::Requests,
            retry_after: Some(INJECTED_RETRY_AFTER),
        }),
        Fault::ServerError => Some(Problem::ServerError),
        Fault::Overloaded => Some(Problem::Overloaded),
        Fault::ErrorEvent if !stream => Some(Problem::ServerError),
        _ => None,
    }
}

async fn sleep(length: Duration) {
    if !length.is_zero() {
        tokio::time::sleep(length).await;
    }
}
