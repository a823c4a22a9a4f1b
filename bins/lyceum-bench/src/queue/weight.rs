//! What a waiting call weighs, counted by the program `lyceum-bench-waiters`, which has
//! nothing else in its memory.
//!
//! It is all that the queue and the caller's [`Waiter`] hold, the identifiers aside, which
//! the caller has anyway.

use std::{env, process::Command};

use anyhow::{Context, Result, bail};
use lyceum_core::{IdError, Scope, SessionId, TenantId};
use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas, Waiter};

use crate::{
    Options,
    report::{Figures, say},
};

/// How many conversations a number of waiting calls has.
const SHAPES: [(&str, u64); 2] = [("own conversation", 1), ("ten to a conversation", 10)];

/// Starts the program once for each shape, so that none finds memory that another left.
pub(super) fn run(options: &Options) -> Result<()> {
    let waiters: u64 = if options.quick { 100_000 } else { 1_000_000 };
    for (name, calls) in SHAPES {
        if !options.wants(name) && !options.wants("weight") {
            continue;
        }
        say(&format!("weight of a waiting call, {name}"));
        let mut program = env::current_exe()?;
        program.set_file_name(format!("lyceum-bench-waiters{}", env::consts::EXE_SUFFIX));
        let status = Command::new(&program)
            .args([name, &waiters.to_string(), &(waiters / calls).to_string()])
            .status()
            .with_context(|| format!("start {}, which `--bins` builds", program.display()))?;
        if !status.success() {
            bail!("lyceum-bench-waiters ended with {status}");
        }
    }
    Ok(())
}

/// Lets so many calls wait and prints what each weighs by `heap`, the bytes allocated now,
/// and by `resident`, the bytes of memory in use now.
///
/// # Errors
///
/// When a call is refused or figures cannot be printed.
pub fn weigh(
    case: &str,
    waiters: u64,
    conversations: u64,
    heap: impl Fn() -> u64,
    resident: impl Fn() -> Result<u64>,
) -> Result<()> {
    let queue = Queue::new(QueueConfig {
        quotas: Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        },
        capacity: usize::MAX,
        ..QueueConfig::default()
    });
    let asks = asks(waiters, conversations)?;
    let (heap_before, resident_before) = (heap(), resident()?);
    let mut waiting: Vec<Waiter> = Vec::with_capacity(asks.len());
    for ask in &asks {
        waiting.push(queue.enqueue(ask.clone())?);
    }
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / waiters as f64;
    let case = format!("weight, {case}");
    let figures = Figures::of("queue");
    let allocated = each(heap(), heap_before);
    figures.print(&case, "allocated", allocated, "bytes", Some(512.0))?;
    let used = each(resident()?, resident_before);
    figures.print(&case, "resident", used, "bytes", Some(512.0))
}

/// Asks of 1,000 tenants with so many conversations in all.
///
/// # Errors
///
/// Never: the names are valid.
pub fn asks(number: u64, conversations: u64) -> Result<Vec<Ask>, IdError> {
    let tenants = (0..1_000)
        .map(|tenant| TenantId::new(format!("tenant-{tenant}")))
        .collect::<Result<Vec<_>, _>>()?;
    let local = Scope::local();
    let scopes = (0..conversations)
        .map(|conversation| {
            let tenant = tenants[(conversation % 1_000) as usize].clone();
            let session = SessionId::new(format!("session-{conversation}"))?;
            let scope = Scope {
                tenant,
                ..local.clone()
            };
            Ok(scope.with_session(session))
        })
        .collect::<Result<Vec<_>, IdError>>()?;
    let ask = |n: u64| {
        let scope = scopes[(n % conversations) as usize].clone();
        Ask::new(scope, Estimate::new(500 + n % 1_000, 300))
    };
    Ok((0..number).map(ask).collect())
}
