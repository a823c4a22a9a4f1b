//! What a decision costs and a waiting call weighs, from a thousand to a million of them.
//! Prints a line of JSON each.
//!
//! `cargo run --release -p lyceum-queue --example scaling`
#![expect(clippy::print_stdout, reason = "it is what this program is for")]

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use lyceum_core::{IdError, Scope, SessionId, TenantId, Usage};
use lyceum_queue::{
    Ask, Estimate, Queue, QueueConfig, Quotas, Waiter,
    simulation::{Backlog, Crowd, simulate},
};

/// The time this thread has spent on a processor, which a busy machine does not distort
/// as it does the wall's; the wall's where the system does not tell.
fn spent(origin: Instant) -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    nanos.map_or_else(|| origin.elapsed(), Duration::from_nanos)
}

/// Resident memory of this process in bytes, where the system tells.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}

/// Asks of 1,000 tenants with so many conversations in all.
fn asks(number: u64, conversations: u64) -> Result<Vec<Ask>, IdError> {
    let scopes: Vec<Scope> = (0..conversations)
        .map(|conversation| {
            let tenant = TenantId::new(format!("tenant-{}", conversation % 1_000))?;
            let session = SessionId::new(format!("session-{conversation}"))?;
            let scope = Scope {
                tenant,
                ..Scope::local()
            };
            Ok(scope.with_session(session))
        })
        .collect::<Result<_, IdError>>()?;
    let ask = |n: u64| {
        let scope = scopes[(n % conversations) as usize].clone();
        Ask::new(scope, Estimate::new(500 + n % 1_000, 300))
    };
    Ok((0..number).map(ask).collect())
}

fn decisions(waiters: u64, origin: Instant) -> Result<(), IdError> {
    let conversations = (waiters / 10).max(1);
    let mut backlog = Backlog::new(asks(waiters, conversations)?);
    let turns = 100_000;
    let more = asks(turns, conversations)?;
    let begun = spent(origin);
    for ask in more {
        black_box(backlog.turn(ask));
    }
    let turn = (spent(origin) - begun) / turns as u32;
    // The calls that were asked last are the ones that still wait.
    let begun = spent(origin);
    for call in 0..turns {
        black_box(backlog.position((turns + waiters - 1 - call * 7_919 % waiters) as usize));
    }
    let position = (spent(origin) - begun) / turns as u32;
    println!(
        "{{\"waiters\":{waiters},\"turn_ns\":{},\"position_ns\":{}}}",
        turn.as_nanos(),
        position.as_nanos()
    );
    Ok(())
}

async fn weight(waiters: u64, conversations: u64) -> Result<(), Box<dyn Error>> {
    let quotas = Quotas {
        concurrency: Some(1),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        capacity: usize::MAX,
        ..QueueConfig::default()
    });
    let asks = asks(waiters, conversations)?;
    let mut waiting: Vec<Waiter> = Vec::with_capacity(asks.len());
    let before = resident();
    for ask in &asks {
        waiting.push(queue.enqueue(ask.clone())?);
    }
    let bytes = resident().saturating_sub(before) / waiters;
    println!(
        "{{\"waiters\":{waiters},\"conversations\":{conversations},\"bytes_per_waiter\":{bytes}}}"
    );
    Ok(())
}

async fn uncontended(name: &str, quotas: Quotas, origin: Instant) -> Result<(), Box<dyn Error>> {
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let calls = 500_000;
    let asks = asks(calls, 100)?;
    let begun = spent(origin);
    for ask in asks {
        queue.enqueue(ask)?.await?.settle(Usage::default());
    }
    let each = (spent(origin) - begun) / calls as u32;
    println!(
        "{{\"uncontended\":\"{name}\",\"acquire_settle_ns\":{}}}",
        each.as_nanos()
    );
    Ok(())
}

fn users(origin: Instant) {
    let quotas = Quotas {
        requests: Some(100_000),
        ..Quotas::default()
    };
    let config = QueueConfig {
        quotas,
        ..QueueConfig::default()
    };
    let crowd = Crowd {
        conversations: 100_000,
        tenants: 1_000,
        calls_per_minute: 200_000.0,
        ..Crowd::default()
    };
    let begun = spent(origin);
    let report = simulate(config, &crowd, Duration::from_secs(600));
    println!(
        "{{\"users\":100000,\"virtual_s\":600,\"cpu_ms\":{},\"decisions\":{},\"violations\":{},\"quota_used\":{:.4}}}",
        (spent(origin) - begun).as_millis(),
        report.decisions,
        report.violations,
        report.quota_used
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let origin = Instant::now();
    weight(1_000_000, 100_000).await?;
    weight(1_000_000, 1_000_000).await?;
    for waiters in [1_000, 10_000, 100_000, 1_000_000] {
        decisions(waiters, origin)?;
    }
    uncontended("no quota", Quotas::default(), origin).await?;
    let all = Quotas {
        requests: Some(100_000_000),
        tokens: Some(1_000_000_000_000),
        input_tokens: Some(1_000_000_000_000),
        output_tokens: Some(1_000_000_000_000),
        concurrency: Some(1_000),
    };
    uncontended("all quotas", all, origin).await?;
    users(origin);
    Ok(())
}
