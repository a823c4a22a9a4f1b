//! The queue alone around a plain HTTP client: no model layer, no framework.
//!
//! ```console
//! cargo run -p lyceum-examples --example queue_reqwest
//! ```
//!
//! The upstream allows eight requests a minute and two at once, and answers 429 to anything
//! beyond. Ten callers ask at the same time; those whose patience would end before their turn
//! are told at once, all others are served, and the upstream refuses nobody.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::future::join_all;
use lyceum_core::{Scope, Tokens, Usage};
use lyceum_queue::{Ask, Estimate, Queue, QueueConfig, Quotas, Refused};
use lyceum_sim::{SimConfig, Simulator, Spread, quota};
use serde_json::{Value, json};

const REQUESTS: u64 = 8;

/// One call with reqwest alone: a status, and what the answer says that it used.
async fn post(client: &reqwest::Client, url: &str, text: &str) -> anyhow::Result<(u16, Usage)> {
    let body = json!({"model": "any", "messages": [{"role": "user", "content": text}]});
    let answer = client.post(url).json(&body).send().await?;
    let status = answer.status().as_u16();
    let answer: Value = answer.json().await?;
    let count = |name: &str| Tokens(answer["usage"][name].as_u64().unwrap_or(0));
    let usage = Usage {
        input: count("prompt_tokens"),
        output: count("completion_tokens"),
        ..Usage::default()
    };
    Ok((status, usage))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let upstream = Simulator::start(SimConfig {
        first_token: Spread::Fixed(Duration::from_millis(50)),
        quotas: quota::Quotas {
            requests: Some(REQUESTS),
            ..quota::Quotas::default()
        },
        ..SimConfig::default()
    })
    .await?;
    let url = format!("{}/v1/chat/completions", upstream.url());
    let client = reqwest::Client::new();

    // What the upstream allows. All of a minute may go at once here; the default spreads it.
    let queue = Queue::new(QueueConfig {
        quotas: Quotas {
            requests: Some(REQUESTS),
            concurrency: Some(2),
            ..Quotas::default()
        },
        burst: 1.0,
        ..QueueConfig::default()
    });

    let callers = (1..=REQUESTS + 2).map(|number| {
        let (queue, client, url) = (&queue, &client, &url);
        async move {
            let mut ask = Ask::new(Scope::local(), Estimate::new(20, 100));
            ask.deadline = Some(Instant::now() + Duration::from_secs(10));
            let waiter = match queue.enqueue(ask) {
                Ok(waiter) => waiter,
                Err(refused @ Refused::Deadline { .. }) => {
                    println!("caller {number:>2}: {refused}");
                    return Ok(None);
                }
                Err(refused) => return Err(refused.into()),
            };
            let reservation = match waiter.await {
                Ok(reservation) => reservation,
                Err(late) => {
                    println!("caller {number:>2}: could not {late}");
                    return Ok(None);
                }
            };
            let waited = reservation.waited();
            // An error drops the reservation: what may have been used stays counted.
            let (status, usage) = post(client, url, "Why is the sky blue?").await?;
            match status {
                200 => reservation.settle(usage),
                429 => queue.throttled(None),
                _ => reservation.rejected(),
            }
            println!("caller {number:>2}: {status} after waiting {waited:.0?}");
            anyhow::Ok(Some(status))
        }
    });
    let outcomes: Vec<Option<u16>> = join_all(callers)
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;

    let served = outcomes.iter().filter(|status| **status == Some(200));
    assert_eq!(served.count() as u64, REQUESTS, "the quota is used");
    assert!(!outcomes.contains(&Some(429)), "and nobody is refused");
    let requests = queue.snapshot().requests.context("a quota")?;
    println!(
        "used {} of {} requests a minute",
        requests.used, requests.limit
    );
    Ok(())
}
