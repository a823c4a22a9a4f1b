//! Admission around a plain function: quotas, two tenants that share them, places in line.
//!
//! ```console
//! cargo run -p lyceum-examples --example queue
//! ```
//!
//! The queue sends nothing itself. A call asks for its turn, makes the call in whatever way
//! it likes, and says what it used.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{cell::RefCell, time::Duration};

use futures::future::try_join_all;
use lyceum_core::{Scope, TenantId, Tokens, Usage};
use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas};

/// Stands for any limited upstream.
async fn translate(text: &str) -> (String, Usage) {
    tokio::time::sleep(Duration::from_millis(50)).await;
    let usage = Usage {
        input: Tokens(40),
        output: Tokens(10),
        ..Usage::default()
    };
    (text.to_uppercase(), usage)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    // What the upstream allows: per minute, and at one time.
    let quotas = Quotas {
        requests: Some(600),
        tokens: Some(100_000),
        concurrency: Some(1),
        ..Quotas::default()
    };
    let queue = Queue::new(QueueConfig {
        quotas,
        ..QueueConfig::default()
    });
    let ask = |tenant: &TenantId, tokens| {
        let scope = Scope {
            tenant: tenant.clone(),
            ..Scope::local()
        };
        queue.enqueue(Ask::new(scope, Estimate::new(tokens, 20)))
    };

    // The greedy tenant comes first and asks four times, the modest one comes last.
    let (greedy, modest) = (TenantId::new("greedy")?, TenantId::new("modest")?);
    let mut waiting = Vec::new();
    for (tenant, text) in [
        (&greedy, "one"),
        (&greedy, "two"),
        (&greedy, "three"),
        (&greedy, "four"),
        (&modest, "me"),
    ] {
        waiting.push((tenant, text, ask(tenant, 40)?));
    }
    for (tenant, text, waiter) in &waiting {
        match waiter.position() {
            Some(place) => println!("{tenant:>6} {text:?} is number {} in line", place.position),
            None => println!("{tenant:>6} {text:?} may start"),
        }
    }

    // A waiter is a future of a reservation; dropping it would give the place up.
    let served = RefCell::new(Vec::new());
    try_join_all(waiting.into_iter().map(async |(tenant, text, waiter)| {
        let reservation = waiter.await?;
        let waited = reservation.waited();
        let (answer, usage) = translate(text).await;
        reservation.settle(usage); // what was set aside beyond this is given back
        println!("{tenant:>6} {answer:?} after waiting {waited:.0?}");
        served.borrow_mut().push(text);
        anyhow::Ok(())
    }))
    .await?;
    let served = served.into_inner();
    let turn = |text| served.iter().position(|other| *other == text);
    assert!(
        turn("me") < turn("three"),
        "a tenant's turn depends on what it used, not on who asked first"
    );

    let snapshot = queue.snapshot();
    println!("used: {:?} and {:?}", snapshot.requests, snapshot.tokens);
    assert_eq!(snapshot.requests.map(|quota| quota.used), Some(5));
    assert_eq!(snapshot.tokens.map(|quota| quota.used), Some(5 * 50));

    // What can never be sent is refused at once instead of waiting for ever.
    let Err(refused) = ask(&modest, 200_000) else {
        anyhow::bail!("a call above the quota was let in");
    };
    println!("refused to {refused}");
    assert!(!refused.is_retryable());
    Ok(())
}
