//! The parts behind the gateway, as its operator view shows them.

use std::time::Duration;

use lyceum_gateway::{BandPart, BreakerPart, CostPart, Operator, Parts, QueuePart, QuotaPart};
use lyceum_llm::{Circuit, Ledger};
use lyceum_queue::{BreakerState, Queue};

use crate::models::Watch;

/// The bands of a queue, in its order.
const BANDS: [&str; 3] = ["high", "normal", "low"];

/// Reads the queues, the breakers and the ledger.
#[derive(Debug)]
pub(crate) struct View {
    pub watch: Watch,
    pub ledger: Ledger,
}

impl Operator for View {
    fn parts(&self) -> Parts {
        let today = self.ledger.today();
        let circuits = &self.watch.circuits;
        // Each endpoint has a queue and a breaker, in one order.
        let names = circuits.iter().map(Circuit::name);
        Parts {
            queues: names.zip(&self.watch.queues).map(queue).collect(),
            breakers: circuits.iter().map(breaker).collect(),
            costs: CostPart {
                today_usd: Some(today.spent.dollars()),
                held_usd: Some(today.held.dollars()),
            },
        }
    }
}

fn breaker(circuit: &Circuit) -> BreakerPart {
    BreakerPart {
        name: circuit.name().to_owned(),
        state: match circuit.state() {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        },
    }
}

fn queue((name, queue): (&str, &Queue)) -> QueuePart {
    let now = queue.snapshot();
    let bands = BANDS.iter().zip(now.waiting_by_band);
    let bands = bands.zip(now.oldest_by_band);
    let quotas = [
        ("requests", now.requests),
        ("tokens", now.tokens),
        ("input_tokens", now.input_tokens),
        ("output_tokens", now.output_tokens),
    ];
    let quotas = quotas.into_iter().filter_map(|(kind, quota)| {
        let quota = quota?;
        Some(QuotaPart {
            kind,
            limit: quota.limit,
            used: quota.used,
        })
    });
    QueuePart {
        name: name.to_owned(),
        waiting: now.waiting,
        running: now.running,
        concurrency: now.concurrency,
        bands: bands
            .map(|((priority, waiting), oldest)| BandPart {
                priority,
                waiting,
                oldest_ms: oldest.map(millis),
            })
            .collect(),
        quotas: quotas.collect(),
        share: now.share,
        paused_ms: now.paused.map(millis),
        shared: queue.shared_status().map(|status| status.linked),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
